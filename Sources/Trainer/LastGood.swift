import Base

/// Which checkpoint is known to be good, and when a run has lost its way.
///
/// A step whose loss or gradient is not finite leaves the weights as they were. So if several come in a row, on
/// different data, it is the weights that are no good any more, and no further step will mend them: they were ruined by
/// the last update, or before it. A checkpoint is *good* once a later step has found loss and gradient finite with its
/// weights; the newest one is only a candidate until then, and older ones must not be removed for it.
package struct LastGood {
    private let limit: Int
    private var candidate: (step: Int, path: String)?
    package private(set) var confirmed: (step: Int, path: String)?
    /// Steps in a row that changed nothing, and the first of them, counted from 1.
    package private(set) var skipped = 0
    private var since = 0

    /// limit: `training.max_nonfinite_steps`, 0 is no limit.
    package init(limit: Int) { self.limit = limit }

    /// A checkpoint that the run begins with, or has written.
    package mutating func saved(step: Int, path: String) { candidate = (step, path) }

    /// Takes note of step `done` (counted from 1). Returns whether the newest checkpoint has just proved good.
    package mutating func add(step done: Int, updated: Bool) -> Bool {
        guard updated else {
            if skipped == 0 { since = done }
            skipped += 1
            return false
        }
        skipped = 0
        guard let proven = candidate else { return false }
        (confirmed, candidate) = (proven, nil)
        return true
    }

    /// The run must end.
    package var isLost: Bool { limit > 0 && skipped >= limit }

    /// What to say then. `folder`: the run's. `tensor`: what was found not to be finite, if anything was.
    package func fault(_ folder: String, tensor: String? = nil) -> NonFinite {
        let good = confirmed.map {
            "the last good checkpoint is \($0.path); go on from it by --checkpoint.load latest, with a lower "
                + "optimizer.lr or training.max_norm"
        } ?? candidate.map {
            "no checkpoint is known to be good (the weights of \($0.path) gave this); begin another run with a lower "
                + "optimizer.lr or training.max_norm"
        } ?? "nothing was saved before; begin another run with a lower optimizer.lr or training.max_norm"
        return NonFinite(description: "loss or gradient is not finite since step \(Units.grouped(since)), in "
            + "\(skipped) step\(skipped == 1 ? "" : "s") in a row (training.max_nonfinite_steps = \(limit)"
            + (tensor.map { "; first \($0)" } ?? "") + "); "
            + "the run in \(folder) ends: \(good)")
    }
}

/// Training has diverged. No input was wrong in itself, so it counts as a fault while running.
public struct NonFinite: Fault, Equatable {
    public let description: String
    public var kind: FaultKind { .running }
}
