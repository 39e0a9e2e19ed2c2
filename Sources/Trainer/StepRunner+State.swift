import Base
import Collectives
import Corpus
import Model
import Parallel
import Tensor

extension StepRunner {
    /// Checks that all ranks hold the same weights and moments, bit for bit: a checkpoint has each tensor from one of
    /// them.
    public func requireEqualState(step: Int) throws {
        guard world.size > 1 else { return }
        let counts = state.plan.counts
        func require(_ shard: Shard, sharers: Int, _ index: Int, _ name: String) throws {
            guard sharers < world.size else { return }
            let hash = unsafe hash64(of: UnsafeRawBufferPointer(shard.row.bytes))
            try sharded.requireEqual(hash, among: sharers, index: index, "\(name) after step \(step)")
        }
        try require(state.weightShard, sharers: counts.parameters, state.plan.parameterShare(of: world.rank),
                    "parameters")
        for moment in state.moments {
            try require(moment.shard, sharers: counts.optimizer, state.plan.optimizerShare(of: world.rank),
                        "optimizer state (\(moment.prefix.dropLast()))")
        }
        if let quantisation = model.quantisation, quantisation.stateShape != nil {
            quantisation.writeState()
            let hash = unsafe hash64(of: UnsafeRawBufferPointer(quantisation.state.bytes))
            try world.requireEqual(hash, "delayed scales after step \(step)")
        }
    }
}

extension Batch {
    /// The batch as the model takes it. The views into its arrays are good for the time of `body`.
    func withMicroBatch<Result>(firstToken: Int = 0, _ body: (MicroBatch) throws -> Result) rethrows -> Result {
        try Targets.lend(inputs, count: tokenCount) { inputs in
            try Targets.lend(targets, count: tokenCount) { targets in
                try Targets.lend(documentStarts, count: documentStartCount) { starts in
                    try body(MicroBatch(inputs: inputs, targets: targets, segments: Segments(starts),
                                        sequence: sequence, firstToken: firstToken))
                }
            }
        }
    }
}
