import Checkpoint
import Model
import Parallel
import Recipe
import Tensor

/// From a checkpoint, or from first values, into a run's memory.
extension Snapshot {
    /// Fills weights and moments on all ranks with what rank 0 reads, so that the others need not see its disk. Without
    /// a checkpoint: the weights alone, with what rank 0 draws, since that takes the C library's logarithm, which
    /// another version may round otherwise. A tensor at a time: no rank needs memory for more.
    /// `isResumed`: rank 0 has one.
    func fill(from checkpoint: Checkpoint?, isResumed: Bool, by world: World) throws {
        guard isResumed else { return try begin(with: checkpoint, by: world) }
        let parts = state.weightVectors + state.moments
        // What a rank holds whole goes straight to its place.
        let passing = parts.filter { !$0.isWhole }.flatMap { $0.table.parameters.map(\.count) }
        let memory = try Arena(name: "a tensor", capacity: passing.max() ?? 0)
        let largest = memory.take(memory.capacity), reader = checkpoint?.reader()
        defer { withExtendedLifetime(memory) {} }
        for part in parts {
            for (number, parameter) in part.tensors {
                let whole = part.isWhole ? part.shard.row.slice(parameter.offset, parameter.count)
                    : largest.slice(0, parameter.count)
                if world.rank == 0, let checkpoint, let reader {
                    let spec = part.spec(number)
                    // Codes end before their last block does.
                    whole.fill(0)
                    let bytes = unsafe UnsafeMutableRawBufferPointer(rebasing: whole.bytes[..<spec.byteCount])
                    unsafe try checkpoint.read(spec, into: bytes, with: reader)
                }
                try world.broadcast(whole)
                if part.isWhole { continue }
                part.shard.forEachPiece(of: parameter) { piece, row in
                    row.copy(whole.slice(piece.lowerBound - parameter.offset, piece.count))
                }
            }
        }
        try fillScales(from: checkpoint, by: world)
        try fillMagnitudes(from: checkpoint, by: world)
    }

    /// Fills the weights alone: with those of another run, or with first values.
    private func begin(with checkpoint: Checkpoint?, by world: World) throws {
        let stays = !state.hasCodedWeights && state.weightVectors[0].isWhole
        let memory = try Arena(name: "a tensor", capacity: stays ? 0 : state.table.parameters.map(\.count).max() ?? 0)
        let largest = memory.take(memory.capacity)
        let stored = try checkpoint.map { try StoredWeights($0, state.table) }
        defer { withExtendedLifetime(memory) {} }
        for (number, parameter) in state.table.parameters.enumerated() {
            let whole = stays ? state.weightShard.row.slice(parameter.offset, parameter.count)
                : largest.slice(0, parameter.count)
            if world.rank == 0 {
                if let stored {
                    try stored.read(parameter, into: whole)
                } else {
                    Parameters.initialize(whole, number, of: state.table, seed: recipe.debug.seed)
                }
            }
            try world.broadcast(whole)
            if !stays { state.setWeights(number, whole) }
        }
    }
}
