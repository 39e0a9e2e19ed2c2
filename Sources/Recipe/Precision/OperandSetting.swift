import Base

/// How one operand of a product is rounded: a number format by its name, which elements share a scale, and how a number
/// between two neighbours finds its place. In a config: "E4M3 delayed", "E5M2 delayed stochastic", "E4M3 1x128",
/// "BF16", "MXFP6", "NVFP4 stochastic".
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

    /// What a scale is, as a function of the largest magnitude that it is for.
    public enum Rule: Sendable, Equatable {
        /// The largest power of two that clips nothing.
        case powerOfTwo
        /// OCP's power of two, which clips what lies beyond the format's largest number.
        case floor
        /// largest / amax.
        case free
        /// NVFP4's: an E4M3 number a block, under one number for the tensor.
        case twoLevels
    }

    public var format: String
    public var scaling = Scaling.none
    /// Rounds up with the probability that is cut off, instead of to nearest.
    public var isStochastic = false
    public var rule = Rule.powerOfTwo

    public var isFree: Bool { rule == .free }

    /// Formats whose scales are part of them: their elements, and how many along the sum share one.
    private static let blockFormats: [String: (element: String, depth: Int)] = [
        "MXFP8": ("E4M3", 32), "MXFP8-E5M2": ("E5M2", 32), "MXFP6": ("E2M3", 32), "MXFP6-E3M2": ("E3M2", 32),
        "MXFP4": ("E2M1", 32), "NVFP4": ("E2M1", 16),
    ]

    /// A format by its name; of a block format its elements, with the scales that belong to it.
    private init(_ name: String) {
        let capitals = name.uppercased(), floor = "-FLOOR"
        let isFloor = capitals.hasSuffix(floor) && capitals.hasPrefix("MX")
        let base = isFloor ? String(capitals.dropLast(floor.count)) : capitals
        guard let block = Self.blockFormats[base] else {
            format = name
            return
        }
        format = block.element
        scaling = .current(outer: 1, depth: block.depth)
        rule = base == "NVFP4" ? .twoLevels : isFloor ? .floor : .powerOfTwo
    }

    /// Text of a config: the format's name, then in any order at most one of `delayed`, `tensor`, `row` and AxB, at
    /// most one of `free` and `floor`, and `stochastic`. What the name is good for is `Tensor`'s matter.
    public init(_ text: String, key: String) throws(BadInput) {
        let words = text.split(separator: " ").map(String.init)
        guard let name = words.first else {
            throw BadInput("\(key) is empty; write a format and how it is scaled, for example \"E4M3 delayed\"")
        }
        self.init(name)
        let hasScales = scaling != .none
        for word in words.dropFirst() {
            if word.lowercased() == "stochastic" {
                isStochastic = true
            } else if hasScales {
                throw BadInput("\(key): '\(word)' beside \(name), whose scales are part of it; drop the word, or write "
                    + "\(format) and its scaling")
            } else {
                try read(word, key: key)
            }
        }
        if isFree, !mayBeFree {
            throw BadInput("\(key): free scales belong to a whole tensor or to whole rows, since they would not fit "
                + "bf16 along a product's depth; drop free, or write tensor, row or delayed")
        }
        if rule == .floor, scaling == .none {
            throw BadInput("\(key): floor says how a scale is rounded, and there is none; write 1x32, row, tensor or "
                + "delayed too")
        }
    }

    /// A word about scales.
    private mutating func read(_ word: String, key: String) throws(BadInput) {
        if let found: Rule = ["free": .free, "floor": .floor][word.lowercased()] {
            guard rule == .powerOfTwo || rule == found else {
                throw BadInput("\(key) has free and floor scales; keep one of them")
            }
            rule = found
            return
        }
        guard let found = Self.scaling(word.lowercased()) else {
            throw BadInput("\(key): '\(word)' says nothing about an operand; write delayed, tensor, row, a block such "
                + "as 1x128, stochastic, free or floor")
        }
        guard scaling == .none else { throw BadInput("\(key) has two scalings; keep one of them") }
        scaling = found
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
