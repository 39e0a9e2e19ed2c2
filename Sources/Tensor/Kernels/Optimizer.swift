/// One AdamW update (Loshchilov and Hutter, 1711.05101) of a run of elements, in one pass over memory.
public struct AdamWStep: Sendable {
    public var learningRate: Float
    public let beta1: Float
    public let beta2: Float
    /// 1 - beta, formed in Double: in Float it would be 19 % off at 0.9999999.
    public let fresh1: Float
    public let fresh2: Float
    public var epsilon: Float
    /// Decoupled decay: the weight loses learningRate * weightDecay of itself. 0 for gains.
    public var weightDecay: Float
    /// 1 - beta^step: the bias corrections, computed in Double by the caller.
    public var correction1: Float
    public var correction2: Float
    /// The gradient is multiplied by this first: clipping by the global norm.
    public var gradientScale: Float

    public init(learningRate: Float, beta1: Double, beta2: Double, epsilon: Float, weightDecay: Float,
                correction1: Float, correction2: Float, gradientScale: Float) {
        self.learningRate = learningRate
        self.beta1 = Float(beta1)
        self.beta2 = Float(beta2)
        fresh1 = Float(1 - beta1)
        fresh2 = Float(1 - beta2)
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
    let (new1, new2) = (Lanes(repeating: step.fresh1), Lanes(repeating: step.fresh2))
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

/// The direction of a LAMB step (You et al., 1904.00962, algorithm 2) before it is scaled to the length of the weights.
/// momentum and variance are updated in place, and the gradient becomes the direction. All rows have the same length.
///
///     m = beta1 m + (1 - beta1) g        v = beta2 v + (1 - beta2) g^2
///     g = (m / c1) / (sqrt(v / c2) + eps) + decay w
public func lambDirection(_ gradient: Row, momentum: Row, variance: Row, weights: Row, _ step: AdamWStep) {
    precondition(weights.count == gradient.count && momentum.count == gradient.count
        && variance.count == gradient.count, "lambDirection: rows of different length")
    let decay = Lanes(repeating: step.weightDecay)
    let inverse = Lanes(repeating: 1 / step.correction1)
    let inverseRoot = Lanes(repeating: 1 / step.correction2.squareRoot())
    let (keep1, keep2) = (Lanes(repeating: step.beta1), Lanes(repeating: step.beta2))
    let (new1, new2) = (Lanes(repeating: step.fresh1), Lanes(repeating: step.fresh2))
    for i in laneStarts(weights.count) {
        let g = gradient[lanes: i] * step.gradientScale
        let m = (momentum[lanes: i] * keep1).fma(g, new1)
        let v = (variance[lanes: i] * keep2).fma(g * g, new2)
        momentum[lanes: i] = m
        variance[lanes: i] = v
        gradient[lanes: i] = (inverse * m / (v.root * inverseRoot + step.epsilon)).fma(weights[lanes: i], decay)
    }
}

/// Adam's direction (1412.6980, algorithm 1) where the momentum is already made: `direction` holds it and is replaced;
/// the variance takes in the gradient.
public func adamDirection(_ direction: Row, variance: Row, gradient: Row, _ step: AdamWStep) {
    precondition(direction.count == gradient.count && variance.count == gradient.count,
                 "adamDirection: rows of different length")
    let inverse = Lanes(repeating: 1 / step.correction1)
    let inverseRoot = Lanes(repeating: 1 / step.correction2.squareRoot())
    let (keep, new) = (Lanes(repeating: step.beta2), Lanes(repeating: step.fresh2))
    for i in laneStarts(direction.count) {
        let g = gradient[lanes: i] * step.gradientScale
        let v = (variance[lanes: i] * keep).fma(g * g, new)
        variance[lanes: i] = v
        direction[lanes: i] = inverse * direction[lanes: i] / (v.root * inverseRoot + step.epsilon)
    }
}

/// Gradient descent with momentum (Polyak) and decoupled decay. weights and momentum are updated in place.
///
///     m = mu m + scale g        w = w (1 - rate decay) - rate m
public func momentumStep(_ weights: Row, momentum: Row, gradient: Row, mu: Float, rate: Float, decay: Float,
                         scale: Float) {
    precondition(weights.count == gradient.count && momentum.count == gradient.count,
                 "momentumStep: rows of different length")
    let keep = Lanes(repeating: 1 - rate * decay), mu = Lanes(repeating: mu), rate = Lanes(repeating: rate)
    for i in laneStarts(weights.count) {
        let m = (momentum[lanes: i] * mu).fma(gradient[lanes: i], Lanes(repeating: scale))
        momentum[lanes: i] = m
        weights[lanes: i] = weights[lanes: i] * keep - rate * m
    }
}

/// Nesterov's momentum. Rows of the same length.
///
///     m = mu m + scale g        g = scale g + mu m
public func nesterovStep(_ gradient: Row, momentum: Row, mu: Float, scale: Float) {
    precondition(gradient.count == momentum.count, "nesterovStep: rows of different length")
    let mu = Lanes(repeating: mu)
    for i in laneStarts(gradient.count) {
        let g = gradient[lanes: i] * scale
        let m = g.fma(momentum[lanes: i], mu)
        momentum[lanes: i] = m
        gradient[lanes: i] = g.fma(m, mu)
    }
}

/// w = keep w - rate d, element by element.
public func descend(_ weights: Row, along direction: Row, rate: Float, keep: Float) {
    precondition(weights.count == direction.count, "descend: rows of different length")
    for i in laneStarts(weights.count) {
        weights[lanes: i] = weights[lanes: i] * keep - direction[lanes: i] * rate
    }
}

/// x = factor x, element by element.
public func scale(_ x: Row, by factor: Float) {
    for i in laneStarts(x.count) { x[lanes: i] = x[lanes: i] * factor }
}

/// out = own out + factor x, element by element.
public func scaleAndAdd(_ out: Row, _ own: Float, _ x: Row, _ factor: Float) {
    precondition(out.count == x.count, "scaleAndAdd: rows of different length")
    for i in laneStarts(out.count) { out[lanes: i] = (out[lanes: i] * own).fma(x[lanes: i], Lanes(repeating: factor)) }
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
