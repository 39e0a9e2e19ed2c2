import Collectives
import Model
import Recipe
import Tensor

/// Ranks that share sequences: neighbours make a group, each group computes rows of its own, and of these every rank
/// has some tokens. Outside attention nothing is exchanged: a token's embedding, norms, MLP and loss are its rank's,
/// its position is that in the whole row, and the gradients of all ranks' tokens add up as those of all ranks' rows do.
public final class SequenceParallel {
    public let attention: any SharedAttention
    private let group: Group
    private let method: Recipe.ContextMethod
    private let memory: Arena

    /// Nil where the recipe shares no sequence. Every rank makes it at the same time.
    public init?(_ recipe: Recipe, pool: Pool, communicator: Communicator?) throws(OutOfMemory) {
        guard let sizes = recipe.sequenceMemory, let communicator else { return nil }
        let degree = recipe.contextDegree
        precondition(communicator.worldSize % degree == 0, "groups do not divide the ranks: see requireContext")
        let lists = (0..<(communicator.worldSize / degree)).map { Array(($0 * degree)..<(($0 + 1) * degree)) }
        guard let group = communicator.makeGroups(lists) else { preconditionFailure("a rank is in no group") }
        self.group = group
        method = recipe.contextMethod
        memory = try Arena(name: "sequence exchange", capacity: sizes.floats(recipe.model, threads: pool.threads))
        attention = sharedAttention(recipe.model, method, sizes,
                                    isRounded: recipe.precision.checked?.roundsAttention ?? false, pool: pool,
                                    communicator: communicator, memory: memory)
    }

    /// Whether this rank speaks for its group, where each group counts once.
    public var isFirst: Bool { group.index == 0 }

    /// This rank's part of rows of `sequence` tokens: `inputs` and `targets`, of which documents begin at `starts`; the
    /// last start is where they end.
    public func part(inputs: [Int32], targets: [Int32], starts: ArraySlice<Int32>, sequence: Int) -> SequencePart {
        let split: SequenceSplit = method == .ulysses ? .contiguous(starts: Array(starts), degree: group.size)
            : .zigzag(starts: Array(starts), degree: group.size)
        return SequencePart(split, rank: group.index, inputs: inputs, targets: targets, sequence: sequence)
    }

    /// The forwards and backwards that follow are of this part.
    public func begin(_ part: SequencePart) { attention.begin(part.split, in: group) }
}

/// What one rank computes of a task.
public struct SequencePart: Sendable {
    public let split: SequenceSplit
    private let inputs: [Int32]
    private let targets: [Int32]
    private let positions: [Int32]
    private let starts: [Int32]
    private let sequence: Int
    public let targetCount: Int

    init(_ split: SequenceSplit, rank: Int, inputs: [Int32], targets: [Int32], sequence: Int) {
        self.split = split
        self.sequence = sequence
        let pieces = split.pieces[rank]
        self.inputs = pieces.flatMap { inputs[$0.tokens] }
        let own = pieces.flatMap { targets[$0.tokens] }
        self.targets = own
        positions = pieces.flatMap { $0.tokens.map { Int32($0 % sequence) } }
        starts = split.localStarts(of: rank)
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
