import Foundation
import Testing

/// Settings that a config leaves open, searched for as a run begins.
@Suite(.serialized) struct SearchedRunTests {
    /// `skein plan --search` prints the best few, the quickest first.
    @Test func planPrintsTheBest() throws {
        let place = try Workplace()
        let flags = ["plan", "run.toml", "--search", "--ranks", "4", "--link-gbit", "1", "--flops", "50",
                     "--training.global_batch_size", "8"]
        let table = try Program.run(flags + ["--best", "3"], in: place.path)
        #expect(table.code == 0 && table.out.split(separator: "\n").count == 3, "\(table.error)")
        #expect(table.out.contains("optimizer state / "))
        let json = try Program.run(flags + ["--json"], in: place.path)
        let seconds = try json.out.split(separator: "\n").map { line in
            let fields = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
            return try #require(fields?["seconds"] as? Double)
        }
        #expect(seconds.count == 5 && seconds == seconds.sorted())
        let none = try Program.run(flags + ["--memory", "0.001"], in: place.path)
        #expect(none.code == 2 && none.error.contains("no setting of 4 ranks fits"), "\(none.error)")
        #expect(none.errorLines.count == 1)
        let noLink = try Program.run(["plan", "run.toml", "--search", "--ranks", "4"], in: place.path)
        #expect(noLink.code == 2 && noLink.error.contains("--link-gbit"))
    }

    /// A run says what it found and keeps it in its config; when it goes on, nothing is searched for again.
    @Test func trainTakesTheFirst() throws {
        let place = try Workplace()
        let flags = ["train", "run.toml", "--training.global_batch_size", "4", "--training.local_batch_size", "2",
                     "--parallelism.zero", "auto", "--activation_checkpoint.mode", "auto", "--job.name", "open"]
        func run(_ more: [String]) throws -> String {
            let ranks = try Ranks(2, in: place.path, flags + more)
            for ended in ranks.ends() { #expect(ended?.code == 0, "\(ended?.text ?? "still running")") }
            return ranks.text(0)
        }
        let text = try run([])
        #expect(text.contains("searched for settings: parameters / "), "\(text)")
        let config = "\(place.path)/outputs/open/config.toml"
        let found = try String(contentsOfFile: config, encoding: .utf8)
        #expect(found.contains("chosen by a search") && !found.contains("\"auto\"  # chosen"))
        let again = try run(["--training.steps", "8", "--checkpoint.load", "latest"])
        #expect(!again.contains("searched for settings"), "\(again)")
        let lines = { (text: String) in text.split(separator: "\n").filter { $0.contains("chosen by a search") } }
        #expect(try lines(String(contentsOfFile: config, encoding: .utf8)) == lines(found))
    }
}
