import Foundation
import Testing

/// The benches that harm or tire jobs, as a person would run them.
@Suite(.serialized) struct FaultsTests {
    private func lines(_ arguments: [String], variables: [String: String] = [:])
        throws -> (code: Int32, lines: [[String: Any]], error: String) {
        let place = try Workplace()
        let outcome = try Program.run(arguments + ["--json"], in: place.path, variables: variables)
        let lines = try outcome.out.split(separator: "\n").map { line in
            try #require(JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
        }
        return (outcome.code, lines, outcome.error)
    }

    /// Five of each, over real processes and sockets: everybody names the right rank, every time.
    @Test func everyInjectionIsBlamedRightly() throws {
        let (code, lines, error) = try lines(["bench", "faults", "--injections", "5"])
        #expect(code == 0, "\(error)")
        #expect(lines.count == 8)
        for line in lines {
            let name = line["injection"] as? String ?? "?"
            #expect(line["right"] as? Int == 5, "\(name): \(error)")
            // The promise is 1 s after a kill and the heartbeat, 0.5 s here, plus 1 s after a stop; machines that are
            // busy with other tests get some of it on top.
            if name == "kill" { #expect(line["seconds"] as? Double ?? 99 < 2) }
            if ["stop", "silence"].contains(name) { #expect(line["seconds"] as? Double ?? 99 < 4) }
        }
    }

    /// Nothing is left of a hundred lives, nor of ten thousand collectives and a thousand groups.
    @Test func nothingGrows() throws {
        // Large blocks go back to the system at once: what the allocator keeps of them is not what is looked for.
        let (code, lines, error) = try lines(["bench", "endurance"], variables: ["MALLOC_MMAP_THRESHOLD_": "131072"])
        #expect(code == 0, "\(error)")
        #expect(lines.map { $0["count"] as? Int } == [100, 10_000])
        for line in lines {
            #expect(line["more_descriptors"] as? Int == 0 && line["more_threads"] as? Int == 0, "\(line)")
            // A page now and then is the allocator's; a message that is left is more.
            let limit = line["what"] as? String == "epochs" ? 32_000.0 : 100
            #expect(line["bytes_each"] as? Double ?? .infinity < limit, "\(line)")
        }
    }

    @Test func simulationsRun() throws {
        let (code, lines, error) = try lines(["bench", "simulate", "--seeds", "50", "--first", "5000"])
        #expect(code == 0 && error.isEmpty, "\(error)")
        #expect(lines.first?["failed"] as? Int == 0 && lines.first?["seeds"] as? Int == 50)
    }
}
