import Base
import Storage
import Foundation
import Glibc
import Testing

/// The kernel keeps the contract that the rest is tested against.
@Suite struct RealDiskTests {
    private let disk = RealDisk()

    private func inFolder(_ body: (String) throws -> Void) throws {
        let path = FileManager.default.temporaryDirectory.path + "/skein-\(UUID().uuidString)"
        try disk.createFolder(path)
        defer { try? FileManager.default.removeItem(atPath: path) }
        try body(path)
    }

    private func code(_ body: () throws(DiskError) -> Void) -> Int32? {
        do throws(DiskError) { try body() } catch { return error.code }
        return nil
    }

    @Test func filesAndFolders() throws {
        try inFolder { folder in
            let path = folder + "/file"
            #expect(try disk.kind(path) == nil)
            #expect(try disk.kind(path + "/below") == nil)
            #expect(try disk.kind(folder) == .folder)
            #expect(try disk.kind("/dev/null") == .other)
            let file = try disk.create(path, size: 10)
            #expect(try disk.kind(path) == .file(size: 10))
            try unsafe [UInt8]([1, 2, 3]).withUnsafeBytes { try unsafe disk.write($0, to: file, at: 7) }
            try disk.sync(file)
            disk.close(file)
            try disk.syncFolder(folder)
            let again = try disk.open(path)
            var bytes = [UInt8](repeating: 9, count: 4)
            try unsafe bytes.withUnsafeMutableBytes { try unsafe disk.read(into: $0, from: again, at: 6) }
            #expect(bytes == [0, 1, 2, 3])
            let error = #expect(throws: DiskError.self) {
                try unsafe bytes.withUnsafeMutableBytes { try unsafe disk.read(into: $0, from: again, at: 7) }
            }
            #expect(error?.description == "cannot read \(path): the file ends too early")
            disk.close(again)
            disk.close(try disk.create(folder + "/empty", size: 0))
            try disk.rename(path, to: folder + "/empty")
            #expect(try disk.list(folder) == ["empty"])
            #expect(try disk.kind(folder + "/empty") == .file(size: 10))
            try disk.remove(folder + "/empty")
            #expect(try disk.list(folder) == [])
        }
    }

    @Test func refusals() throws {
        try inFolder { folder in
            let path = folder + "/file"
            disk.close(try disk.create(path, size: 1))
            #expect(code { () throws(DiskError) in _ = try disk.create(path, size: 1) } == EEXIST)
            #expect(code { () throws(DiskError) in try disk.createFolder(folder) } == EEXIST)
            #expect(code { () throws(DiskError) in try disk.createFolder(folder + "/a/b") } == ENOENT)
            #expect(code { () throws(DiskError) in _ = try disk.open(folder + "/none") } == ENOENT)
            #expect(code { () throws(DiskError) in _ = try disk.list(path) } == ENOTDIR)
            #expect(code { () throws(DiskError) in try disk.remove(folder + "/none") } == ENOENT)
            #expect(code { () throws(DiskError) in try disk.rename(folder + "/none", to: path) } == ENOENT)
            #expect(code { () throws(DiskError) in try disk.removeFolder(folder) } == ENOTEMPTY)
            #expect(code { () throws(DiskError) in try disk.syncFolder(folder + "/none") } == ENOENT)
            // More than any disk has: refused while reserving, and nothing was written.
            let error = #expect(throws: DiskError.self) { try disk.create(folder + "/big", size: 1 << 62) }
            #expect(error?.description.hasPrefix("cannot reserve 4194304.0 TiB for \(folder)/big: ") == true)
        }
    }

    /// What was reserved too much is given back, and the rest is as it was.
    @Test func cutting() throws {
        try inFolder { folder in
            let path = folder + "/file", file = try disk.create(path, size: 1 << 20)
            defer { disk.close(file) }
            try unsafe [UInt8]([1, 2, 3]).withUnsafeBytes { try unsafe disk.write($0, to: file, at: 0) }
            try disk.cut(file, to: 2)
            try disk.sync(file)
            #expect(try disk.kind(path) == .file(size: 2))
            #expect(try FileManager.default.contents(atPath: path) == Data([1, 2]))
            var status = stat()
            unsafe #expect(stat(path, &status) == 0 && status.st_blocks * 512 <= 1 << 16)
        }
    }

    /// After it is given up, nothing gets further, and what was begun can be removed.
    @Test func cancelling() throws {
        try inFolder { folder in
            let cancellable = CancellableDisk(disk), path = folder + "/file"
            let file = try cancellable.create(path, size: 4)
            try unsafe [UInt8]([1, 2]).withUnsafeBytes { try unsafe cancellable.write($0, to: file, at: 0) }
            cancellable.cancel()
            #expect(code { () throws(DiskError) in
                try unsafe [UInt8]([1, 2]).span.bytes.withUnsafeBytes { bytes throws(DiskError) in
                    try unsafe cancellable.write(bytes, to: file, at: 0)
                }
            } == ECANCELED)
            #expect(code { () throws(DiskError) in try cancellable.sync(file) } == ECANCELED)
            #expect(code { () throws(DiskError) in try cancellable.cut(file, to: 1) } == ECANCELED)
            #expect(code { () throws(DiskError) in _ = try cancellable.create(path + "2", size: 1) } == ECANCELED)
            #expect(code { () throws(DiskError) in try cancellable.createFolder(path + "3") } == ECANCELED)
            #expect(code { () throws(DiskError) in try cancellable.rename(path, to: path + "4") } == ECANCELED)
            cancellable.close(file)
            #expect(try cancellable.list(folder) == ["file"])
            #expect(try cancellable.kind(path) == .file(size: 4))
            try cancellable.remove(path)
            #expect(try cancellable.list(folder) == [])
        }
    }

    @Test func paths() {
        for (path, folder, name) in [("a", ".", "a"), ("/a", "/", "a"), ("a/b", "a", "b"),
                                     ("a//b//", "a", "b"), ("/", "/", "")] {
            #expect(split(path) == (folder, name), "\(path)")
        }
    }
}
