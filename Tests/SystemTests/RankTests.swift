import Foundation
import Testing

/// Rank processes on this machine: the same numbers, and what happens when one fails.
@Suite(.serialized) struct RankTests {
    private let arguments = ["train", "run.toml", "--training.global_batch_size", "8",
                             "--training.local_batch_size", "2", "--training.threads", "1"]

    private func losses(_ place: borrowing Workplace, _ name: String) throws -> [Double] {
        let text = try String(contentsOfFile: "\(place.path)/outputs/\(name)/metrics.jsonl", encoding: .utf8)
        return try text.split(separator: "\n").map { line in
            let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
            return object?["loss_metrics/global_avg_loss"] as? Double ?? .nan
        }
    }

    /// All bytes of the weights' files: ranks write one each.
    private func weights(_ place: borrowing Workplace, _ name: String, _ step: Int) throws -> Data {
        let folder = "\(place.path)/outputs/\(name)/checkpoint/step-\(step)"
        let files = try FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasPrefix("model") }
        return try files.sorted().reduce(into: Data()) { bytes, name in
            bytes += try Data(contentsOf: URL(fileURLWithPath: folder + "/" + name))
        }
    }

    private func train(_ count: Int, _ place: borrowing Workplace, _ flags: [String]) throws {
        let ranks = try Ranks(count, in: place.path, arguments + flags)
        for (rank, ended) in ranks.ends().enumerated() {
            #expect(ended?.code == 0, "rank \(rank) of \(count): \(ended?.text ?? "still running")")
        }
    }

    @Test func lossesAgreeForOneTwoAndFourRanks() throws {
        let place = try Workplace()
        for count in [1, 2, 4] { try train(count, place, ["--job.name", "w\(count)", "--training.steps", "50"]) }
        let one = try losses(place, "w1")
        #expect(one.count == 50)
        for count in [2, 4] {
            let other = try losses(place, "w\(count)")
            #expect(abs(other[49] / one[49] - 1) < 1e-4, "\(count) ranks: \(other[49]) and \(one[49])")
        }
    }

    @Test func runsRepeatAndResumeBitForBit() throws {
        let place = try Workplace()
        for name in ["a", "b"] { try train(2, place, ["--job.name", name, "--training.steps", "20"]) }
        #expect(try weights(place, "a", 20) == weights(place, "b", 20))
        // Saved at 12 while running to 20, then gone on from 12 in a folder of its own.
        try train(2, place, ["--job.name", "c", "--training.steps", "20", "--checkpoint.interval", "12"])
        try train(2, place, ["--job.name", "d", "--training.steps", "20", "--checkpoint.load",
                             "outputs/c/checkpoint/step-12"])
        #expect(try weights(place, "d", 20) == weights(place, "a", 20))
    }

    /// With reproducible sums a run may change the number of its ranks and its stage of ZeRO on the way, moments and
    /// all, and ends with the weights of one rank that did it alone.
    @Test(arguments: ["adamw", "lamb", "muon", "soap"]) func ranksAndStagesMayChangeOnTheWay(optimizer: String) throws {
        let place = try Workplace()
        let flags = ["--training.steps", "100", "--training.global_batch_size", "16", "--training.reproducible", "true",
                     "--optimizer.name", optimizer, "--training.max_norm", "0.3"]
        try train(1, place, flags + ["--job.name", "alone"])
        try train(4, place, flags + ["--job.name", "a", "--checkpoint.interval", "40", "--parallelism.zero", "2"])
        try train(8, place, flags + ["--job.name", "b", "--checkpoint.interval", "70", "--parallelism.zero", "3",
                                     "--checkpoint.load", "outputs/a/checkpoint/step-40"])
        try train(1, place, flags + ["--job.name", "c", "--checkpoint.load", "outputs/b/checkpoint/step-70"])
        #expect(try losses(place, "a") == losses(place, "alone"))
        #expect(try weights(place, "c", 100) == weights(place, "alone", 100))
    }

    /// A measured table of algorithms decides the order of sums, so a run that goes on keeps it without being told.
    @Test func theTableIsKept() throws {
        let place = try Workplace()
        let rules = ["reduce-scatter", "all-gather"].map { "\($0) up-to any ranks 3...3 direct\n" }
        try place.write("table.txt", rules.joined())
        let flags = ["--training.steps", "16", "--checkpoint.interval", "8", "--training.global_batch_size", "6",
                     "--model.dim", "64", "--model.n_layers", "3"]
        try train(3, place, flags + ["--job.name", "plain"])
        try train(3, place, flags + ["--job.name", "table", "--comm.table", "table.txt"])
        try train(3, place, flags + ["--job.name", "again", "--checkpoint.load", "outputs/table/checkpoint/step-8"])
        #expect(try weights(place, "again", 16) == weights(place, "table", 16))
        #expect(try weights(place, "plain", 16) != weights(place, "table", 16))
        let manifest = try String(contentsOfFile: "\(place.path)/outputs/again/checkpoint/step-16/manifest.json",
                                  encoding: .utf8)
        #expect(manifest.contains("collectives_table"))
    }

    /// Buckets of lengths: the same rows for any number of ranks, also when it changes in the middle of an epoch.
    @Test(arguments: [["--data.layout", "decompose", "--data.min_length", "4", "--data.curriculum", "grow_p2",
                       "--data.decomposition", "random", "--training.length_warmup", "window",
                       "--training.length_warmup_steps", "5"],
                      ["--data.layout", "best_fit"],
                      ["--training.length_warmup", "truncate", "--training.length_warmup_steps", "15"]])
    func lengthsDoNotDependOnRanks(layout: [String]) throws {
        let place = try Workplace()
        let flags = layout + ["--training.steps", "20"]
        for count in [1, 3] { try train(count, place, flags + ["--job.name", "w\(count)"]) }
        try train(2, place, flags + ["--job.name", "first", "--checkpoint.interval", "12"])
        try train(3, place, flags + ["--job.name", "second", "--checkpoint.load",
                                     "outputs/first/checkpoint/step-12"])
        let one = try losses(place, "w1")
        #expect(one.count == 20)
        for (name, begin) in [("w3", 0), ("first", 0), ("second", 12)] {
            let other = try losses(place, name)
            #expect(other.count == 20 - begin)
            for (step, loss) in other.enumerated() {
                #expect(abs(loss / one[begin + step] - 1) < 1e-4, "\(name), step \(begin + step + 1)")
            }
        }
    }

    /// Whatever way the messages go, and over how many connections, the weights are the same bits: the order of sums is
    /// the schedule's. Another algorithm has another order, and the same losses up to rounding.
    @Test func theWayOfMessagesChangesNoBit() throws {
        let place = try Workplace()
        let ways = ["tcp": ["--comm.transport", "tcp"], "shm": ["--comm.transport", "shm"],
                    "streams": ["--comm.transport", "tcp", "--comm.streams", "3"],
                    "direct": ["--comm.algorithm", "direct"]]
        for (name, flags) in ways { try train(3, place, ["--job.name", name, "--training.steps", "15"] + flags) }
        let expected = try weights(place, "tcp", 15)
        #expect(try weights(place, "shm", 15) == expected && weights(place, "streams", 15) == expected)
        let (ring, direct) = try (losses(place, "tcp"), losses(place, "direct"))
        #expect(abs(direct[14] / ring[14] - 1) < 1e-4)
        #expect(try weights(place, "direct", 15) != expected)
    }

    @Test(arguments: [(SIGKILL, 0, "tcp"), (SIGKILL, 1, "shm"), (SIGKILL, 2, "tcp"), (SIGSTOP, 1, "tcp"),
                      (SIGSTOP, 0, "shm")])
    func everySurvivorNamesTheFailedRank(signal: Int32, victim: Int, transport: String) throws {
        let place = try Workplace()
        let heartbeat = 2.0
        let ranks = try Ranks(3, in: place.path, arguments + [
            "--training.steps", "1000000", "--metrics.log_freq", "1", "--comm.heartbeat_seconds", "\(heartbeat)",
            "--comm.transport", transport,
        ])
        ranks.wait(for: "step       5/")
        let began = now()
        kill(ranks.processes[victim].processIdentifier, signal)
        for rank in 0..<3 where rank != victim {
            let ended = ranks.end(rank, within: 30)
            #expect(ended?.code == 1, "rank \(rank): \(ended?.text.suffix(300) ?? "still running")")
            let last = ended?.text.split(separator: "\n").last.map(String.init) ?? ""
            #expect(last.contains("rank \(victim) ") && last.contains("operation"), "rank \(rank): \(last)")
            // The promise is 5 s after a kill and the heartbeat plus 1 s after a stop; machines that are busy with
            // other tests get some of it on top.
            #expect((ended?.at ?? .infinity) - began < (signal == SIGKILL ? 5 : heartbeat + 1) + 4)
        }
        kill(ranks.processes[victim].processIdentifier, SIGKILL)
    }

    /// What the survivors of a killed rank leave behind: whom they waited for, in which collective.
    @Test func survivorsLeaveAFlightRecord() throws {
        let place = try Workplace()
        let ranks = try Ranks(3, in: place.path, arguments + [
            "--training.steps", "1000000", "--metrics.log_freq", "1", "--comm.heartbeat_seconds", "2"])
        ranks.wait(for: "step       5/")
        kill(ranks.processes[1].processIdentifier, SIGKILL)
        var awaited: [Int?] = []
        for rank in [0, 2] {
            #expect(ranks.end(rank, within: 30)?.text.contains("what rank \(rank) was doing is in ") == true)
            let file = "\(place.path)/outputs/tiny/flight/rank-\(rank).jsonl"
            let lines = try String(contentsOfFile: file, encoding: .utf8).split(separator: "\n").map { line in
                try #require(JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
            }
            #expect(lines[0]["culprit"] as? Int == 1 && lines[0]["rank"] as? Int == rank)
            let operations = lines.dropFirst(), count = try #require(lines[0]["operations"] as? Int)
            #expect(operations.count == min(count, 256) && count > 20)
            #expect(operations.last?["number"] as? Int == count - 1)
            let running = operations.filter { $0["state"] as? String == "running" }
            #expect(!running.isEmpty && operations.count > running.count)
            let waits = running.flatMap { $0["waits_for"] as? [[String: Any]] ?? [] }
            #expect(!waits.isEmpty, "\(running)")
            awaited += waits.map { $0["rank"] as? Int }
            let isInOrder = operations.allSatisfy { operation in
                guard let began = operation["began"] as? Double, began <= 0 else { return false }
                return (operation["ended"] as? Double).map { $0 >= began && $0 <= 0 } ?? true
            }
            #expect(isInOrder)
        }
        // In a ring a rank may have sent all that it had for the dead one, and wait for the other.
        #expect(awaited.contains(1))
        #expect(!FileManager.default.fileExists(atPath: "\(place.path)/outputs/tiny/flight/rank-1.jsonl"))
    }

    @Test func disagreementsAreNamed() throws {
        let place = try Workplace()
        let quick = ["--comm.start_seconds", "5"]
        let recipe = try Ranks(2, in: place.path, arguments + quick,
                               flags: { $0 == 1 ? ["--optimizer.lr", "0.7"] : [] })
        for ended in recipe.ends() {
            #expect(ended?.code == 2 && ended?.text.contains("recipe") == true, "\(ended?.text ?? "running")")
        }
        let products = try Ranks(2, in: place.path, arguments + quick,
                                 flags: { $0 == 1 ? ["--training.matmul", "openblas"] : [] })
        for ended in products.ends() {
            #expect(ended?.code == 2 && ended?.text.contains("arithmetic") == true
                && ended?.text.contains("OpenBLAS") == true, "\(ended?.text ?? "running")")
        }
        let worlds = try Ranks(2, in: place.path, arguments + quick, environment: { rank, values in
            if rank == 1 { values["WORLD_SIZE"] = "3" }
        })
        let other = worlds.end(1)
        #expect(other?.code == 2 && other?.text.contains("world size") == true, "\(other?.text ?? "running")")
        try place.write("other-secret", String(repeating: "ab", count: 32))
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: place.path + "/other-secret")
        let path = place.path + "/other-secret"
        let secrets = try Ranks(2, in: place.path, arguments + quick, environment: { rank, values in
            if rank == 1 { values["SKEIN_SECRET_FILE"] = path }
        })
        let stranger = secrets.end(1)
        #expect(stranger?.code == 2 && stranger?.text.contains("secret") == true,
                "\(stranger?.text ?? "running"), rank 0: \(secrets.text(0))")
    }

    /// Ranks that save together must see one folder; it is said before the first step, not at the first save.
    @Test func anotherFolder() throws {
        let place = try Workplace()
        let ranks = try Ranks(2, in: place.path, ["train", "run.toml", "--comm.start_seconds", "20"],
                              flags: { $0 == 1 ? ["--job.dump_folder", "elsewhere"] : [] })
        let ended = ranks.end(1)
        #expect(ended?.code == 2, "\(ended?.text ?? "running")")
        #expect(ended?.text.contains("elsewhere/tiny, which rank 0 made, is not on rank 1's disk") == true)
        #expect(ranks.end(0)?.code == 1)
    }

    /// Garbage and silence on rank 0's port until the last rank has come.
    @Test func strangersDoNotDisturb() throws {
        let place = try Workplace()
        try train(2, place, ["--job.name", "calm", "--training.steps", "300"])
        var port = 0
        let ranks = try Ranks(2, in: place.path, arguments + ["--job.name", "stormy", "--training.steps", "300"],
                              environment: { _, values in port = Int(values["MASTER_PORT"] ?? "") ?? 0 })
        // Rank 0 listens until the other one has come.
        kill(ranks.processes[1].processIdentifier, SIGSTOP)
        var held: [Int32] = []
        var sent = 0
        while ranks.processes[0].isRunning, sent < 40 {
            if let connection = connectTo(port) {
                sent += 1
                if sent % 2 == 0 { held.append(connection) } else { pour(1 << 20, into: connection) }
            }
            usleep(10_000)
        }
        kill(ranks.processes[1].processIdentifier, SIGCONT)
        for ended in ranks.ends() { #expect(ended?.code == 0, "\(ended?.text ?? "running")") }
        for connection in held { close(connection) }
        #expect(sent == 40)
        #expect(try weights(place, "stormy", 300) == weights(place, "calm", 300))
    }

    private func connectTo(_ port: Int) -> Int32? {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let connected = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(descriptor, $0, length) == 0
            }
        }
        if connected { return descriptor }
        close(descriptor)
        return nil
    }

    /// Random bytes until they are all sent or the other side has had enough.
    private func pour(_ count: Int, into connection: Int32) {
        let bytes = (0..<4_096).map { _ in UInt8.random(in: 0...255) }
        for _ in 0..<(count / bytes.count) {
            guard unsafe send(connection, bytes, bytes.count, Int32(MSG_NOSIGNAL)) > 0 else { break }
        }
        close(connection)
    }
}
