/// The arithmetic of one optimizer step on one rank.
public struct StepCost: Sendable, Equatable {
    public let parameters: Int
    public let tokens: Int
    /// Forward and backward: what achieved rates count.
    public let modelFlops: Double
    /// What activation recomputation adds to the time.
    public let recomputedFlops: Double

    public init(_ recipe: Recipe, vocabulary: Int) {
        let table = ParameterTable(recipe.model, vocabulary: vocabulary)
        let sequence = recipe.training.sequenceLength
        parameters = table.parameterCount
        tokens = recipe.rowsPerStep(worldSize: 1) * sequence
        modelFlops = Double(tokens) * table.flopsPerToken(sequence: sequence)
        recomputedFlops = Double(tokens)
            * table.recomputedFlopsPerToken(sequence: sequence, recipe.activationCheckpoint.mode)
    }

    /// The time of a step whose every operation runs at `rate`: a bound from below.
    public func seconds(atGflops rate: Double) -> Double { (modelFlops + recomputedFlops) / rate / 1e9 }
}
