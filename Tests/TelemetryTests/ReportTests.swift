import Base
import Foundation
import Telemetry
import Testing

@Suite struct ReportTests {
    private static let config = """
        [job]
        name = "one"  # run.toml:2

        [training]
        steps = 400  # --training.steps
        seq_len = 64  # default

        [data]
        separator = "  # "  # default
        """

    /// A run of `steps` steps with everything that there is to draw.
    private func run(_ name: String = "one", steps: Int = 400, config: String = ReportTests.config) -> RunRecord {
        let lines = (1...steps).map { step -> [String: Double] in
            var line = ["step": Double(step), "loss_metrics/global_avg_loss": 5 / Double(step).squareRoot(),
                        "train/bpb": 7 / Double(step).squareRoot(), "grad_norm": 1, "lr": 1e-3,
                        "throughput(tps)": 500, "throughput/total_tps": 1_000 + Double(step % 7), "mfu(%)": 30,
                        "time_metrics/end_to_end(s)": 0.5, "comm/wait(s)": 0.1, "comm/hidden(%)": 80,
                        "memory/max_active(GiB)": 0.5, "data/bucket_len": Double(32 << (step % 3)),
                        "data/length": 64, "n_tokens_seen": Double(step * 64)]
            if step % 100 == 0 {
                line["val/bpb"] = 8 / Double(step).squareRoot()
                line["validation_metrics/loss"] = 5.5 / Double(step).squareRoot()
            }
            return line
        }
        return RunRecord(name: name, path: "outputs/\(name)", lines: lines, config: config)
    }

    @Test func settings() {
        #expect(run().settings == [
            .init(key: "job.name", value: "\"one\"", origin: "run.toml:2"),
            .init(key: "training.steps", value: "400", origin: "--training.steps"),
            .init(key: "training.seq_len", value: "64", origin: "default"),
            .init(key: "data.separator", value: "\"  # \"", origin: "default"),
        ])
        let old = RunRecord(name: "r", path: "r", lines: [], config: "[model]\ndim = 3\n")
        #expect(old.settings == [.init(key: "model.dim", value: "3", origin: "")])
    }

    @Test func numbers() {
        let run = run()
        #expect(run.seconds == 200 && run.last("val/bpb") == 0.4 && run.median("mfu(%)") == 30)
        let tail = (361...400).reduce(0.0) { $0 + 5 / Double($1).squareRoot() } / 40
        #expect(abs((run.settled("loss_metrics/global_avg_loss") ?? 0) - tail) < 1e-12)
        #expect(run.last("nothing") == nil && run.median("nothing") == nil && run.settled("nothing") == nil)
    }

    /// A page fetches nothing, and each of its parts is there.
    @Test func aPageOfItsOwn() throws {
        let page = RunReport(run(), samples: [.init(prompt: "Once", text: " <b>upon</b> a time")],
                             checkpoint: "outputs/one/checkpoint/step-400").html
        for word in ["http:", "https:", "src=", "href=", "url(", "@import", "fetch("] {
            #expect(!page.contains(word), "\(word)")
        }
        for word in ["Loss", "Bits a byte", "Throughput", "Model FLOPs utilisation", "Rows by length", "Communication",
                     "exposed", "hidden", "Memory", "What it writes", "--training.steps", "run.toml:2", "2 defaults",
                     "prefers-color-scheme:dark", "&lt;b&gt;upon&lt;/b&gt;"] {
            #expect(page.contains(word), "\(word)")
        }
        #expect(!page.contains("<b>upon"))
        try expectBalanced(page)
        // The values under the pointer are JSON, as many in x as in y.
        struct Line: Decodable { let n: String; let c: Int; let x, y: [Double] }
        let data = page.matches(of: /<script type="application\/json">(.*?)<\/script>/).map { String($0.1) }
        #expect(data.count >= 9)
        for text in data {
            for line in try JSONDecoder().decode([Line].self, from: Data(text.utf8)) {
                #expect(line.x.count == line.y.count && !line.x.isEmpty && line.x == line.x.sorted())
            }
        }
    }

    /// Names and texts of anybody's are text, wherever they go.
    @Test func nothingBreaksOut() throws {
        let evil = "</script><script>alert('x')</script>&\"<img>"
        let one = run(evil, config: "[job]\nname = \"\(evil)\"  # \(evil)\n")
        let samples = [RunReport.Sample(prompt: evil, text: evil)]
        for page in [RunReport(one, samples: samples, checkpoint: evil).html, RunComparison([one, run()]).html] {
            #expect(!page.contains("<script>alert") && !page.contains("<img>"))
            try expectBalanced(page)
        }
    }

    /// Every element that is opened is closed, in order.
    private func expectBalanced(_ page: String) throws {
        var open: [String] = []
        let text = page.replacing(/<script[^>]*>.*?<\/script>|<style>.*?<\/style>/.dotMatchesNewlines(), with: "")
        for match in text.matches(of: /<(\/?)([a-z0-9]+)([^>]*)>/) {
            let name = String(match.2)
            if ["meta", "line", "path", "circle", "rect"].contains(name) { continue }
            if match.1.isEmpty {
                open.append(name)
            } else {
                #expect(open.popLast() == name, "</\(name)>")
            }
        }
        #expect(open.isEmpty, "\(open)")
    }

    /// What a run does not have is left out, and one step is enough.
    @Test func littleToShow() throws {
        let one = RunRecord(name: "r", path: "r", lines: [["step": 1, "loss_metrics/global_avg_loss": 2]], config: "")
        let page = RunReport(one).html
        #expect(page.contains("Loss") && !page.contains("Rows by length") && !page.contains("Communication"))
        #expect(!page.contains("<h2>Config") && !page.contains("<h2>What it writes"))
        try expectBalanced(page)
        let broken = RunRecord(name: "r", path: "r", lines: [["step": 1, "lr": .nan], ["step": 2, "lr": .infinity]],
                               config: "")
        #expect(!RunReport(broken).html.contains("Learning rate"))
    }

    @Test func sideBySide() throws {
        let short = run("two", steps: 100, config: Self.config.replacing("400", with: "100"))
        let comparison = RunComparison([run(), short])
        #expect(comparison.rows.map(\.count) == [9, 9, 9])
        #expect(comparison.rows[1][0] == "one" && comparison.rows[2][1] == "100" && comparison.rows[2][5] == "0.8000")
        #expect(comparison.differences == [["key", "one", "two"], ["training.steps", "400", "100"]])
        #expect(RunComparison([run(), run("b")]).differences.isEmpty)
        let page = comparison.html
        #expect(page.contains("class=\"line c0\"") && page.contains("class=\"line c1\""))
        try expectBalanced(page)
    }
}
