/// What a layer takes a machine for each token, forward and backward: its products, and everything beside them that a
/// count of operations does not see (softmax, norms, rounding, packing).
public struct LayerTime: Sendable, Equatable {
    /// Seconds of a token that looks back at nothing.
    public let perToken: Double
    /// Seconds more for each token that it looks back at.
    public let perContext: Double

    public init(perToken: Double, perContext: Double) {
        (self.perToken, self.perContext) = (perToken, perContext)
    }

    /// The line through two measurements, (tokens looked back at in the mean, seconds a token) each.
    public init(_ short: (context: Double, seconds: Double), _ long: (context: Double, seconds: Double)) {
        let slope = long.context > short.context
            ? max(0, (long.seconds - short.seconds) / (long.context - short.context)) : 0
        self.init(perToken: max(0, long.seconds - slope * long.context), perContext: slope)
    }

    public func seconds(context: Double) -> Double { perToken + perContext * context }
}

extension StepCost {
    /// The time of a step's forwards and backwards on the rank with the largest share, from what a layer was measured
    /// to take; the head's products run at `rate`, GFLOP/s. The update is left out, and so is what the head does beside
    /// its products.
    public func seconds(layer: LayerTime, rate: Double) -> Double {
        let own = layer.seconds(context: context) * Double(layers)
        let flops = modelFlops / Double(max(tokens, 1)) - headFlops
        // What is computed again runs as fast as it did the first time.
        let again = flops > 0 ? own * recomputedFlops / Double(max(tokens, 1)) / flops : 0
        return Double(largestShare) * (own + again + headFlops / rate / 1e9)
    }

    /// The rate at which the rank with the largest share computes where its part of the step takes so long.
    public func gflops(seconds: Double) -> Double {
        (modelFlops + recomputedFlops) / Double(max(tokens, 1)) * Double(largestShare) / max(seconds, 1e-9) / 1e9
    }
}
