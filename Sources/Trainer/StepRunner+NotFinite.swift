import Parallel
import Recipe
import Tensor

extension StepRunner {
    /// The first tensor that holds something infinite or not a number after a step that found loss or gradient so: a
    /// weight; else what a forward or backward in few bits has met; else the gradient that the backward made first,
    /// which goes from the head to the embedding. Nil where nothing is found. All ranks call it, and learn the same.
    func notFinite() throws -> String? {
        // Codes are finite; of a block that would not be, the scale says so.
        let weights = state.weightVectors[state.weightVectors.count - 1]
        let found = first(of: weights.shard, weights.table.parameters).map { "the weight \($0)" }
            ?? model.quantisation?.notFinite
            ?? first(of: state.gradientShard, state.table.parameters.reversed()).map { "the gradient of \($0)" }
        let all = try world.gather(Array((found ?? "").utf8)).map { String(decoding: $0, as: UTF8.self) }
        let kinds = ["the weight ", "the input ", ""]
        return kinds.lazy.compactMap { kind in all.first { !$0.isEmpty && $0.hasPrefix(kind) } }.first
    }

    private func first(of shard: Shard, _ parameters: [ParameterTable.Parameter]) -> String? {
        parameters.first { parameter in
            var isFinite = true
            shard.forEachPiece(of: parameter) { _, row in
                if !largestMagnitude(row).isFinite { isFinite = false }
            }
            return !isFinite
        }?.name
    }
}
