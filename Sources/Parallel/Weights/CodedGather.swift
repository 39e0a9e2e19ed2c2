import Collectives
import Recipe
import Tensor

/// How weights that are codes travel behind an update: as they lie in memory, a unit's codes cut between the ranks that
/// update them as its floats are, and its scales likewise.
struct CodedGather {
    struct Part {
        let vector: StateVector
        let isCodes: Bool
        /// Of each unit's parameter share among those who update it.
        let partitions: [Partition]
        private let model: ParameterTable

        init(_ vector: StateVector, _ state: TrainingState, _ group: Group) {
            self.vector = vector
            isCodes = vector.numbers != .scales
            model = state.table
            let shares = group.ranks.map { vector.optimizerRanges(of: $0) }
            partitions = state.plan.units.indices.map { unit in
                Partition(bounds: [0] + shares.map { $0[unit].upperBound - shares[0][unit].lowerBound })
            }
        }

        /// The elements of the blocks whose codes begin in a range of a unit's memory.
        func elements(_ range: Range<Int>, unit: Int) -> Range<Int> {
            let first = vector.shard.ranges[unit].lowerBound
            return element(first + range.lowerBound)..<element(first + range.upperBound)
        }

        /// The first element of the first block that begins at `place` or behind it.
        private func element(_ place: Int) -> Int {
            guard place < vector.table.count, let blockFloats = vector.numbers.blockFloats else { return model.count }
            let number = NormBlocks(vector.table).lastParameter(from: place)
            let (mine, own) = (model.parameters[number], vector.table.parameters[number])
            let block = (place - own.offset + blockFloats - 1) / blockFloats
            return mine.offset + min(block * MomentCodec.blockSize, mine.count)
        }
    }

    let codes: Part
    let scales: Part

    /// Nil where nobody else has a part of what this rank holds.
    init?(_ state: TrainingState, _ group: Group) {
        guard group.size > 1 else { return nil }
        codes = Part(state.weightVectors[0], state, group)
        scales = Part(state.weightVectors[1], state, group)
    }
}
