import Collectives
import Model
import Recipe
import Tensor

/// Attention of a group of ranks over sequences that they share, each with some of the tokens. Every rank of the group
/// calls the same layers' forwards and backwards in the same order.
///
/// A fault of the network is kept and thrown by `check`; what is computed after it is lost.
public protocol SharedAttention: AttentionStrategy {
    /// What follows is of the task that `split` cuts, for the ranks of `group`, in its order.
    func begin(_ split: SequenceSplit, in group: Group)
    func check() throws(CollectiveFault)
    /// Bytes of all exchanges so far that were copied and not sent, since this rank has both ends.
    var stayedBytes: Int { get }
}

extension SharedAttention {
    public var stayedBytes: Int { 0 }
}

/// Of tasks that `sizes` fits; `memory` gives `SequenceMemory.floats`. `auto`: of tasks each in its own way.
public func sharedAttention(_ model: Recipe.ModelShape, _ method: Recipe.ContextMethod, _ sizes: SequenceMemory,
                            isRounded: Bool = false, pool: Pool, communicator: Communicator,
                            memory: Arena) -> any SharedAttention {
    let shape = AttentionShape(heads: model.heads, keyHeads: model.keyHeads, headDim: model.headDim,
                               isRounded: isRounded)
    let buffers = sizes.buffers.map { memory.take($0) }
    let scratch = memory.take(rows: pool.threads, columns: shape.scratchFloats(segment: sizes.longest))
    func ulysses(_ buffers: [Row]) -> UlyssesAttention {
        UlyssesAttention(shape, keptFloats: sizes.kept, buffers, scratch: scratch, pool: pool,
                         communicator: communicator)
    }
    func ring(_ buffers: [Row]) -> RingAttention {
        RingAttention(shape, buffers, scratch: scratch, pool: pool, communicator: communicator)
    }
    switch method {
    case .ulysses: return ulysses(buffers)
    case .ring: return ring(buffers)
    case .auto:
        let first = SequenceMemory.ulyssesBuffers
        return PlannedAttention(ulysses(Array(buffers[..<first])), ring(Array(buffers[first...])))
    }
}

/// One message out and one in, between a rank and two others or one: made once for a task, begun for each layer.
struct Exchange: Sendable {
    private let messages: AllToAll

    /// `sent` floats to the rank at position `to` of the group, `received` from the one at `from`. `label` tells
    /// exchanges apart that are otherwise alike.
    init(_ sent: Int, to: Int, _ received: Int, from: Int, label: UInt32 = 0, in group: Group) {
        func partition(_ count: Int, _ place: Int) -> Partition {
            Partition(bounds: (0...group.size).map { $0 <= place ? 0 : count })
        }
        messages = AllToAll(partition(sent, to), partition(received, from), in: group, label: label)
    }

    /// Puts it in flight.
    func begin(_ source: Row, into target: Row, _ communicator: Communicator) -> Ticket {
        let from = source.slice(0, messages.sent), to = target.slice(0, messages.received)
        return unsafe communicator.allToAll(UnsafeBufferPointer(from.floats), into: to.floats, messages)
    }
}

/// Tiles of so many rows, for what only copies.
func forRows(_ count: Int, _ pool: Pool, stage: StaticString, _ body: @Sendable (_ start: Int, _ count: Int) -> Void) {
    let size = 64
    pool.run((count + size - 1) / size, stage: stage) { tile, _ in
        body(tile * size, min(size, count - tile * size))
    }
}
