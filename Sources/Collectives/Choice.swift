import Base

/// Which algorithm a collective takes: a pure function of (kind, bytes, group size), because it decides the order of
/// sums. A table may be measured (`skein bench collectives --tune`) and then holds for a run on all its ranks.
///
/// As text it has a line for each rule, `all-reduce up-to 16384 ranks 2...1024 recursive-doubling`, and the first
/// rule that fits is taken; where none does, the standard table decides.
public struct Choice: Sendable, Equatable {
    public struct Rule: Sendable, Equatable {
        public var kind: CollectiveKind
        /// Buffers of at most so many bytes.
        public var bytes: Int
        public var ranks: ClosedRange<Int>
        public var algorithm: Algorithm

        public init(_ kind: CollectiveKind, upTo bytes: Int, ranks: ClosedRange<Int>, _ algorithm: Algorithm) {
            self.kind = kind
            self.bytes = bytes
            self.ranks = ranks
            self.algorithm = algorithm
        }
    }

    public var rules: [Rule]
    /// One algorithm for whatever it serves, before any rule.
    public var forced: Algorithm?
    /// Only algorithms whose sums follow the balanced tree, where there is one.
    public var isCanonical: Bool

    public init(rules: [Rule] = [], forced: Algorithm? = nil, isCanonical: Bool = false) {
        self.rules = rules
        self.forced = forced
        self.isCanonical = isCanonical
    }

    /// Small messages are bound by the number of hops, large ones by the bytes that each rank sends.
    public static let standard: [Rule] = {
        let any = 1...Int(UInt32.max)
        return [
            Rule(.allReduce, upTo: 16 << 10, ranks: any, .recursiveDoubling),
            Rule(.allReduce, upTo: .max, ranks: any, .ring),
            Rule(.reduceScatter, upTo: 64 << 10, ranks: 1...16, .direct),
            Rule(.reduceScatter, upTo: .max, ranks: any, .ring),
            Rule(.allGather, upTo: 64 << 10, ranks: 1...16, .direct),
            Rule(.allGather, upTo: .max, ranks: any, .ring),
            Rule(.broadcast, upTo: 64 << 10, ranks: any, .tree),
            Rule(.broadcast, upTo: .max, ranks: any, .chain),
            Rule(.reduce, upTo: 64 << 10, ranks: any, .tree),
            Rule(.reduce, upTo: .max, ranks: any, .chain),
            Rule(.barrier, upTo: .max, ranks: any, .recursiveDoubling),
            Rule(.allToAll, upTo: .max, ranks: any, .pairwise),
            Rule(.gather, upTo: .max, ranks: any, .direct),
            Rule(.scatter, upTo: .max, ranks: any, .direct),
            Rule(.transfer, upTo: .max, ranks: any, .direct),
        ]
    }()

    /// The algorithm for a buffer of `bytes`. With `.bfloat16` on the wire partial sums would be rounded at each hop
    /// of a ring, so each contribution goes straight to its owner, who sums in float32.
    public func algorithm(for kind: CollectiveKind, bytes: Int, groupSize: Int,
                          wire: WireFormat = .native) -> Algorithm {
        if wire != .native, Algorithm.direct.serves(kind, groupSize: groupSize) { return .direct }
        if let forced, isAllowed(forced, kind, groupSize) { return forced }
        for rule in rules + Self.standard
        where rule.kind == kind && bytes <= rule.bytes && rule.ranks.contains(groupSize)
            && isAllowed(rule.algorithm, kind, groupSize) {
            return rule.algorithm
        }
        // Canonical sums of large buffers: what moves the fewest bytes.
        return Algorithm.halvingDoubling.serves(kind, groupSize: groupSize) ? .halvingDoubling : .tree
    }

    private func isAllowed(_ algorithm: Algorithm, _ kind: CollectiveKind, _ groupSize: Int) -> Bool {
        guard algorithm.serves(kind, groupSize: groupSize) else { return false }
        guard isCanonical, kind == .allReduce || kind == .reduceScatter,
              groupSize & (groupSize - 1) == 0 else { return true }
        return algorithm.isCanonical(kind, groupSize: groupSize)
    }

    // MARK: as text

    public var text: String {
        rules.map { rule in
            "\(rule.kind.name) up-to \(rule.bytes == .max ? "any" : "\(rule.bytes)") "
                + "ranks \(rule.ranks.lowerBound)...\(rule.ranks.upperBound) \(rule.algorithm.name)\n"
        }.joined()
    }

    /// Reads what `text` wrote; `#` begins a comment. `name` is the file's, for the error.
    public init(text: String, name: String) throws(BadInput) {
        self.init()
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let words = line.prefix { $0 != "#" }.split(whereSeparator: \.isWhitespace).map(String.init)
            if words.isEmpty { continue }
            guard let rule = Self.rule(words) else {
                throw BadInput("\(name):\(index + 1): \"\(line)\" is no rule; write for example \"all-reduce up-to "
                    + "16384 ranks 2...8 recursive-doubling\", or make the table by skein bench collectives --tune")
            }
            guard rule.algorithm.serves(rule.kind, groupSize: 2) else {
                throw BadInput("\(name):\(index + 1): \(rule.algorithm.name) is no algorithm for \(rule.kind.name)")
            }
            rules.append(rule)
        }
    }

    private static func rule(_ words: [String]) -> Rule? {
        guard words.count == 6, words[1] == "up-to", words[3] == "ranks",
              let kind = CollectiveKind.allCases.first(where: { $0.name == words[0] }),
              let bytes = words[2] == "any" ? .max : Int(words[2]), bytes >= 0,
              let algorithm = Algorithm(name: words[5]) else { return nil }
        let ends = words[4].split(separator: ".").compactMap { Int($0) }
        guard words[4].contains("..."), ends.count == 2, ends[0] >= 1, ends[0] <= ends[1] else { return nil }
        return Rule(kind, upTo: bytes, ranks: ends[0]...ends[1], algorithm)
    }
}
