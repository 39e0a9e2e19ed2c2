import Base
import Storage

/// The checkpoints of one run: `outputs/NAME/checkpoint/step-N`.
public struct CheckpointFolder: Sendable {
    public let path: String
    /// If there is one, only checkpoints that are signed with it are opened.
    public let key: CheckpointKey?
    public let disk: any Disk

    public init(_ path: String, key: CheckpointKey? = nil, disk: any Disk = RealDisk()) {
        self.path = trimmingSlashes(path)
        self.key = key
        self.disk = disk
    }

    /// The steps that have a folder, finished or not, newest first. Empty if the folder is missing.
    public func steps() throws(CheckpointError) -> [Int] {
        guard try onDisk({ () throws(DiskError) in try disk.kind(path) }) == .folder else { return [] }
        let names = try onDisk { () throws(DiskError) in try disk.list(path) }
        return names.compactMap { name in
            // Only the name that we would have given: not "step-007", not "step-20.bak".
            guard let step = Int(name.dropFirst(5)), step >= 0, name == stepName(step) else { return nil }
            return step
        }.sorted(by: >)
    }

    /// The newest checkpoint of which every byte is as it was written. For each newer one that was passed
    /// over, because it is damaged or was never finished, there is a warning that says what is wrong with it.
    /// - Throws: `.notFound` if there is none, with the same reasons. Whatever else keeps a newer one from being read
    ///   (an I/O error, another version's format, not our signature) is thrown as it is: to go back for it would cost
    ///   steps that are there.
    public func latest() throws(CheckpointError) -> (checkpoint: Checkpoint, warnings: [String]) {
        var reasons: [String] = []
        for step in try steps() {
            do throws(CheckpointError) {
                let checkpoint = try Checkpoint.open(joined(path, stepName(step)), key: key, disk: disk)
                try checkpoint.requireWhole()
                return (checkpoint, reasons.map { "\($0); going back to step \(step)" })
            } catch {
                switch error {
                case .damaged, .notFound: reasons.append(error.description)
                case .disk, .notWritten, .exists, .mismatch, .notTrusted: throw error
                }
            }
        }
        let why = reasons.isEmpty ? "there is no step-N folder in it" : reasons.joined(separator: "; ")
        throw .notFound("no usable checkpoint in \(path): \(why)")
    }

    /// Removes all but the newest `count` finished checkpoints, and what interrupted saves have left below
    /// them. To be called after a save. Nothing is removed unless one of those that stay has been read back
    /// and found whole: a checkpoint that only looks finished must not cost the last good one.
    /// Returns what went wrong, a line each; a checkpoint that cannot be removed is no reason to stop.
    public func retain(last count: Int) throws(CheckpointError) -> [String] {
        precondition(count >= 1, "keep_latest_k must be at least 1")
        var kept: [Checkpoint] = [], older: [Int] = []
        for step in try steps() {
            if kept.count == count {
                older.append(step)
            } else if let checkpoint = try? Checkpoint.open(joined(path, stepName(step)), key: key, disk: disk) {
                kept.append(checkpoint)
            }
        }
        guard !older.isEmpty else { return [] }
        guard kept.contains(where: { $0.verify().isEmpty }) else {
            return ["none of the newest \(count) checkpoints in \(path) is whole; older ones are kept"]
        }
        var warnings: [String] = []
        for step in older {
            do throws(DiskError) {
                try removeCheckpoint(joined(path, stepName(step)), disk)
            } catch {
                warnings.append("an old checkpoint stays: \(error)")
            }
        }
        return warnings
    }

    /// Renames the folders of later steps to `step-N.superseded`: a run that goes on from `step` will write
    /// those steps again, and until then they must not count as the newest. An earlier `.superseded` of the
    /// same step is removed. Returns the new paths.
    public func setAside(after step: Int) throws(CheckpointError) -> [String] {
        var paths: [String] = []
        for later in try steps() where later > step {
            let old = joined(path, stepName(later)), new = old + ".superseded"
            try onDisk { () throws(DiskError) in
                if try disk.kind(new) != nil { try removeCheckpoint(new, disk) }
                try disk.rename(old, to: new)
            }
            paths.append(new)
        }
        if !paths.isEmpty { try onDisk { () throws(DiskError) in try disk.syncFolder(path) } }
        return paths
    }
}

extension Checkpoint {
    /// The checkpoint that a person means by `path`: a `step-N` folder itself, or the latest of a run
    /// (`outputs/NAME`) or of a run's `checkpoint` folder. Warnings as in `CheckpointFolder.latest`.
    public static func locate(_ path: String, key: CheckpointKey? = nil, disk: any Disk = RealDisk())
        throws(CheckpointError) -> (checkpoint: Checkpoint, warnings: [String]) {
        let path = trimmingSlashes(path)
        func kind(_ path: String) throws(CheckpointError) -> PathKind? {
            try onDisk { () throws(DiskError) in try disk.kind(path) }
        }
        switch try kind(path) {
        case nil: throw .notFound("\(path) does not exist")
        case .file, .other: throw .notFound("\(path) is not a folder; give a checkpoint's or a run's folder")
        case .folder: break
        }
        if try kind(joined(path, Manifest.fileName)) != nil { return (try open(path, key: key, disk: disk), []) }
        let inRun = CheckpointFolder(joined(path, "checkpoint"), key: key, disk: disk)
        if try kind(inRun.path) == .folder { return try inRun.latest() }
        let itself = CheckpointFolder(path, key: key, disk: disk)
        if try !itself.steps().isEmpty { return try itself.latest() }
        let names = try onDisk { () throws(DiskError) in try disk.list(path) }
        let ours = names.contains { Manifest.fileKind($0) == .model }
        throw .notFound(ours
            ? "\(path) is not a finished checkpoint: it has no \(Manifest.fileName)"
            : "\(path) holds no checkpoint: neither \(Manifest.fileName) nor checkpoint/step-N")
    }
}
