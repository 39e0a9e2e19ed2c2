import Telemetry
import Testing

@Suite struct RunSummaryTests {
    private func run(_ steps: ClosedRange<Int>, of total: Int) -> RunSummary {
        var summary = RunSummary(program: "skein",
                                 arguments: ["configs/quickstart.toml", "--job.name", "my run"])
        for step in steps {
            var report = StepReport.example(step, of: total)
            report.loss = step == 5 ? 1.4401 : 5.5452 / Double(step)
            summary.add(report)
        }
        return summary
    }

    @Test func aFinishedRun() {
        var summary = run(1...2000, of: 2000)
        summary.add(ValidationReport(step: 1000, loss: 1.7))
        summary.add(ValidationReport(step: 2000, loss: 1.4713, bitsPerByte: 2.1226))
        summary.checkpoint = "outputs/my run/checkpoint/step-2000"
        #expect(summary.text(seconds: 245, tokens: 16_384_000) == """
            done        2,000 of 2,000 steps, in 4:05
            tokens      16,384,000, 66.9 k tokens/s
            loss        5.5452 to 0.0028 nats/token, best 0.0028 at step 2,000
            validation  2.123 bits/byte, loss 1.4713 nats/token
            checkpoint  outputs/my run/checkpoint/step-2000

              write     skein generate 'outputs/my run/checkpoint/step-2000' --prompt 'Once upon a time'
              look      skein inspect 'outputs/my run/checkpoint/step-2000'
              train on  skein train configs/quickstart.toml --job.name 'my run' --checkpoint.load latest \
            --training.steps 4000
            """)
    }

    @Test func aRunThatWasStoppedAfterResuming() {
        var summary = run(4...6, of: 2000)
        summary.arguments += ["--checkpoint.load", "latest"]
        summary.checkpoint = "c"
        #expect(summary.text(seconds: 0.5, tokens: 3) == """
            stopped     6 of 2,000 steps, from step 3, in 500 ms
            tokens      3, 6 tokens/s
            loss        1.3863 to 0.9242 nats/token, best 0.9242 at step 6
            checkpoint  c

              write     skein generate c --prompt 'Once upon a time'
              look      skein inspect c
              resume    skein train configs/quickstart.toml --job.name 'my run' --checkpoint.load latest
            """)
    }

    /// A schedule twice as long would lift a rate that has come down; the command that is offered keeps it.
    @Test func trainingOnAtTheLastRate() {
        var summary = RunSummary(program: "skein", arguments: ["c.toml", "--optimizer.lr", "0.01"])
        var report = StepReport.example(10, of: 10)
        report.learningRate = 3e-4
        summary.add(report)
        summary.checkpoint = "c"
        summary.memory = RunSummary.Memory(peak: 251_424_768, planned: 264_241_152)
        summary.decays = true
        let text = summary.text(seconds: 1, tokens: 9)
        #expect(text.hasSuffix("train on  skein train c.toml --checkpoint.load latest --training.steps 20 "
            + "--lr_scheduler.decay_type none --optimizer.lr 3.00e-04"))
        #expect(text.contains("memory      239.8 MiB at most, planned 252.0 MiB\n"))
        summary.decays = false
        #expect(summary.text(seconds: 1, tokens: 9).hasSuffix(
            "train on  skein train c.toml --optimizer.lr 0.01 --checkpoint.load latest --training.steps 20"))
    }

    @Test func nothingToShow() {
        #expect(RunSummary(program: "skein", arguments: []).text(seconds: 1, tokens: 0) == "no step was done")
        var summary = run(1...1, of: 1)
        var report = StepReport.example(1, of: 1)
        report.loss = .nan
        summary = RunSummary(program: "skein", arguments: [])
        summary.add(report)
        #expect(summary.text(seconds: 0, tokens: 9) == """
            done        1 of 1 steps, in 0 ms
            tokens      9
            loss        nan to nan nats/token, best nan at step 1
            checkpoint  none was written
            """)
    }

    @Test func wordsForTheShell() {
        for (word, quoted) in [("a-b_c/d.e=f:g,h+i@j%k", "a-b_c/d.e=f:g,h+i@j%k"), ("", "''"),
                               ("a b", "'a b'"), ("it's", "'it'\\''s'"), ("$x", "'$x'"), ("é", "'é'"),
                               ("a\nb", "'a\nb'")] {
            #expect(shellWord(word) == quoted)
        }
    }

    @Test func validationLine() {
        #expect(ValidationReport(step: 500, loss: 1.47125, bitsPerByte: 2.1226).line
            == "validation at step 500: loss 1.4713, 2.123 bits/byte")
        #expect(ValidationReport(step: 0, loss: 2).line == "validation at step 0: loss 2.0000")
    }
}
