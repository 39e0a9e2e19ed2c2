import Foundation
import Testing

/// `skein plan --lengths`, as a person runs it.
@Suite struct PlanTests {
    private static let machine = ["--link-gbit", "1", "--flops", "100", "--training.max_tokens_per_task", "512"]

    private func plan(_ lengths: String, _ flags: [String] = []) throws -> Program.Outcome {
        let place = try Workplace()
        try place.write("lengths.txt", lengths)
        return try Program.run(["plan", "run.toml", "--lengths", "lengths.txt"] + Self.machine + flags, in: place.path)
    }

    /// A chart, the tasks by degree, the bound; as JSON one object whose tasks hold every sequence once.
    @Test func chartAndJSON() throws {
        let lengths = "# a batch\n900\n400\n\n300 # short\n200\n100\n50\n"
        let chart = try plan(lengths, ["--ranks", "4"])
        #expect(chart.code == 0, "\(chart.error)")
        for part in ["rank", "degree 1", "no plan ends before", "F/(hB) = ", "a rank holds 512"] {
            #expect(chart.out.contains(part), "\(part): \(chart.out)")
        }
        let json = try plan(lengths, ["--ranks", "1024", "--json", "--solver", "fast"])
        #expect(json.code == 0 && json.out.split(separator: "\n").count == 1, "\(json.error)")
        let object = try JSONSerialization.jsonObject(with: Data(json.out.utf8)) as? [String: Any]
        let tasks = try #require(object?["tasks"] as? [[String: Any]])
        #expect(tasks.flatMap { $0["sequences"] as? [Int] ?? [] }.sorted() == Array(0..<6))
        let bound = try #require(object?["bound_seconds"] as? Double)
        #expect(bound <= (object?["seconds"] as? Double ?? 0) * (1 + 1e-9))
    }

    @Test func exactSaysWhatItProved() throws {
        let exact = try plan("400\n300\n300\n200\n", ["--ranks", "2", "--solver", "exact"])
        #expect(exact.code == 0 && exact.out.contains("branch-and-cut  "), "\(exact.error)")
        #expect(exact.out.contains("proves"))
        let without = try plan("400\n300\n300\n200\n", ["--ranks", "2", "--no-lp", "--json"])
        #expect(without.out.contains("\"linear_bound_seconds\":null"))
        let fixed = try plan("400\n300\n300\n200\n", ["--ranks", "4", "--degree", "2", "--json"])
        #expect(fixed.out.contains("\"ranks\":[0,1]") && !fixed.out.contains("\"ranks\":[0]"))
    }

    @Test(arguments: [
        ("400\n30x\n", [], "lengths.txt:2: \"30x\" is not a sequence length"),
        ("# none\n", [], "lengths.txt: no sequence length in it"),
        ("400\n2049\n", ["--ranks", "4"], "sequence 2 of the batch has 2,049 tokens, and 4 ranks of 512 hold 2,048"),
        ("400\n", ["--ranks", "4", "--degree", "3"], "groups of 3 ranks do not divide 4 ranks"),
        ("400\n", ["--ranks", "1025"], "--ranks"),
        ("400\n", ["--solver", "quick"], "--solver must be fast or exact"),
    ] as [(String, [String], String)])
    func badInputIsNamed(_ lengths: String, _ flags: [String], _ text: String) throws {
        let outcome = try plan(lengths, flags)
        #expect(outcome.code == 2 && outcome.errorLines.count == 1)
        #expect(outcome.error.contains(text), "\(outcome.error)")
    }

    @Test func lengthsNeedALink() throws {
        let place = try Workplace()
        try place.write("lengths.txt", "400\n")
        let outcome = try Program.run(["plan", "run.toml", "--lengths", "lengths.txt"], in: place.path)
        #expect(outcome.code == 2 && outcome.error.contains("--lengths needs --link-gbit"))
    }
}
