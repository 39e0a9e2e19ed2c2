import Base

/// How one operand of a product is rounded: a number format by its name, which elements share a scale, and how a number
/// between two neighbours finds its place. In a config: "E4M3 delayed", "E5M2 delayed stochastic", "E4M3 1x128",
/// "BF16".
public struct OperandSetting: Sendable, Equatable {
    /// Which elements share a scale, and where it comes from.
    public enum Scaling: Sendable, Equatable {
        /// None is scaled.
        case none
        /// One scale for the tensor, from the largest magnitudes of the last steps.
        case delayed
        /// Scales from the tensor itself, one for each block of `outer` lines by `depth` elements along the sum that a
        /// product makes; 0: all of them.
        case current(outer: Int, depth: Int)
    }

    public var format: String
    public var scaling = Scaling.none
    /// Rounds up with the probability that is cut off, instead of to nearest.
    public var isStochastic = false
    /// Scales are largest / amax, instead of a power of two at or below it.
    public var isFree = false

    private init(_ format: String) { self.format = format }

    /// Text of a config: the format's name, then in any order at most one of `delayed`, `tensor`, `row` and AxB, and
    /// `stochastic`, `free`. What the name is good for is `Tensor`'s matter.
    public init(_ text: String, key: String) throws(BadInput) {
        let words = text.split(separator: " ").map(String.init)
        guard let name = words.first else {
            throw BadInput("\(key) is empty; write a format and how it is scaled, for example \"E4M3 delayed\"")
        }
        self.init(name)
        for word in words.dropFirst() {
            switch word.lowercased() {
            case "stochastic": isStochastic = true
            case "free": isFree = true
            default:
                guard let found = Self.scaling(word.lowercased()) else {
                    throw BadInput("\(key): '\(word)' says nothing about an operand; write delayed, tensor, row, a "
                        + "block such as 1x128, stochastic or free")
                }
                guard scaling == .none else { throw BadInput("\(key) has two scalings; keep one of them") }
                scaling = found
            }
        }
        if isFree, !mayBeFree {
            throw BadInput("\(key): free scales belong to a whole tensor or to whole rows, since they would not fit "
                + "bf16 along a product's depth; drop free, or write tensor, row or delayed")
        }
    }

    private var mayBeFree: Bool {
        switch scaling {
        case .none: false
        case .delayed: true
        case .current(let outer, let depth): depth == 0 && outer <= 1
        }
    }

    private static func scaling(_ word: String) -> Scaling? {
        switch word {
        case "delayed": return .delayed
        case "tensor": return .current(outer: 0, depth: 0)
        case "row": return .current(outer: 1, depth: 0)
        default:
            let sides = word.split(separator: "x", omittingEmptySubsequences: false).map { Int($0) }
            guard sides.count == 2, let outer = sides[0], let depth = sides[1], (1...65_536).contains(outer),
                  (2...65_536).contains(depth) else { return nil }
            return .current(outer: outer, depth: depth)
        }
    }

    /// Whether all of the tensor shares one scale, or has none.
    public var isWhole: Bool {
        switch scaling {
        case .none, .delayed: true
        case .current(let outer, let depth): outer == 0 && depth == 0
        }
    }

    /// What the scales of an operand of `outer` lines and `depth` take of an arena: a factor and its inverse each, and
    /// one for the tensor.
    func scaleFloats(outer: Int, depth: Int) -> Int {
        var count = 1
        if case .current(let lines, let along) = scaling {
            let across = lines == 0 ? 1 : max((outer + lines - 1) / lines, 1)
            count = across * (along == 0 ? 1 : max((depth + along - 1) / along, 1))
        }
        return 2 * padded(count) + padded(1)
    }
}

/// What one scale for each of `count` channels or tokens takes, for a smoothed operand.
func smoothScaleFloats(_ count: Int) -> Int { 2 * padded(count) + padded(1) }

/// Arenas hand out whole cache lines.
func padded(_ floats: Int) -> Int { (floats + 15) / 16 * 16 }
