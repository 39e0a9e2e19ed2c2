import Base
import Foundation
import Storage
import Testing

@Suite struct FolderLockTests {
    private func inFolder(_ body: (String) throws -> Void) throws {
        let path = FileManager.default.temporaryDirectory.path + "/skein-\(UUID().uuidString)"
        try RealDisk().createFolder(path)
        defer { try? FileManager.default.removeItem(atPath: path) }
        try body(path)
    }

    /// The kernel's lock belongs to the open file, so that a second one in this process meets it as well.
    @Test func oneOwnerAtATime() throws {
        try inFolder { folder in
            var first: FolderLock? = try FolderLock(folder, orSay: "taken")
            #expect(throws: BadInput("it is taken")) { try FolderLock(folder, orSay: "it is taken") }
            withExtendedLifetime(first) {}
            first = nil
            _ = try FolderLock(folder, orSay: "taken")
            #expect(try RealDisk().list(folder) == [FolderLock.fileName])
        }
    }

    /// The lock of a killed process goes with it, whatever file it leaves.
    @Test func aDeadOwnerHoldsNothing() throws {
        try inFolder { folder in
            let process = Process()
            process.executableURL = URL(fileURLWithPath: "/bin/sh")
            process.arguments = ["-c", "exec 9>\"$0/.lock\"; flock -n 9 && touch \"$0/held\" && exec sleep 60", folder]
            try process.run()
            while process.isRunning, try RealDisk().kind(folder + "/held") == nil { usleep(2_000) }
            #expect(throws: BadInput.self) { try FolderLock(folder, orSay: "taken") }
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
            _ = try FolderLock(folder, orSay: "taken")
        }
    }

    @Test func replacingLeavesOneFile() throws {
        try inFolder { folder in
            let disk = RealDisk(), path = folder + "/file"
            try disk.replace(path, with: [[1, 2], [], [3]])
            _ = FileManager.default.createFile(atPath: path + ".tmp", contents: Data([9]))
            try disk.replace(path, with: [[4]])
            #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == Data([4]))
            #expect(try disk.list(folder) == ["file"])
        }
    }

    /// The kernel's own /proc knows no sync of a folder; nor do CIFS and FUSE. That is said once, and is no failure.
    @Test func aFolderThatCannotBeSynced() throws {
        _ = StorageWarnings.take()
        try RealDisk().syncFolder("/proc")
        try RealDisk().syncFolder("/proc/self")
        let warnings = StorageWarnings.take()
        #expect(warnings.count == 1 && warnings[0].hasPrefix("/proc: this file system cannot sync a folder"))
        #expect(throws: DiskError.self) { try RealDisk().syncFolder("/proc/nothing") }
        #expect(StorageWarnings.take().isEmpty)
    }
}
