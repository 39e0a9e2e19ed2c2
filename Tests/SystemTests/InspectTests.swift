import Foundation
import Glibc
import Testing

/// `skein inspect`, as a person runs it.
@Suite struct InspectTests {
    private func trained(_ place: borrowing Workplace, _ flags: String...) throws {
        let run = try Program.run(["train", "run.toml", "--checkpoint.interval", "2"] + flags, in: place.path)
        #expect(run.code == 0, "\(run.error)")
    }

    private func objects(_ text: String) throws -> [[String: Any]] {
        try text.split(separator: "\n").map {
            try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
        }
    }

    @Test func summaryAndTensors() throws {
        let place = try Workplace()
        try trained(place)
        let summary = try place.run("inspect", "outputs/tiny/checkpoint/step-4")
        for word in ["step        4", "world size  1", "model", "optimizer", "not signed", "[model]", "dim = 32"] {
            #expect(summary.out.contains(word), "\(word)")
        }
        let asJSON = try objects(try place.run("inspect", "outputs/tiny", "--json").out)
        #expect(asJSON.count == 1 && asJSON[0]["step"] as? Int == 4 && asJSON[0]["recipe"] is String)
        let table = try place.run("inspect", "outputs/tiny", "--tensors", "model.layers.0.self_attn.*")
        #expect(table.code == 0 && table.out.split(separator: "\n").count == 6, "\(table.out)")
        for word in ["q_proj.weight", "32x32", "F32", "4,096", "non-finite", "▁"] { #expect(table.out.contains(word)) }
        let all = try objects(try place.run("inspect", "outputs/tiny", "--json", "--tensors").out)
        #expect(all.count == 3 * 12 && all.allSatisfy { $0["non_finite"] as? Int == 0 })
        let one = try place.run("inspect", "outputs/tiny", "--tensor", "model.norm.weight")
        #expect(one.code == 0 && one.out.contains("F32 32, 32 values") && one.out.contains("█"))
    }

    /// Values are those of the bytes in the file.
    @Test func slices() throws {
        let place = try Workplace()
        try trained(place)
        let name = "model.layers.0.self_attn.k_proj.weight"
        let printed = try place.run("inspect", "outputs/tiny", "--tensor", name, "--slice", "1:3,30:")
        #expect(printed.code == 0 && printed.out.hasPrefix("\(name)[1:3, 30:32], F32\n"))
        let found = try objects(try place.run("inspect", "outputs/tiny", "--tensor", name, "--slice", "1:3,30:",
                                              "--json").out)[0]["values"] as? [Double]
        let step = place.path + "/outputs/tiny/checkpoint/step-4/"
        let manifest = try #require(JSONSerialization.jsonObject(
            with: Data(contentsOf: URL(fileURLWithPath: step + "manifest.json"))) as? [String: Any])
        let entry = try #require((manifest["tensors"] as? [[String: Any]])?.first { $0["name"] as? String == name })
        let slice = try #require((entry["slices"] as? [[String: Any]])?[0])
        let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: step + "model.safetensors")))
        let begin = try #require(slice["begin"] as? Int)
        let expected = [62, 63, 94, 95].map { index -> Float in
            let place = begin + 4 * index
            let bits = (0..<4).reduce(UInt32(0)) { $0 | UInt32(bytes[place + $1]) << UInt32(8 * $1) }
            return Float(bitPattern: bits)
        }
        // As numbers of the tensor's own type: text to double and back may cost a last digit in a JSON reader.
        #expect(found?.map { Float($0) } == expected)
    }

    private func values(_ name: String, of path: String, in place: borrowing Workplace) throws -> [Double]? {
        try objects(try place.run("inspect", path, "--tensor", name, "--slice", ":", "--json").out)[0]["values"]
            as? [Double]
    }

    /// Of state in few bits it shows what the codes stand for: each over the scale of its 128 neighbours.
    @Test func codesAreShownAsWhatTheyStandFor() throws {
        let place = try Workplace()
        try trained(place, "--optimizer.moments", "fp8", "--optimizer.master_weights", "fp16")
        let name = "model.layers.0.self_attn.k_proj.weight", path = "outputs/tiny"
        let found = try values(name, of: path, in: place), scales = try values("scale." + name, of: path, in: place)
        let file = try Data(contentsOf: URL(fileURLWithPath: place.path
            + "/outputs/tiny/checkpoint/step-4/model.safetensors"))
        let size = Int(file.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) })
        let header = try #require(JSONSerialization.jsonObject(with: file[8..<(8 + size)]) as? [String: Any])
        let entry = try #require(header[name] as? [String: Any])
        let begin = 8 + size + (try #require((entry["data_offsets"] as? [Int])?[0]))
        let expected = (0..<1_024).map { index -> Float in
            let bits = UInt16(file[begin + 2 * index]) | UInt16(file[begin + 2 * index + 1]) << 8
            return Float(Float16(bitPattern: bits)) / Float(scales?[index / 128] ?? 0)
        }
        #expect(entry["dtype"] as? String == "F16" && scales?.count == 8)
        #expect(found?.map { Float($0) } == expected)
        let one = try objects(try place.run("inspect", path, "--tensor", name, "--json").out)[0]
        #expect(one["scales"] as? String == "scale." + name)
        #expect((one["max"] as? Double).map { Float($0) } == expected.max())
        #expect(try place.run("inspect", path, "--tensors", "variance.*").out.contains("F8_E5M2, scaled"))
    }

    @Test func differences() throws {
        let place = try Workplace()
        try trained(place)
        try trained(place, "--job.name", "other", "--optimizer.lr", "0.002", "--checkpoint.compression", "zstd")
        let same = try place.run("inspect", "outputs/tiny", "--diff", "outputs/tiny/checkpoint/step-4")
        #expect(same.out.contains("0 tensors differ, 36 are equal") && same.out.contains("the recipes are equal"))
        let other = try place.run("inspect", "outputs/tiny", "--diff", "outputs/other")
        #expect(other.code == 0 && other.out.contains("36 tensors differ") && other.out.contains("ulps"))
        for word in ["optimizer.lr", "0.002", "job.name", "checkpoint.compression"] {
            #expect(other.out.contains(word), "\(word)")
        }
        let lines = try objects(try place.run("inspect", "outputs/tiny", "--diff", "outputs/other", "--json").out)
        #expect(lines.count == 37 && lines.last?["recipe"] is [[String: Any]])
        for line in lines.dropLast() { #expect(line["cosine"] is Double && line["ulps"] is Int, "\(line)") }
        // What is compressed is verified like the rest.
        let verified = try place.run("inspect", "outputs/other", "--verify")
        #expect(verified.code == 0 && verified.out.contains("whole (4 files, 36 tensors"))
    }

    /// What a format would do: unscaled, and with scales for ever fewer numbers, of which each loses no more.
    @Test func formats() throws {
        let place = try Workplace()
        try trained(place)
        let name = "model.layers.0.mlp.up_proj.weight"
        let outcome = try place.run("inspect", "outputs/tiny", "--quantize", "E4M3", "--tensors", name, "--json")
        #expect(outcome.code == 0, "\(outcome.error)")
        let lines = try objects(outcome.out)
        #expect(lines.compactMap { $0["scales"] as? String } == ["none", "tensor", "row", "1x128"])
        #expect(lines.allSatisfy { $0["tensor"] as? String == name && $0["saturated"] as? Double == 0 })
        let decibels = lines.compactMap { $0["sqnr_db"] as? Double }
        #expect(decibels.count == 4 && decibels[1] > decibels[0] && decibels[1] > 30 && decibels[1] < 34, "\(decibels)")
        let blocks = try objects(try place.run("inspect", "outputs/tiny", "--quantize", "NVFP4", "--tensors", name,
                                               "--json").out)
        #expect(blocks.count == 1 && (blocks[0]["sqnr_db"] as? Double ?? 0) > 15, "\(blocks)")
        let table = try place.run("inspect", "outputs/tiny", "--quantize", "mxfp8")
        #expect(table.code == 0 && table.out.contains("SQNR, dB") && table.out.contains("its own"))
        let unknown = try place.run("inspect", "outputs/tiny", "--quantize", "FP9")
        #expect(unknown.code == 2 && unknown.error.contains("FP9 is no number format"), "\(unknown.error)")
    }

    @Test func verification() throws {
        let place = try Workplace()
        try trained(place)
        let verified = try place.run("inspect", "outputs/tiny", "--verify")
        #expect(verified.code == 0 && verified.out.contains(": whole (4 files, 36 tensors"))
        #expect(verified.out.contains("GB/s; what bounds it is "))
        let asJSON = try objects(try place.run("inspect", "outputs/tiny", "--verify", "--json").out)[0]
        #expect(asJSON["whole"] as? Bool == true && asJSON["sha256_bytes_per_s"] is Double)
        let file = URL(fileURLWithPath: place.path + "/outputs/tiny/checkpoint/step-4/optimizer.safetensors")
        var bytes = try Data(contentsOf: file)
        bytes[bytes.count - 5] ^= 0x10
        try bytes.write(to: file)
        let damaged = try place.run("inspect", "outputs/tiny/checkpoint/step-4", "--verify", "--json")
        #expect(damaged.code == 2 && damaged.errorLines.count == 1)
        let damages = try objects(damaged.out)[0]["damages"] as? [String]
        #expect(damages?.count == 1 && damages?[0].contains("in block 0 (bytes 0 to ") == true)
        // The step before it is used, and it is said why.
        let before = try place.run("inspect", "outputs/tiny", "--json")
        #expect(try objects(before.out)[0]["step"] as? Int == 2)
        #expect(before.error.contains("going back to step 2"))
    }

    /// Signed with a key: opened with it, and with no other.
    @Test func signatures() throws {
        let place = try Workplace()
        for name in ["key", "other"] { #expect(try place.run("secret", "new", name).code == 0) }
        try trained(place, "--checkpoint.key_file", "key")
        let good = try place.run("inspect", "outputs/tiny", "--verify", "--key-file", "key")
        #expect(good.code == 0 && good.out.contains("signed with this key"))
        #expect(try place.run("inspect", "outputs/tiny", "--verify").out.contains("was not checked"))
        let load = ["train", "run.toml", "--checkpoint.load", "latest", "--training.steps", "6",
                    "--checkpoint.key_file"]
        let refused = try Program.run(load + ["other"], in: place.path)
        #expect(refused.code == 2 && refused.errorLines.count == 1 && refused.error.contains("signed with another key"))
        #expect(try Program.run(load + ["key"], in: place.path).code == 0)
        try place.write("short", "abc")
        let short = try Program.run(load + ["short"], in: place.path)
        #expect(short.code == 2 && short.errorLines.count == 1 && short.error.contains("short"))
    }

    @Test func badInput() throws {
        let place = try Workplace()
        try trained(place)
        try place.write("notes.txt", "text")
        try place.write("broken.safetensors", Data([9, 0, 0, 0, 0, 0, 0, 0]) + Data("{\"a\":[1]}".utf8))
        let run = "outputs/tiny"
        let cases: [([String], [String])] = [
            (["nowhere"], ["nowhere does not exist"]), (["notes.txt"], ["notes.txt", ".safetensors"]),
            (["broken.safetensors"], ["broken.safetensors is damaged"]),
            ([run, "--tensor", "model.norm.wieght"], ["did you mean model.norm.weight?"]),
            ([run, "--tensors", "x*"], ["no tensor whose name matches x*"]),
            ([run, "--tensor", "model.norm.weight", "--slice", "99"], ["--slice", "\"99\"", "32"]),
            ([run, "--tensor", "model.norm.weight", "--slice", "1,1"], ["--slice", "2 parts", "1 dimensions"]),
            ([run, "--slice", "1"], ["--slice", "--tensor"]), ([run, "--verify", "--tensors"], ["asked alone"]),
            ([run, "--diff", "nowhere"], ["nowhere"]), ([run, "--key-file", "gone"], ["gone"]),
        ]
        for (arguments, words) in cases {
            let outcome = try Program.run(["inspect"] + arguments, in: place.path)
            #expect(outcome.code == 2 && outcome.errorLines.count == 1, "\(arguments): \(outcome.error)")
            for word in words { #expect(outcome.error.contains(word), "\(arguments): \(outcome.error)") }
        }
    }

    /// A process that is killed while it saves, five times in one run: what is there is whole, and the run goes on.
    @Test(arguments: ["none", "zstd"]) func killedWhileSaving(_ compression: String) throws {
        let place = try Workplace()
        let folder = place.path + "/outputs/tiny/checkpoint"
        func unfinished() -> Bool {
            let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
            return names.contains { !FileManager.default.fileExists(atPath: "\(folder)/\($0)/manifest.json") }
        }
        var kills = 0
        for round in 0..<(compression == "none" ? 5 : 2) {
            let process = Process()
            process.executableURL = URL(fileURLWithPath: Program.path)
            process.arguments = ["train", "run.toml", "--training.steps", "1000000", "--checkpoint.interval", "1",
                                 "--checkpoint.compression", compression, "--model.dim", "256"]
                + (round == 0 ? [] : ["--checkpoint.load", "latest"])
            process.currentDirectoryURL = URL(fileURLWithPath: place.path)
            process.standardOutput = FileHandle.nullDevice
            process.standardError = FileHandle.nullDevice
            try process.run()
            let first = newest(folder), limit = now() + 40
            // A save or two that are whole, then one that is not.
            while process.isRunning, now() < limit, newest(folder) < first + 2 { usleep(500) }
            while process.isRunning, now() < limit, !unfinished() { usleep(50) }
            #expect(process.isRunning && now() < limit, "round \(round), step \(newest(folder))")
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
            if unfinished() { kills += 1 }
            let verified = try place.run("inspect", "outputs/tiny", "--verify")
            #expect(verified.code == 0 && verified.out.contains(": whole ("), "round \(round): \(verified.error)")
        }
        // The save may end between the look and the kill, but hardly ever.
        #expect(kills >= 1)
        let goesOn = try place.run("train", "run.toml", "--model.dim", "256", "--checkpoint.load", "latest",
                                   "--checkpoint.compression", compression,
                                   "--training.steps", "\(newest(folder) + 1)")
        #expect(goesOn.code == 0, "\(goesOn.error)")
    }

    /// The newest step with a manifest; -1 without one.
    private func newest(_ folder: String) -> Int {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return names.filter { FileManager.default.fileExists(atPath: "\(folder)/\($0)/manifest.json") }
            .compactMap { Int($0.dropFirst(5)) }.max() ?? -1
    }
}
