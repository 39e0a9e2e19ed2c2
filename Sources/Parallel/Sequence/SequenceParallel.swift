import Collectives
import Model
import Recipe
import Tensor

/// A group's part of a step: documents of the step's rows, which the ranks share as `method` says.
public struct SequenceTask: Sendable, Equatable {
    /// Tokens of the rows, a document each.
    public var documents: [Range<Int>]
    /// In order. One rank alone shares with nobody.
    public var ranks: [Int]
    public var method: Recipe.ContextMethod

    public init(documents: [Range<Int>], ranks: [Int], method: Recipe.ContextMethod) {
        (self.documents, self.ranks, self.method) = (documents, ranks, method)
    }
}

/// Ranks that share sequences: each group computes documents of its own, and of these every rank has some tokens.
/// Outside attention nothing is exchanged: a token's embedding, norms, MLP and loss are its rank's, its position is
/// that in the whole row, and the gradients of all ranks' tokens add up as those of all ranks' rows do.
///
/// Groups are neighbours, all of one size; or, where plans say who shares what, any ranks, and a rank is in several of
/// them during a step. Then all ranks take the step's tasks in one order, and begin no exchange of gradients before the
/// last of them: so the first task that is not done can always begin.
public final class SequenceParallel {
    public let attention: any SharedAttention
    private let communicator: Communicator
    /// This rank's, where all groups have one size.
    private let group: Group?
    private let method: Recipe.ContextMethod
    /// The groups of tasks so far, nil where this rank is in none.
    private var groups: [[Int]: Group?] = [:]
    private let memory: Arena

    /// Nil where no sequence is shared. Every rank makes it at the same time.
    public init?(_ recipe: Recipe, pool: Pool, communicator: Communicator?) throws(OutOfMemory) {
        guard let communicator, let sizes = recipe.sequenceMemory(worldSize: communicator.worldSize) else { return nil }
        self.communicator = communicator
        memory = try Arena(name: "sequence exchange", capacity: sizes.floats(
            recipe.model, threads: pool.threads, isRounded: recipe.precision.checked?.roundsAttention ?? false))
        if recipe.plansSequences {
            (group, method) = (nil, .auto)
        } else {
            let degree = recipe.contextDegree
            precondition(communicator.worldSize % degree == 0, "groups do not divide the ranks: see requireContext")
            let lists = (0..<(communicator.worldSize / degree)).map { Array(($0 * degree)..<(($0 + 1) * degree)) }
            guard let own = communicator.makeGroups(lists) else { preconditionFailure("a rank is in no group") }
            (group, method) = (own, recipe.contextMethod)
        }
        attention = sharedAttention(recipe.model, method, sizes,
                                    isRounded: recipe.precision.checked?.roundsAttention ?? false, pool: pool,
                                    communicator: communicator, memory: memory)
    }

    /// Whether this rank speaks for its group, where each group counts once.
    public var isFirst: Bool { (group?.index ?? communicator.rank) == 0 }

    /// This rank's part of rows of `sequence` tokens, of which documents begin at `starts`; the last start is where
    /// they end. For groups of one size.
    public func part(inputs: [Int32], targets: [Int32], starts: ArraySlice<Int32>, sequence: Int) -> SequencePart {
        guard let group else { preconditionFailure("tasks are planned") }
        let starts = Array(starts)
        return SequencePart(split(starts, method, group.size), origins: starts.map(Int.init), method, group,
                            inputs: inputs, targets: targets, sequence: sequence)
    }

    /// This rank's parts of a step's tasks, in their order. All ranks pass the same tasks.
    public func parts(of tasks: [SequenceTask], inputs: [Int32], targets: [Int32], sequence: Int) -> [SequencePart] {
        var first = 0
        return tasks.compactMap { task in
            let group = madeGroup(task.ranks)
            let starts = task.documents.reduce(into: [Int32(0)]) { $0.append($0[$0.count - 1] + Int32($1.count)) }
            let before = first
            first += Int(starts[starts.count - 1])
            guard let group else { return nil }
            var part = SequencePart(split(starts, task.method, group.size), origins: task.documents.map(\.lowerBound),
                                    task.method, group, inputs: inputs, targets: targets, sequence: sequence)
            part.firstToken = (0..<group.index).reduce(before) { $0 + part.split.count(of: $1) }
            return part
        }
    }

    /// Every rank makes the groups of all tasks, so that all count them alike.
    private func madeGroup(_ ranks: [Int]) -> Group? {
        if let known = groups[ranks] { return known }
        let made = communicator.makeGroup(ranks)
        groups[ranks] = .some(made)
        return made
    }

    private func split(_ starts: [Int32], _ method: Recipe.ContextMethod, _ degree: Int) -> SequenceSplit {
        method == .ulysses ? .contiguous(starts: starts, degree: degree) : .zigzag(starts: starts, degree: degree)
    }

    /// The forwards and backwards that follow are of this part.
    public func begin(_ part: SequencePart) {
        (attention as? PlannedAttention)?.choose(part.method)
        attention.begin(part.split, in: part.group)
    }
}

/// What one rank computes of a task.
public struct SequencePart: Sendable {
    public let split: SequenceSplit
    public let method: Recipe.ContextMethod
    let group: Group
    private let inputs: [Int32]
    private let targets: [Int32]
    private let positions: [Int32]
    private let starts: [Int32]
    private let sequence: Int
    public let targetCount: Int
    /// Where this rank's tokens begin among those of the step's tasks: a number for random ones to come from.
    public fileprivate(set) var firstToken = 0

    /// `origins`: where each of the task's documents begins among `inputs` and `targets`, in rows of `sequence`.
    init(_ split: SequenceSplit, origins: [Int], _ method: Recipe.ContextMethod, _ group: Group, inputs: [Int32],
         targets: [Int32], sequence: Int) {
        (self.split, self.method, self.group, self.sequence) = (split, method, group, sequence)
        let places = split.pieces[group.index].map { piece in
            let offset = origins[piece.segment] - Int(split.starts[piece.segment])
            return (piece.tokens.lowerBound + offset)..<(piece.tokens.upperBound + offset)
        }
        let count = split.count(of: group.index)
        func taken<Value>(_ each: (_ token: Int) -> Value) -> [Value] {
            var values: [Value] = []
            values.reserveCapacity(count)
            for place in places { for token in place { values.append(each(token)) } }
            return values
        }
        self.inputs = taken { inputs[$0] }
        let own = taken { targets[$0] }
        self.targets = own
        positions = taken { Int32($0 % sequence) }
        starts = split.localStarts(of: group.index)
        targetCount = own.reduce(0) { $0 + ($1 < 0 ? 0 : 1) }
    }

    /// The part as the model takes it. The views into its arrays are good for the time of `body`. `firstToken`: of the
    /// whole micro-batch, among those of the step.
    public func withMicroBatch<Result>(firstToken: Int = 0, _ body: (MicroBatch) throws -> Result) rethrows -> Result {
        let count = inputs.count
        return try Targets.lend(inputs, count: count) { inputs in
            try Targets.lend(targets, count: count) { targets in
                try Targets.lend(positions, count: count) { positions in
                    try Targets.lend(starts, count: starts.count) { starts in
                        try body(MicroBatch(inputs: inputs, targets: targets, segments: Segments(starts),
                                            sequence: sequence, positions: positions, firstToken: firstToken))
                    }
                }
            }
        }
    }
}
