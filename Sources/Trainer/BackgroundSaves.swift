import Base
import Checkpoint
import Collectives

/// Saves that go on while training does (`checkpoint.async`): what is saved is copied, and written on a thread of its
/// own. One at a time; all ranks call the same functions at the same steps, and learn the same.
struct BackgroundSaves {
    /// A save that has come to its end.
    struct Finished {
        let step: Int
        /// Since it began, of which training waited for the copy alone.
        let seconds: Double
        /// Why it was given up, if it was.
        let failure: String?
    }

    private struct Pending {
        let moment: Moment
        let started: Double
        /// This rank's part; nil where rank 0 saves everything and this is another.
        let part: BackgroundSave<[UInt8]>?
        let whole: BackgroundSave<String>?
        var isDone: Bool { (part == nil || part?.outcome != nil) && (whole == nil || whole?.outcome != nil) }
    }

    private let snapshot: Snapshot
    private let writer: CheckpointWriter
    private let world: World
    /// Whether every rank writes what it holds.
    private let isTogether: Bool
    private var copy = TensorCopy()
    private var pending: Pending?

    init(_ snapshot: Snapshot, _ writer: CheckpointWriter, shared: Bool, by world: World) {
        self.snapshot = snapshot
        self.writer = writer
        self.world = world
        isTogether = shared && world.size > 1
    }

    /// Begins a save, when none is pending. Returns why it could not, if so.
    mutating func begin(_ moment: Moment) throws -> String? {
        precondition(pending == nil, "one save at a time")
        let step = Int(moment.position.step), isFirst = world.rank == 0, started = MonotonicClock.seconds()
        let tensors = try snapshot.tensors(together: isTogether, by: world)
        copy.take(model: tensors.model.map(\.source), optimizer: tensors.optimizer.map(\.source))
        guard isTogether else {
            let whole = isFirst ? writer.writeInBackground(snapshot.manifest(moment), recipe: snapshot.recipe.toml,
                                                           tokenizer: snapshot.tokenizer, copy) : nil
            pending = Pending(moment: moment, started: started, part: nil, whole: whole)
            return nil
        }
        let begun = try Snapshot.failure { if isFirst { try writer.begin(step: step) } }
        if let failure = try Snapshot.first(begun, of: world) { return failure }
        pending = Pending(moment: moment, started: started,
                          part: writer.writePartInBackground(step: step, world.rank, of: world.size, copy), whole: nil)
        return nil
    }

    /// The pending save, if there is one and all ranks have written, or are waited for.
    mutating func finish(waiting: Bool) throws -> Finished? {
        guard let save = pending else { return nil }
        var record: [UInt8] = []
        var failure: String?
        if waiting || save.isDone {
            failure = try Snapshot.failure {
                _ = try save.whole?.wait()
                record = try save.part?.wait() ?? []
            }
        }
        guard try world.sum(waiting || save.isDone ? 0 : 1) == 0 else { return nil }
        pending = nil
        let step = Int(save.moment.position.step)
        failure = try Snapshot.first(failure, of: world)
        if isTogether {
            if failure != nil, world.rank == 0 { writer.abandon(step: step) }
            if failure == nil { failure = try snapshot.commit(save.moment, with: writer, record, by: world) }
        }
        return Finished(step: step, seconds: MonotonicClock.seconds() - save.started, failure: failure)
    }
}
