import Base
import Checkpoint
import Collectives
import Corpus
import Model
import Parallel
import Recipe
import Wire

/// A recipe's memory on this machine, reckoned before anything is read or taken.
public struct PlannedMemory {
    public let recipe: Recipe
    public let setting: MemoryPlan.Setting
    public let plan: MemoryPlan
    private let localRanks: Int

    /// `ranks`, `localRanks`: of the job, and of it on this machine.
    public init(_ recipe: Recipe, ranks: Int = 1, localRanks: Int = 1) throws(BadInput) {
        // Formats that do not exist are found before anything is read.
        _ = try LinearFormats.of(recipe)
        let held = MemoryFiles().resident ?? 0
        self.recipe = recipe
        self.localRanks = localRanks
        let mapped = try mappedData(ofSources: recipe.data.paths)
        let vocabulary = try recipe.vocabulary(ofTokens: openTokenizer(recipe).vocabularySize)
        setting = MemoryPlan.Setting(vocabulary: vocabulary, ranks: ranks,
                                     threads: max(1, Machine.cores() / localRanks),
                                     textBytes: try fileBytes(ofSources: recipe.data.paths),
                                     mappedTokens: mapped.tokens, documents: mapped.documents, processBytes: held,
                                     communicationBytes: Self.communicationBytes(recipe, ranks: ranks,
                                                                                 localRanks: localRanks),
                                     state: try Self.state(recipe, vocabulary: vocabulary, ranks: ranks))
        plan = MemoryPlan(recipe, setting)
    }

    /// The largest of all ranks': shares differ by a few blocks, and by whole matrices where those have one owner.
    static func state(_ recipe: Recipe, vocabulary: Int, ranks: Int) throws(BadInput) -> MemoryPlan.State {
        let table = ParameterTable(recipe.model, vocabulary: vocabulary)
        let plan = try ShardPlan(table, recipe: recipe, worldSize: ranks)
        let layouts = (0..<ranks).map { StateLayout(plan, rank: $0, recipe: recipe) }
        let largest = layouts.max { $0.floats < $1.floats } ?? layouts[0]
        let saves = recipe.checkpoint.enable && recipe.checkpoint.async && recipe.checkpoint.interval > 0
        // Of parameters that all hold, each rank writes a part, if all write.
        let writers = recipe.checkpoint.shared ? ranks : 1
        let written = largest.sharesWeights ? largest.parameters : largest.parameters / writers
        let copy = saves ? written + largest.moments : 0
        let files = [4 * written, 4 * largest.moments], isCompressed = recipe.checkpoint.compression == .zstd
        let writing = recipe.checkpoint.enable
            ? max(writingBytes(content: files[0], compressed: false),
                  writingBytes(content: files[1], compressed: isCompressed)) : 0
        let kept = keptFloats(recipe, plan, largest)
        return MemoryPlan.State(parameters: 4 * largest.parameters, gradients: 4 * largest.gradients,
                                moments: 4 * largest.moments, slots: 4 * largest.slots,
                                scratch: 4 * largest.scratch, copy: 4 * copy, writing: writing,
                                kept: 4 * kept.held)
    }

    /// Floats of the copies that `launch.redundancy` keeps: two slots of a rank's share, and two of its neighbour's;
    /// and as much again for the moment in which a recovery has those of both lives. Sent: in a step, by a rank. See
    /// `KeptLayout`.
    private static func keptFloats(_ recipe: Recipe, _ plan: ShardPlan, _ layout: StateLayout)
        -> (held: Int, sent: Int) {
        let ranks = plan.worldSize
        guard recipe.isElastic, recipe.launch.redundancy > 0, ranks > 1 else { return (0, 0) }
        let parts = [(layout.parameters, layout.sharesWeights), (layout.moments, plan.counts.optimizer > 1)]
        let share = parts.reduce(0) { $0 + ($1.1 ? $1.0 : ($1.0 + ranks - 1) / ranks) }
        return (8 * share, parts.reduce(0) { $0 + ($1.1 ? $1.0 : 0) })
    }

    /// Bytes that a rank sends of its share in a step, for its neighbour to hold.
    public static func copiedBytes(_ recipe: Recipe, _ plan: ShardPlan) -> Int {
        4 * keptFloats(recipe, plan, StateLayout(plan, rank: 0, recipe: recipe)).sent
    }

    /// The segments where summands wait; as many again where frames may be sealed, for what is on its way; the buffer
    /// for early messages of the one peer whose sums come in (other peers' hold a few words); the memory shared with
    /// each peer on this machine; and what cryptography, the loop and the helper thread take (measured at 2, 3 and 4
    /// ranks: 2 to 4 MiB). Messages that are queued take none: the network takes one when it can send it.
    private static func communicationBytes(_ recipe: Recipe, ranks: Int, localRanks: Int) -> Int {
        guard ranks > 1 else { return 0 }
        let staging = CommunicatorOptions().stagingBytes(worldSize: ranks)
        let copies = recipe.communication.protection == .checked ? 1 : 2
        let isShared = recipe.communication.transport != .tcp && localRanks - 1 <= Transport.sharedPeerLimit
        let shared = isShared ? (localRanks - 1) * Transport.sharedByteCount : 0
        return copies * staging + shared + MeshOptions.defaultEarlyByteCount + 2 << 20
    }

    /// Whether `requireRoom` passes.
    public var hasRoom: Bool {
        Machine.availableMemory().map { plan.neededBytes <= $0.bytes / localRanks } ?? true
    }

    /// Bytes that a rank may hold in all; nil where nothing says.
    public var roomBytes: Int? { Machine.availableMemory().map { $0.bytes / localRanks + plan.processBytes } }

    /// Refuses a run that this machine, or the cgroup that the process is in, has no memory for.
    public func requireRoom() throws(BadInput) {
        guard let available = Machine.availableMemory() else { return }
        try plan.require(recipe, setting, available: available.bytes / localRanks,
                         limit: available.limit + (localRanks > 1 ? ", shared by \(localRanks) ranks," : ""))
    }
}
