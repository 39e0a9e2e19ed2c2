/// What a step with short contexts does to its rows.
public enum SequenceLimit: Sendable, Equatable {
    /// Rows as they are.
    case none
    /// Each row's first tokens; the rest is thrown away (2108.06084).
    case truncate(Int)
    /// Each row cut into several; every token is kept. The length is lowered to a divisor of the row's.
    case reshape(Int)
    /// Rows as they are, but attention does not look back across multiples of the length (2503.15450).
    case window(Int)

    /// The length of a batch's rows, and the window within them, for rows of `sequence`.
    package func shape(of sequence: Int) -> (sequence: Int, window: Int) {
        switch self {
        case .none: return (sequence, sequence)
        case .truncate(let length):
            let shorter = min(max(length, 1), sequence)
            return (shorter, shorter)
        case .reshape(let length):
            var shorter = min(max(length, 1), sequence)
            while sequence % shorter != 0 { shorter -= 1 }
            return (sequence, shorter)
        case .window(let length): return (sequence, min(max(length, 1), sequence))
        }
    }
}

/// Sequence-length warm-up (2108.06084, as DeepSpeed codes it): how long contexts are at each step.
public struct LengthWarmup: Sendable, Equatable {
    public enum Growth: Sendable, Equatable {
        /// In proportion to the step's `root`-th root; 1 is linear.
        case root(Double)
        /// `lengths[i]` until the step `until[i]` is reached; the last length has no end.
        case discrete(lengths: [Int], until: [Int])
    }

    public enum Method: String, Sendable, CaseIterable {
        case truncate, reshape, window
    }

    public var growth: Growth
    public var method: Method
    /// The first and the last length.
    public var minimum: Int
    public var maximum: Int
    /// Steps from the first to the last length.
    public var steps: Int
    /// Lengths are rounded down to multiples of this.
    public var multiple: Int

    public init(growth: Growth = .root(1), method: Method = .truncate, minimum: Int, maximum: Int, steps: Int,
                multiple: Int = 8) {
        precondition(minimum > 0 && minimum <= maximum && steps >= 0 && multiple > 0, "lengths out of order")
        if case .discrete(let lengths, let until) = growth {
            precondition(lengths.count == until.count + 1, "one length more than ends")
        }
        self.growth = growth
        self.method = method
        self.minimum = minimum
        self.maximum = maximum
        self.steps = steps
        self.multiple = multiple
    }

    /// floor((step / steps)^(1 / root) (maximum - minimum) + minimum), rounded down to a multiple, between
    /// `minimum` and `maximum`.
    public func length(at step: Int) -> Int {
        switch growth {
        case .root(let root):
            guard step < steps else { return maximum }
            let part = power(Double(step) / Double(steps), 1 / root)
            let length = Int(part * Double(maximum - minimum) + Double(minimum))
            return min(max(length - length % multiple, minimum), maximum)
        case .discrete(let lengths, let until):
            let index = until.firstIndex { step < $0 } ?? until.count
            return min(max(lengths[index], minimum), maximum)
        }
    }

    public func limit(at step: Int) -> SequenceLimit {
        let length = length(at: step)
        guard length < maximum else { return .none }
        switch method {
        case .truncate: return .truncate(length)
        case .reshape: return .reshape(length)
        case .window: return .window(length)
        }
    }
}

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

private func power(_ base: Double, _ exponent: Double) -> Double { pow(base, exponent) }
