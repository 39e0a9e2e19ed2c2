import Base
import Checkpoint
import Crypto
import Foundation
import Storage
import Testing

@Suite struct ManifestTests {
    private let fixture = Fixture(step: 20)

    private func saved() throws -> (disk: FaultyDisk, file: String, bytes: [UInt8]) {
        let disk = FaultyDisk(), file = try fixture.save(on: disk) + "/manifest.json"
        return (disk, file, try #require(disk.bytes(file)))
    }

    /// Makes the self-hash of an edited manifest right again, as somebody with bad intent would.
    private func forged(_ bytes: [UInt8], _ old: String, _ new: String) throws -> [UInt8] {
        let text = String(decoding: bytes, as: UTF8.self)
        #expect(text.contains(old))
        let lines = text.replacing(old, with: new, maxReplacements: 1).split(separator: "\n", maxSplits: 2)
        let body = Array(lines[2].utf8)
        return Array("{\n\"self_sha256\":\"\(hexadecimal(SHA256.hash(data: body)))\",\n".utf8) + body
    }

    /// Any JSON reader can use it, and a person can read it: one tensor a line.
    @Test func isJSONWithALineForEachTensor() throws {
        let (_, _, bytes) = try saved()
        let object = try #require(try JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any])
        #expect(object["step"] as? Int == 20)
        #expect(object["world_size"] as? Int == 2)
        #expect((object["tensors"] as? [[String: Any]])?.count == 6)
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
        #expect(lines.filter { $0.contains("\"crc32c\":") }.count == 6)
    }

    @Test func floatsComeBackBitForBit() throws {
        let random = (UInt64(0)..<1000).compactMap { counter in
            let value = Double(bitPattern: CounterRNG(seed: 1, stream: 1).bits(at: counter))
            return value.isFinite ? value : nil
        }
        let values: [Double] = [0, -0.0, 1, 0.1, 1 / 3, .pi, .leastNonzeroMagnitude, -.infinity, 1e21,
                                .greatestFiniteMagnitude, 9_007_199_254_740_992, 1e-7] + random
        var manifest = fixture.manifest
        manifest.state = ["all": .numbers(values), "min": .integer(.min), "max": .integer(.max),
                          "nan": .number(.nan), "inf": .text("inf")]
        let found = try Manifest(decoding: manifest.encoded(), path: "m")
        guard case .numbers(let decoded) = found.state["all"],
              case .number(let nan) = found.state["nan"] else {
            Issue.record("state values changed their kind")
            return
        }
        #expect(decoded.map(\.bitPattern) == values.map(\.bitPattern))
        #expect(nan.isNaN)
        #expect(found.state["min"] == .integer(.min) && found.state["max"] == .integer(.max))
        #expect(found.state["inf"] == .text("inf"))
        #expect(found.rng == manifest.rng && found.data == manifest.data)
    }

    /// A position comes back byte for byte; without one, as before there were any, or with something else in its
    /// place, there is none.
    @Test func positions() throws {
        var manifest = fixture.manifest
        let bytes = (0..<64).map { UInt8(truncatingIfNeeded: $0 * 37) }
        manifest.data = SavedPosition(fingerprint: "f", seed: 1, row: 2, position: bytes)
        #expect(try Manifest(decoding: manifest.encoded(), path: "m").data.bytes == bytes)
        for text in [nil, "0", "0g", "é1"] {
            manifest.data.position = text
            let found = try Manifest(decoding: manifest.encoded(), path: "m")
            #expect(found.data == manifest.data && found.data.bytes == nil)
        }
    }

    /// Entries that a hash cannot rule out, because a forger can hash too.
    @Test func forgeries() throws {
        let (disk, file, bytes) = try saved()
        let path = split(file).folder
        func refusal(_ old: String, _ new: String) throws -> String? {
            let changed = try forged(bytes, old, new)
            disk.tamper(file) { $0 = changed }
            do throws(CheckpointError) { _ = try Checkpoint.open(path, disk: disk) } catch {
                return error.description
            }
            return nil
        }
        #expect(try refusal("\"step\":20", "\"step\":20") == nil)
        let damaged = "\(file) is damaged: "
        #expect(try refusal("\"name\":\"config.toml\"", "\"name\":\"../../secret\"")
            == damaged + "an impossible entry for the file ../../secret")
        #expect(try refusal("\"name\":\"config.toml\"", "\"name\":\"tokenizer.json\"")
            == damaged + "an impossible entry for the file tokenizer.json")
        #expect(try refusal("\"shape\":[4,3]", "\"shape\":[4,4]")
            == damaged + "an impossible entry for the tensor embed.weight")
        #expect(try refusal("\"shape\":[4,3]", "\"shape\":[4611686018427387904,4]")
            == damaged + "an impossible entry for the tensor embed.weight")
        #expect(try refusal("\"name\":\"norm.weight\"", "\"name\":\"scale\"")
            == damaged + "an impossible entry for the tensor scale")
        #expect(try refusal("\"begin\":", "\"begin\":-")
            == damaged + "an impossible entry for the tensor embed.weight")
        #expect(try refusal("\"world_size\":2", "\"world_size\":0") == damaged + "a negative count")
        #expect(try refusal("\"step\":20", "\"step\":\"x\"")
            == damaged + "not a manifest (a value of the wrong type at step)")
        #expect(try refusal("\"step\":20,\n", "") == damaged + "not a manifest (no step)")
        #expect(try refusal("\"version\":2", "\"version\":3") == "\(file) has the format skein-checkpoint 3, "
            + "this program reads skein-checkpoint 2 and older; use the version of skein that wrote it")
        #expect(try refusal("\"first\":0", "\"first\":1")
            == damaged + "an impossible entry for the tensor embed.weight")
        #expect(try refusal("\"blocks\":\"", "\"blocks\":\"00000000")
            == damaged + "an impossible entry for the file model.safetensors")
        #expect(try refusal("\"blocks\":\"", "\"blocks\":\"0x")
            == damaged + "not a manifest (a bad value at files.Index 0.blocks)")
    }
}
