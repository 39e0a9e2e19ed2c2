/// One AdamW update (Loshchilov and Hutter, 1711.05101) of a run of elements, in one pass over memory.
public struct AdamWStep: Sendable {
    public var learningRate: Float
    public var beta1: Float
    public var beta2: Float
    public var epsilon: Float
    /// Decoupled decay: the weight loses learningRate * weightDecay of itself. 0 for gains.
    public var weightDecay: Float
    /// 1 - beta^step: the bias corrections, computed in Double by the caller.
    public var correction1: Float
    public var correction2: Float
    /// The gradient is multiplied by this first: clipping by the global norm.
    public var gradientScale: Float

    public init(learningRate: Float, beta1: Float, beta2: Float, epsilon: Float, weightDecay: Float,
                correction1: Float, correction2: Float, gradientScale: Float) {
        self.learningRate = learningRate
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon
        self.weightDecay = weightDecay
        self.correction1 = correction1
        self.correction2 = correction2
        self.gradientScale = gradientScale
    }
}

/// What AdamW's second moment looks like: its roots' sum and the largest of them. Both peak where training is
/// unstable (2108.06084, section 3).
public struct VarianceRoots: Sendable, Equatable {
    public var sum: Double
    public var max: Float

    public init(sum: Double, max: Float) {
        self.sum = sum
        self.max = max
    }
}

/// weights, momentum (first moment) and variance (second moment) are updated in place; gradient is read.
/// All rows have the same length. Returns the roots of the new variance, not corrected for bias: they are in
/// registers anyway. Their order of summation is the row's alone.
///
///     m = beta1 m + (1 - beta1) g        v = beta2 v + (1 - beta2) g^2
///     w = w (1 - rate decay) - rate (m / c1) / (sqrt(v / c2) + eps)
@discardableResult
public func adamW(_ weights: Row, momentum: Row, variance: Row, gradient: Row, _ step: AdamWStep) -> VarianceRoots {
    precondition(weights.count == gradient.count && momentum.count == gradient.count
        && variance.count == gradient.count, "adamW: rows of different length")
    let keep = Lanes(repeating: 1 - step.learningRate * step.weightDecay)
    let rate = Lanes(repeating: step.learningRate / step.correction1)
    let inverseRoot = Lanes(repeating: 1 / step.correction2.squareRoot())
    let (keep1, keep2) = (Lanes(repeating: step.beta1), Lanes(repeating: step.beta2))
    let (new1, new2) = (Lanes(repeating: 1 - step.beta1), Lanes(repeating: 1 - step.beta2))
    var low = SIMD8<Double>.zero, high = SIMD8<Double>.zero, peak = Lanes.zero
    for i in laneStarts(weights.count) {
        let g = gradient[lanes: i] * step.gradientScale
        let m = (momentum[lanes: i] * keep1).fma(g, new1)
        let v = (variance[lanes: i] * keep2).fma(g * g, new2)
        momentum[lanes: i] = m
        variance[lanes: i] = v
        let root = v.root
        low += SIMD8<Double>(root.lowHalf)
        high += SIMD8<Double>(root.highHalf)
        peak = root.atLeast(peak)
        weights[lanes: i] = (weights[lanes: i] * keep) - rate * m / (root * inverseRoot + step.epsilon)
    }
    return VarianceRoots(sum: (low + high).sum(), max: peak.largest)
}

/// The sum of squares of a row, in Double, over fixed blocks of 4,096 elements added in a fixed tree, so
/// that the result depends on the row alone and not on how many threads or ranks shared the work.
public func sumOfSquares(_ row: Row) -> Double {
    let block = 4096
    let blocks = (row.count + block - 1) / block
    func tree(_ first: Int, _ count: Int) -> Double {
        if count == 1 { return squares(row.slice(first * block, min(block, row.count - first * block))) }
        let half = 1 << (Int.bitWidth - 1 - (count - 1).leadingZeroBitCount)
        return tree(first, half) + tree(first + half, count - half)
    }
    return blocks == 0 ? 0 : tree(0, blocks)
}

private func squares(_ row: Row) -> Double {
    var low = SIMD8<Double>.zero, high = SIMD8<Double>.zero
    for i in laneStarts(row.count) {
        let x = row[lanes: i]
        let a = SIMD8<Double>(x.lowHalf), b = SIMD8<Double>(x.highHalf)
        low += a * a
        high += b * b
    }
    return (low + high).sum()
}
