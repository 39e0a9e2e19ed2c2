import Base
import Checkpoint
import Recipe
import Storage
import Telemetry
import Wire

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// The folder of a run, `outputs/NAME`: what may begin in it, who owns it, and what lies there. Rank 0's, except for
/// `requireVisible`.
///
/// One process at a time works in it. It holds a `FolderLock` from `open` until it ends; for `latest` before it looks
/// which checkpoint is the newest, so that nobody saves another one behind its back.
final class RunFolder {
    let path: String
    private let recipe: Recipe
    /// Its text, with where each value came from.
    var config: String
    let disk = RealDisk()
    private var lock: FolderLock?
    private var madeFolder = false

    init(_ resolved: ResolvedRecipe) {
        let recipe = resolved.recipe
        config = resolved.toml
        self.recipe = recipe
        path = "\(recipe.job.dumpFolder)/\(recipe.job.name)"
    }

    var checkpoints: CheckpointFolder { CheckpointFolder("\(path)/checkpoint", key: key) }
    /// The key of `checkpoint.key_file`, if there is one; known from `requirePlace` on.
    private var key: CheckpointKey?

    /// Writes this run's checkpoints. Ranks other than 0 write their parts, which bear no signature.
    var writer: CheckpointWriter {
        let options = SaveOptions(compressesOptimizer: recipe.checkpoint.compression == .zstd, key: key)
        return CheckpointWriter(folder: "\(path)/checkpoint", options: options)
    }
    var metrics: String { "\(path)/metrics.jsonl" }

    /// What can be said before the data are read: a file where a folder has to be, and a run that is there already.
    func requirePlace() throws {
        if !recipe.checkpoint.keyFile.isEmpty { try readKey() }
        for path in foldersOnTheWay {
            switch try disk.kind(path) {
            case .file, .other: throw BadInput("\(path) is no folder; give another job.dump_folder or job.name")
            case .folder, nil: break
            }
        }
        if recipe.checkpoint.load != "latest" { try requireUnused() }
    }

    private func readKey() throws {
        key = CheckpointKey(bytes: try JobSecret.load(from: recipe.checkpoint.keyFile).bytes)
    }

    /// A folder that holds nothing of worth is begun in: a start that failed early must not stand in the way of the
    /// next. Steps that were reported, or anything that is not ours, are not touched.
    private func requireUnused() throws {
        guard try disk.kind(path) != nil else { return }
        guard try checkpoints.steps().isEmpty else {
            throw BadInput("\(path) exists; go on with it by --checkpoint.load latest, or begin another run with "
                + "--job.name NAME")
        }
        let ours = ["checkpoint", "report.html", "traces", "flight", "config.toml", "config.toml.tmp", "metrics.jsonl",
                    FolderLock.fileName, recipe.metrics.tensorBoardFolder]
        let stranger = try disk.list(path).sorted().first { !ours.contains($0) && !$0.hasPrefix(Meeting.fileName) }
        if let stranger {
            throw BadInput("\(path) exists, and holds \(stranger), which is no run's; begin another run with "
                + "--job.name NAME")
        }
        if case .file(let size)? = try disk.kind(metrics), size > 0 {
            throw BadInput("\(path) exists: a run that ended before it saved anything; begin again in it by "
                + "--checkpoint.load latest, or begin another run with --job.name NAME")
        }
    }

    /// Takes the folder for this process and finds the checkpoint to begin with; nil begins at step 0. `silently`:
    /// `latest` may find that nothing was saved yet without a word.
    func open(silently: Bool) throws -> Checkpoint? {
        guard recipe.checkpoint.load == "latest" else {
            let start = try named()
            try claim()
            return start
        }
        // A name that was mistyped must not become a folder.
        if try silently || disk.kind(path) != nil { try claim() }
        return try latest(silently)
    }

    /// Makes the folder and locks it.
    private func claim() throws {
        let wasThere = try disk.kind(path) != nil
        for path in foldersOnTheWay where try disk.kind(path) == nil { try createFolder(path) }
        madeFolder = !wasThere
        lock = try FolderLock(path, orSay: "another process is training in \(path); let it end, or begin another run "
            + "with --job.name NAME")
        // Another process may have been here since the first look, and have left again.
        if recipe.checkpoint.load != "latest" { try requireUnused() }
    }

    /// Another process may make the same folder at the same time, which is as good.
    private func createFolder(_ path: String) throws(DiskError) {
        do throws(DiskError) { try disk.createFolder(path) } catch {
            guard try disk.kind(path) == .folder else { throw error }
        }
    }

    /// Takes the folder of a run whose rank 0 is lost, unless it is this process's already. The lock goes with the
    /// process that held it, which may take a moment to be gone.
    func takeOver() throws {
        guard lock == nil else { return }
        if !recipe.checkpoint.keyFile.isEmpty { try readKey() }
        let limit = MonotonicClock.seconds() + 10
        while lock == nil {
            do {
                lock = try FolderLock(path, orSay: "the process that was rank 0 still works in \(path), or stands "
                    + "still in it; end it, and go on by --checkpoint.load latest")
            } catch is BadInput where MonotonicClock.seconds() < limit {
                usleep(20_000)
            }
        }
    }

    /// What a run begins with that has nothing left of itself but its folder; nil: it begins anew. The folder is this
    /// process's.
    func again() throws -> (found: Checkpoint?, isResumed: Bool) {
        guard try checkpoints.steps().isEmpty else { return (try latest(true), true) }
        let start = recipe.checkpoint.load == "latest" ? nil : try named()
        return (try start ?? weights(), start != nil)
    }

    /// Takes back a folder that this run has made and not used: a start that failed leaves nothing.
    func leave() {
        guard madeFolder, lock != nil, (try? disk.list(path)) == [FolderLock.fileName] else { return }
        try? disk.remove(joined(path, FolderLock.fileName))
        try? disk.removeFolder(path)
    }

    private func named() throws -> Checkpoint? {
        recipe.checkpoint.load.isEmpty ? nil : try whole(recipe.checkpoint.load)
    }

    /// The checkpoint whose weights a new run begins with.
    func weights() throws -> Checkpoint? {
        recipe.checkpoint.loadWeights.isEmpty ? nil : try whole(recipe.checkpoint.loadWeights)
    }

    private func whole(_ path: String) throws -> Checkpoint {
        let (checkpoint, warnings) = try Checkpoint.locate(path, key: key)
        for warning in warnings { Reporter.warn(warning) }
        // The signature is of hashes: only when all bytes have theirs is it a signature of the weights.
        if key != nil { try checkpoint.requireWhole() }
        return checkpoint
    }

    private func latest(_ silently: Bool) throws -> Checkpoint? {
        let isRun = try disk.kind("\(path)/config.toml") != nil
        if silently || isRun, try checkpoints.steps().isEmpty {
            if !silently { Reporter.warn("\(path) holds no checkpoint yet; beginning at step 0") }
            return nil
        }
        let (checkpoint, warnings) = try checkpoints.latest()
        for warning in warnings { Reporter.warn(warning) }
        return checkpoint
    }

    /// Leaves the resolved recipe in the folder. A run that goes back to an earlier step moves later checkpoints
    /// aside, so that `latest` means this run.
    func prepare(resumingAfter step: Int?) throws {
        if let step, recipe.checkpoint.load == "latest" { try setAside(after: step) }
        try disk.replace("\(path)/config.toml", with: [Array(config.utf8)])
    }

    func setAside(after step: Int) throws {
        for moved in try checkpoints.setAside(after: step) { Reporter.warn("\(moved): a later step was set aside") }
    }

    /// Leaves a trace. Returns its path.
    func write(_ trace: StepTrace.Result) throws -> String {
        if try disk.kind("\(path)/traces") == nil { try disk.createFolder("\(path)/traces") }
        let file = "\(path)/traces/steps-\(trace.steps.lowerBound)-\(trace.steps.upperBound).json"
        try disk.replace(file, with: [trace.json])
        return file
    }

    /// Leaves what a rank was doing when it failed, wherever the run's folder is on its disk, and returns the path. A
    /// failure is not made worse by a disk that fails, too.
    func leave(_ flightRecord: String, of rank: Int) -> String? {
        do throws(DiskError) {
            guard try disk.kind("\(path)/config.toml") != nil else { return nil }
            if try disk.kind("\(path)/flight") == nil { try createFolder("\(path)/flight") }
            let file = "\(path)/flight/rank-\(rank).jsonl"
            try disk.replace(file, with: [Array(flightRecord.utf8)])
            return file
        } catch {
            return nil
        }
    }

    /// Ranks that save together must see what rank 0 has made; better to say so now than at the first save.
    func requireVisible(to rank: Int) throws {
        if try disk.kind(path) == nil {
            throw BadInput("\(path), which rank 0 made, is not on rank \(rank)'s disk; let all ranks share "
                + "job.dump_folder, or let rank 0 save everything by --checkpoint.shared false")
        }
    }

    /// The run's folder and those it lies in, the outermost first.
    private var foldersOnTheWay: [String] {
        path.indices.filter { path[$0] == "/" && $0 > path.startIndex }.map { String(path[..<$0]) } + [path]
    }
}
