/// What the elements of a tensor, or of a part of it, are multiplied by before they are rounded to a format, as a
/// function of the largest magnitude among them (amax).
public enum ScaleRule: Sendable, Hashable {
    /// The largest power of two that keeps amax within the format: 2^floor(log2(largest / amax)). Scales of whole
    /// tensors in 2409.12517, and the scale of a block in MXFP8 training, whose own exponent is rounded up
    /// (2506.08027). Nothing is clipped.
    case powerOfTwo
    /// 2^(emax - floor(log2 amax)), emax being the exponent of the format's largest number: OCP's Microscaling Formats,
    /// version 1.0, section 6.3. What lies between the largest number and the next power of two is clipped.
    case powerOfTwoClipping
    /// largest / amax, rounded to fp32. Only for scales that factor out of a product, since its inverse is no bf16.
    case free

    /// Exponents of powers of two stay within -62 and 62, so that the product of two scales, or of two numbers that
    /// carry theirs, is a normal float. A gradient whose amax is below some 1e-14 loses its last bits by it.
    static let exponents = -62...62

    /// Nil where amax is zero, infinite or not a number: it then says nothing about a scale, and the one before, or 1,
    /// goes on. `margin`: how many powers of two are left free above amax.
    public func factor(amax: Float, format: NumberFormat, margin: Int = 0) -> Float? {
        factor(amax: amax, largest: format.largest, margin: margin)
    }

    /// The same for the format whose largest magnitude is `largest`.
    func factor(amax: Float, largest: Float, margin: Int = 0) -> Float? {
        guard amax > 0, amax.isFinite else { return nil }
        // Exponents and mantissas from the bits: a logarithm in fp32 is wrong just below powers of two.
        var exponent = Int(largest.exponent) - Int(amax.exponent)
        switch self {
        case .powerOfTwo: if amax.significand > largest.significand { exponent -= 1 }
        case .powerOfTwoClipping: break
        case .free:
            let power = Float(sign: .plus, exponent: min(max(-margin, -24), 24), significand: 1)
            return min(max(largest / amax * power, 0x1p-62), 0x1p62)
        }
        exponent = min(max(exponent - margin, Self.exponents.lowerBound), Self.exponents.upperBound)
        return Float(sign: .plus, exponent: exponent, significand: 1)
    }

    public var isPowerOfTwo: Bool { self != .free }
}

/// Which elements share a scale.
public enum Granularity: Sendable, Hashable {
    case tensor
    case row
    case column
    /// Blocks of so many rows and columns; those at the edges are smaller.
    case block(rows: Int, columns: Int)

    /// Rows and columns of one block in a tensor of that shape.
    func block(in rows: Int, _ columns: Int) -> (rows: Int, columns: Int) {
        switch self {
        case .tensor: (max(rows, 1), max(columns, 1))
        case .row: (1, max(columns, 1))
        case .column: (max(rows, 1), 1)
        case .block(let blockRows, let blockColumns): (blockRows, blockColumns)
        }
    }
}

/// A scale that follows a tensor with a delay: it comes from the largest amax of the last steps, and changes once an
/// optimizer step, so that a tensor can be quantised while it is written, without a look at all of it first.
///
/// After NVIDIA's Transformer Engine and 2409.12517: `largest / max(history)`, a power of two below it as a rule. All
/// of it is state of a run: what a checkpoint holds and a resumed run goes on from.
public struct DelayedScale: Sendable, Equatable {
    /// The amax of past steps, a ring; zeros where nothing was recorded yet.
    public private(set) var history: [Float]
    /// Where the next step's amax goes.
    public private(set) var next = 0
    /// The largest amax of this step so far. Ranks take the largest of theirs before `update`.
    public var current: Float = 0
    /// What elements are multiplied by; 1 at first.
    public private(set) var factor: Float = 1
    /// Steps whose amax was infinite or not a number. They leave no trace in the history.
    public private(set) var skipped = 0

    public init(length: Int) {
        precondition(length >= 1, "a history has a step at least")
        history = [Float](repeating: 0, count: length)
    }

    /// As a checkpoint had it. Nil if the parts do not fit each other.
    public init?(history: [Float], next: Int, factor: Float, skipped: Int) {
        guard history.indices.contains(next), factor > 0, factor.isFinite, skipped >= 0,
              history.allSatisfy({ $0 >= 0 && $0.isFinite }) else { return nil }
        (self.history, self.next, self.factor, self.skipped) = (history, next, factor, skipped)
    }

    /// Whether a step has left an amax; before that, `factor` says nothing about the tensor.
    public var hasHistory: Bool { history.contains { $0 > 0 } }

    /// The amax of one more use of the tensor in this step. Not-a-numbers stick.
    public mutating func record(_ amax: Float) {
        current = amax.isNaN || current.isNaN ? .nan : max(current, amax)
    }

    /// Ends a step: takes its amax into the history and sets the scale of the next one. What is neither finite nor
    /// above zero moves nothing: the scale before goes on.
    public mutating func update(_ rule: ScaleRule, format: NumberFormat, margin: Int = 0) {
        defer { current = 0 }
        guard current.isFinite else {
            skipped += 1
            return
        }
        history[next] = current
        next = (next + 1) % history.count
        let amax = history.reduce(0, max)
        factor = rule.factor(amax: amax, format: format, margin: margin) ?? factor
    }
}
