/// What attention computes on: the fused projections of T tokens, cut into segments.
///
/// Layout of a row of qkv: H query heads, then K key heads, then K value heads, each `headDim` floats, queries
/// and keys already rotated. Query head h reads key head h / (H / K) (grouped-query attention, 2305.13245).
/// A segment is a document's part of a row: token t sees the tokens of its own segment up to itself.
public struct AttentionShape: Sendable, Equatable {
    public let heads: Int
    public let keyHeads: Int
    public let headDim: Int
    /// Whether the operands of its products are rounded to bf16: queries (scaled), keys, values, weights, and their
    /// gradients. Products of such are exact in fp32; softmax, sums and what a softmax's backward subtracts are fp32.
    public let isRounded: Bool
    /// What products of such run on.
    let path: DotPath

    public init(heads: Int, keyHeads: Int, headDim: Int, isRounded: Bool = false, path: DotPath = .best) {
        precondition(heads % keyHeads == 0 && headDim % 2 == 0, "heads must divide by key heads, headDim by 2")
        self.isRounded = isRounded
        self.path = path
        self.heads = heads
        self.keyHeads = keyHeads
        self.headDim = headDim
    }

    /// Query heads that share one key head.
    public var group: Int { heads / keyHeads }
    /// Columns of the fused projection.
    public var fusedColumns: Int { (heads + 2 * keyHeads) * headDim }

    /// What scores are multiplied by, 1 / sqrt(headDim); applied once a query instead of once a score.
    package var temperature: Float { 1 / Float(headDim).squareRoot() }
    /// The same, for scores in units of ln 2: weights are powers of two then, which are cheaper than those of e.
    var binaryTemperature: Float { Float(1 / (Double(headDim).squareRoot() * Self.ln2)) }

    static let ln2 = 0.693_147_180_559_945_3

    func query(_ qkv: Matrix, _ head: Int) -> Matrix { qkv.columns(head * headDim, headDim) }
    func key(_ qkv: Matrix, _ head: Int) -> Matrix { qkv.columns((heads + head) * headDim, headDim) }
    func value(_ qkv: Matrix, _ head: Int) -> Matrix { qkv.columns((heads + keyHeads + head) * headDim, headDim) }

    /// Keys are visited in blocks of so many tokens.
    static let block = 64

    /// Queries in blocks of so many: a block of keys that has been fetched into the first cache serves them all.
    static let queryBlock = 128

    /// Where queries meet keys of their own block, half of the weights lie in the future. Queries go in strips of so
    /// many rows, each with the keys up to its own end, which leaves an eighth of the square to be masked.
    static let strip = 16

    /// Blocks of `size` that `count` tokens fall into, the last one perhaps smaller. A plain iterator: a lazy sequence
    /// keeps its closure on the heap.
    struct Parts: Sequence, IteratorProtocol {
        let count: Int
        let size: Int
        private var from = 0

        init(of count: Int, by size: Int) { (self.count, self.size) = (count, size) }

        mutating func next() -> Range<Int>? {
            guard from < count else { return nil }
            defer { from += size }
            return from..<Swift.min(from + size, count)
        }
    }

    /// Operations of one product of queries with keys, or of weights with values, and of another such product: half
    /// of each segment's square lies in the future.
    func productFlops(_ segments: Segments) -> Int {
        (0..<segments.count).reduce(0) { total, segment in
            let tokens = segments.range(segment).count
            return total + 2 * tokens * tokens * heads * headDim
        }
    }

    /// Floats of scratch memory one worker needs for segments of up to `segment` tokens: linear in it.
    public func scratchFloats(segment: Int) -> Int {
        let blocks = (segment + Self.block - 1) / Self.block
        let tokens = blocks * Self.block * headDim
        let each = 3 * Arena.padded(Self.queryBlock * headDim) + 2 * Arena.padded(Self.queryBlock * Self.block)
            + 17 * Self.queryBlock
        guard isRounded else { return 5 * Arena.padded(tokens) + each }
        return 2 * Arena.padded(tokens) + each + RoundedTiles.floats(blocks: blocks, headDim: headDim)
    }
}

/// Where segments begin in the T tokens of a task: starts[0] = 0 < starts[1] < ... < starts[count] = T, the
/// `cu_seqlens` of variable-length attention.
public struct Segments: Sendable {
    private let starts: Targets
    public var count: Int { starts.count - 1 }

    public init(_ starts: Targets) {
        precondition(starts.count >= 2 && starts[0] == 0, "segments start at token 0")
        self.starts = starts
    }

    public func range(_ segment: Int) -> Range<Int> { starts[segment]..<starts[segment + 1] }
}

/// One worker's scratch memory, carved anew for every head.
struct AttentionScratch {
    private let memory: Row
    private var used = 0

    init(_ memory: Row) { self.memory = memory }

    mutating func matrix(_ rows: Int, _ columns: Int) -> Matrix {
        defer { used += Arena.padded(rows * columns) }
        return Matrix(memory.slice(used, rows * columns), rows: rows, columns: columns)
    }

    mutating func row(_ count: Int) -> Row { matrix(1, count).row(0) }
}
