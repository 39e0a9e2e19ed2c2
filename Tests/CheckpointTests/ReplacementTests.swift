import Storage
import Testing

/// A file that is replaced as a whole (a config, an index): after a power cut at any operation it is the old one or the
/// new one, and once the call has come back it is the new one, whatever the disk forgets.
@Suite struct ReplacementTests {
    private let path = "/run/config.toml"
    private let old = Array("old".utf8), new = Array("something new, and longer".utf8)

    private func replaced() throws -> FaultyDisk {
        let disk = FaultyDisk()
        try disk.createFolder("/run")
        try disk.syncFolder("/")
        try disk.replace(path, with: [old])
        return disk
    }

    @Test func whatCameBackIsDurable() throws {
        let disk = try replaced()
        disk.restart(.everything)
        #expect(disk.bytes(path) == old)
        try disk.replace(path, with: [Array(new.prefix(4)), Array(new.dropFirst(4))])
        disk.restart(.everything)
        #expect(disk.bytes(path) == new)
    }

    @Test func aCutLeavesOneOrTheOther() throws {
        let whole = try replaced()
        whole.fail(at: .max, .crash)
        try whole.replace(path, with: [new])
        for operation in 0..<whole.operations {
            for loss in [FaultyDisk.Loss.everything, .nothing, .random(seed: 1), .random(seed: 2), .random(seed: 3)] {
                let disk = try replaced()
                disk.fail(at: operation, .crash)
                #expect(throws: DiskError.self) { try disk.replace(path, with: [new]) }
                disk.restart(loss)
                let found = disk.bytes(path)
                #expect(found == old || found == new, "cut at operation \(operation), lost \(loss)")
                // And it can be replaced again, whatever was left beside it.
                try disk.replace(path, with: [new])
                #expect(disk.bytes(path) == new)
            }
        }
    }
}
