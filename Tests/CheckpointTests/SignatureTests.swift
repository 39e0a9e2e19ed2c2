import Base
import Checkpoint
import Crypto
import Testing

/// With a key, only what bears its signature is loaded.
@Suite struct SignatureTests {
    private let disk = FaultyDisk()
    private let key = CheckpointKey(bytes: (0..<32).map { UInt8($0 * 7) })
    private let other = CheckpointKey(bytes: (0..<32).map { UInt8($0 * 7 + ($0 == 31 ? 1 : 0)) })

    private func open(_ step: Int, _ key: CheckpointKey?) -> String? {
        do throws(CheckpointError) {
            _ = try Checkpoint.open(Fixture.folder + "/step-\(step)", key: key, disk: disk)
        } catch {
            #expect(error.kind == .badInput)
            return error.description
        }
        return nil
    }

    @Test func whoOpensWhat() throws {
        try Fixture(step: 10).save(on: disk)
        let path = try Fixture(step: 20).save(on: disk, options: SaveOptions(key: key))
        let text = try #require(disk.bytes(path + "/manifest.json").map { String(decoding: $0, as: UTF8.self) })
        #expect(text.split(separator: "\n")[2].hasPrefix("\"hmac_sha256\":\""))
        #expect(open(10, nil) == nil && open(20, nil) == nil && open(20, key) == nil)
        #expect(open(10, key) == "/run/checkpoint/step-10/manifest.json is not signed, and a key is given; load it "
            + "without checkpoint.key_file if you trust whoever could write there")
        #expect(open(20, other) == "/run/checkpoint/step-20/manifest.json is signed with another key, or was changed "
            + "by somebody without it; give the key file that it was saved with")
        #expect(try Checkpoint.open(path, disk: disk).manifest.isSigned)
        try Fixture(step: 20).expectEqual(try Checkpoint.open(path, key: key, disk: disk))
        #expect("\(key)" == "checkpoint key (hidden)")
    }

    /// The signature is the HMAC of what follows its line, as any other program computes it.
    @Test func theBytes() throws {
        let path = try Fixture(step: 20).save(on: disk, options: SaveOptions(key: key))
        let lines = String(decoding: try #require(disk.bytes(path + "/manifest.json")), as: UTF8.self)
            .split(separator: "\n", maxSplits: 3)
        let secret = SymmetricKey(data: (0..<32).map { UInt8($0 * 7) })
        let code = HMAC<SHA256>.authenticationCode(for: Array(lines[3].utf8), using: secret)
        #expect(lines[2] == "\"hmac_sha256\":\"\(hexadecimal(code))\",")
        let body = Array((lines[2] + "\n" + lines[3]).utf8)
        #expect(lines[1] == "\"self_sha256\":\"\(hexadecimal(SHA256.hash(data: body)))\",")
    }

    /// Somebody without the key changes the manifest and makes its own hash right again.
    @Test func forgeries() throws {
        try Fixture(step: 10).save(on: disk, options: SaveOptions(key: key))
        let file = try Fixture(step: 20).save(on: disk, options: SaveOptions(key: key)) + "/manifest.json"
        let lines = String(decoding: try #require(disk.bytes(file)), as: UTF8.self)
            .split(separator: "\n", maxSplits: 2).map(String.init)
        func rehashed(_ body: String) -> [UInt8] {
            Array("{\n\"self_sha256\":\"\(hexadecimal(SHA256.hash(data: Array(body.utf8))))\",\n\(body)".utf8)
        }
        let unsigned = lines[2].split(separator: "\n", maxSplits: 1).map(String.init)[1]
        let forged = [lines[2].replacing("\"step\":20", with: "\"step\":21"), unsigned,
                      lines[2].replacing("\"hmac_sha256\":\"", with: "\"hmac_sha256\":\"0")]
        for body in forged {
            disk.tamper(file) { $0 = rehashed(body) }
            // Not passed over for an older one: that would hide an attack, or a wrong key file.
            let error = #expect(throws: CheckpointError.self) {
                try CheckpointFolder(Fixture.folder, key: key, disk: disk).latest()
            }
            guard case .notTrusted? = error else {
                Issue.record("\(String(describing: error))")
                continue
            }
        }
    }

    /// A flip in a signed manifest is damage like any other: the step before is used.
    @Test func everyByteOfASignedManifest() throws {
        try Fixture(step: 10).save(on: disk, options: SaveOptions(key: key))
        let file = try Fixture(step: 20).save(on: disk, options: SaveOptions(key: key)) + "/manifest.json"
        let folder = CheckpointFolder(Fixture.folder, key: key, disk: disk)
        for position in 0..<(try #require(disk.bytes(file))).count {
            disk.tamper(file) { $0[position] ^= 0x20 }
            let found = try folder.latest()
            #expect(found.checkpoint.step == 10 && found.warnings.count == 1, "byte \(position)")
            disk.tamper(file) { $0[position] ^= 0x20 }
        }
        #expect(try folder.latest().checkpoint.step == 20)
    }
}
