import Base

/// Dataset decomposition (2405.13226): documents are cut into pieces whose lengths are powers of two, so
/// that a step can take rows of one length that each come from one document.
public struct Decomposition: Sendable, Equatable {
    public enum Mode: Sendable, Equatable {
        /// The paper's: always the longest piece that fits.
        case greedy
        /// The authors' code: where the rest of a document is longer than the longest piece allows, a
        /// random length k with probability proportional to 2^(maximum - k), which gives every length
        /// the same expected number of tokens.
        case random
        /// Pieces are chosen so that the lengths' shares of all tokens come as near to these weights as
        /// the documents allow, one weight for each exponent from the shortest.
        case quota([Double])
    }

    /// Exponents of the shortest and the longest pieces.
    public var minimum: Int
    public var maximum: Int
    public var mode: Mode
    /// Names the random choices.
    public var seed: UInt64

    public init(minimum: Int, maximum: Int, mode: Mode, seed: UInt64 = 0) {
        precondition((0...maximum).contains(minimum) && maximum <= 30, "exponents out of order")
        if case .quota(let weights) = mode {
            precondition(weights.count == maximum - minimum + 1, "one weight for each exponent")
            precondition(weights.allSatisfy { $0 >= 0 && $0.isFinite } && weights.contains { $0 > 0 })
        }
        self.minimum = minimum
        self.maximum = maximum
        self.mode = mode
        self.seed = seed
    }

    public var exponents: ClosedRange<Int> { minimum...maximum }
}

/// All input positions of a stream in rows of powers of two, each position in exactly one.
package struct Buckets: Sendable {
    package let exponents: ClosedRange<Int>
    /// One table for each exponent, the shortest first.
    package private(set) var tables: [RowTable]
    /// How many rows of the shortest table hold rests, several to a row: they are its last ones.
    package private(set) var restRowCount = 0

    package subscript(exponent: Int) -> RowTable { tables[exponent - exponents.lowerBound] }

    /// Cuts the documents of `stream`. What remains of a document is shorter than the shortest piece, and the
    /// same in all modes, because all pieces are multiples of it; rests are packed best-fit into rows of
    /// the shortest length, so that nothing is left out.
    package init(_ stream: TokenStream, _ plan: Decomposition) {
        exponents = plan.exponents
        tables = exponents.map { RowTable(sequence: 1 << $0) }
        var rests: [Piece] = []
        var cutter = Cutter(stream, plan)
        for document in cutter.order {
            var begin = stream.starts[document]
            let end = stream.starts[document + 1]
            while end - begin >= 1 << plan.minimum {
                let exponent = cutter.next(position: begin, rest: end - begin)
                tables[exponent - plan.minimum].append([Piece(position: begin, count: 1 << exponent)])
                begin += 1 << exponent
            }
            if begin < end { rests.append(Piece(position: begin, count: end - begin)) }
        }
        guard !rests.isEmpty else { return }
        let packing = packBestFit(rests.map(\.count), capacity: 1 << plan.minimum)
        tables[0].append(rests, packed: packing)
        restRowCount = packing.count
    }
}

/// Chooses the length of each piece.
private struct Cutter {
    /// The documents in the order in which they are to be cut.
    let order: [Int]
    private let plan: Decomposition
    private let rng: CounterRNG
    /// Tokens that each exponent still lacks, for quotas.
    private var lacking: [Double] = []

    init(_ stream: TokenStream, _ plan: Decomposition) {
        self.plan = plan
        rng = CounterRNG(seed: plan.seed, stream: cutStream)
        let documents = stream.documents.indices
        guard case .quota(let weights) = plan.mode else {
            order = Array(documents)
            return
        }
        func length(_ document: Int) -> Int { stream.starts[document + 1] - stream.starts[document] }
        let whole = documents.reduce(0) { $0 + (length($1) >> plan.minimum) << plan.minimum }
        let sum = weights.reduce(0, +)
        lacking = weights.map { Double(whole) * $0 / sum }
        // Short documents have no choice but short pieces, so they go first, and the long ones make up for
        // it. Among documents of about one length the order is random, lest a source get all of one length.
        let rng = rng
        let keys = documents.map { ($0, magnitude(length($0)), rng.bits(at: UInt64.max - UInt64($0))) }
        order = keys.sorted { ($0.1, $0.2, $0.0) < ($1.1, $1.2, $1.0) }.map(\.0)
    }

    /// The exponent of the piece at input position `position`, with `rest` inputs left in its document.
    mutating func next(position: Int, rest: Int) -> Int {
        let longest = magnitude(rest), cap = min(longest, plan.maximum)
        switch plan.mode {
        case .greedy: return cap
        case .random:
            guard longest > plan.maximum else { return cap }
            let weights = (plan.minimum...cap).map { Double(1 << (plan.maximum - $0)) }
            return plan.minimum + draw(weights, at: position)!
        case .quota:
            // In proportion to the pieces that are still lacking; the longest where none is.
            let weights = (plan.minimum...cap).map { max(0, lacking[$0 - plan.minimum]) / Double(1 << $0) }
            let exponent = draw(weights, at: position).map { $0 + plan.minimum } ?? cap
            lacking[exponent - plan.minimum] -= Double(1 << exponent)
            return exponent
        }
    }

    /// An index with probability in proportion to its weight; nil when all are zero. The position names the
    /// draw, so it does not depend on what was drawn before.
    private func draw(_ weights: [Double], at position: Int) -> Int? {
        rng.index(weights: weights, at: UInt64(position))
    }
}

/// "cut", for the random lengths of pieces.
private let cutStream: UInt64 = 0x6375_7400_0000_0000

/// floor(log2(value)), for value > 0.
func magnitude(_ value: Int) -> Int { Int.bitWidth - 1 - value.leadingZeroBitCount }

extension CounterRNG {
    /// An index drawn with probability in proportion to `weights`, none of them negative; nil when all are 0.
    package func index(weights: [Double], at counter: UInt64) -> Int? {
        let sum = weights.reduce(0, +)
        guard sum > 0 else { return nil }
        var rest = uniform(at: counter) * sum
        for (index, weight) in weights.enumerated() where weight > 0 {
            rest -= weight
            if rest < 0 { return index }
        }
        // Rounding left a little more than the weights hold.
        return weights.lastIndex { $0 > 0 }
    }
}
