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

/// The messages of one kind of exchange: what a rank sends to whom and gets from whom, in floats.
struct Exchange: Equatable {
    let outgoing: Partition
    let incoming: Partition

    init(outgoing: [Int], incoming: [Int]) {
        func partition(_ counts: [Int]) -> Partition {
            var bounds = [0]
            for count in counts { bounds.append(bounds[bounds.count - 1] + count) }
            return Partition(bounds: bounds)
        }
        self.outgoing = partition(outgoing)
        self.incoming = partition(incoming)
    }

    /// One message out, to the rank at position `to`, and one in, of a group of `size`.
    init(_ sent: Int, to: Int, _ received: Int, from: Int, size: Int) {
        self.init(outgoing: (0..<size).map { $0 == to ? sent : 0 },
                  incoming: (0..<size).map { $0 == from ? received : 0 })
    }

    /// Puts it in flight. `label` tells exchanges apart that are otherwise alike.
    func begin(_ source: Row, into target: Row, label: UInt32, in group: Group, _ communicator: Communicator)
        -> Ticket {
        let from = source.slice(0, outgoing.count), to = target.slice(0, incoming.count)
        return unsafe communicator.allToAll(UnsafeBufferPointer(from.floats), outgoing, into: to.floats, incoming,
                                            in: group, style: CollectiveStyle(label: label))
    }
}

/// Tiles of so many rows, for what only copies.
func forRows(_ count: Int, _ pool: Pool, stage: StaticString, _ body: @Sendable (_ start: Int, _ count: Int) -> Void) {
    let size = 64
    pool.run((count + size - 1) / size, stage: stage) { tile, _ in
        body(tile * size, min(size, count - tile * size))
    }
}
