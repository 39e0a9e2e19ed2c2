import Recipe
import Tensor

/// Who computes attention over the tokens of a micro-batch: this rank alone, or several that share sequences. Called
/// once a layer, so an existential costs nothing that could be measured.
///
/// A strategy that exchanges something has it under way while the layer multiplies: it is told of rows as they are
/// made, part by part, and says when rows have come. Who exchanges nothing needs `forward` and `backward` alone.
public protocol AttentionStrategy: AnyObject {
    /// Floats that a layer's forward leaves for its backward besides what both are given.
    var keptFloats: Int { get }

    /// In how many parts (`rowPart`) the rows of this micro-batch are made and wanted.
    var parts: Int { get }

    /// Into how many equal groups side by side heads are cut of which each is made, and multiplied, by itself while
    /// another is exchanged. 1: they are made and wanted all at once.
    var headGroups: Int { get }

    /// Whether keys and values had better be made before queries.
    var wantsKeysFirst: Bool { get }

    /// Keys and values of `qkv` are made; or they are there, and a backward begins that is going to be given them.
    func keysMade(_ qkv: Matrix)

    /// Part `part` of group `group` of `qkv`'s heads is made: what `forward` is going to be given. All ranks make parts
    /// and groups in one order.
    func made(_ part: Int, _ group: Int, qkv: Matrix, kept: Row)

    /// out: [T, H * headDim], overwritten; it is there when `arrived` has been asked for all parts. logSum: [H, T], for
    /// the backward, and `kept`, of `keptFloats` floats: left as the strategy likes. qkv: [T, C] in `AttentionShape`'s
    /// layout, rotated.
    func forward(_ out: Matrix, logSum: Matrix, kept: Row, qkv: Matrix, shape: AttentionShape, segments: Segments)

    /// Returns when part `part` of group `group` of `out`'s heads is there.
    func arrived(_ part: Int, _ group: Int, out: Matrix)

    /// Part `part` of `dOut` is made, and the parts before it: what `backward` is going to be given.
    func made(_ part: Int, dOut: Matrix)

    /// dQKV: [T, C], overwritten; it is there after `finish`. The rest as the forward had and left them.
    func backward(_ dQKV: Matrix, dOut: Matrix, out: Matrix, logSum: Matrix, kept: Row, qkv: Matrix,
                  shape: AttentionShape, segments: Segments)

    /// Returns when `dQKV` is there.
    func finish(_ dQKV: Matrix)
}

extension AttentionStrategy {
    public var parts: Int { 1 }
    public var headGroups: Int { 1 }
    public var wantsKeysFirst: Bool { false }
    public func keysMade(_ qkv: Matrix) {}
    public func made(_ part: Int, _ group: Int, qkv: Matrix, kept: Row) {}
    public func arrived(_ part: Int, _ group: Int, out: Matrix) {}
    public func made(_ part: Int, dOut: Matrix) {}
    public func finish(_ dQKV: Matrix) {}

    /// A forward with nothing to do meanwhile.
    package func wholeForward(_ out: Matrix, logSum: Matrix, kept: Row, qkv: Matrix, shape: AttentionShape,
                              segments: Segments) {
        keysMade(qkv)
        for group in 0..<headGroups {
            for part in 0..<parts { made(part, group, qkv: qkv, kept: kept) }
        }
        forward(out, logSum: logSum, kept: kept, qkv: qkv, shape: shape, segments: segments)
        for group in 0..<headGroups {
            for part in 0..<parts { arrived(part, group, out: out) }
        }
    }

    /// The same of a backward.
    package func wholeBackward(_ dQKV: Matrix, dOut: Matrix, out: Matrix, logSum: Matrix, kept: Row, qkv: Matrix,
                               shape: AttentionShape, segments: Segments) {
        keysMade(qkv)
        for part in 0..<parts { made(part, dOut: dOut) }
        backward(dQKV, dOut: dOut, out: out, logSum: logSum, kept: kept, qkv: qkv, shape: shape, segments: segments)
        finish(dQKV)
    }
}

/// Rows of part `part` of `parts`: whole tiles.
public func rowPart(_ part: Int, of parts: Int, rows: Int) -> Range<Int> {
    let tiles = Tiles(tokens: rows).part(part, of: parts), size = ActivationSlots.tileRows
    return min(rows, tiles.lowerBound * size)..<min(rows, tiles.upperBound * size)
}

/// Whoever reduces gradients over ranks, or nobody. Blocks are those of `ParameterTable`.
public protocol GradientSink: AnyObject {
    /// The backward is about to add to the gradient of `block`, whose memory must be there, and zero at first, when
    /// this returns. Told once for each block of a micro-batch.
    func begin(_ block: Int)

    /// The gradient of `block` holds this micro-batch's contribution in full and is not written again by it. Called
    /// last block first, from the thread that runs the backward, which goes on at once: the sink must not block.
    func ready(_ block: Int)
}

/// Whoever holds the weights, where not every rank holds all of them. Blocks are those of `ParameterTable`. The model
/// says what it uses and when; what is fetched ahead is the source's affair, since the order of use is known.
public protocol WeightSource: AnyObject {
    /// The weights of `block` are in place when this returns, and stay until `release`.
    func acquire(_ block: Int)

    /// They are not read again before the next `acquire`.
    func release(_ block: Int)
}

/// Attention of one rank over its own rows.
public final class LocalAttention: AttentionStrategy {
    private let pool: Pool
    private let scratch: Matrix

    /// `memory` gives `floats(shape:longest:threads:)` floats. `longest`: tokens of the longest segment.
    public convenience init(shape: AttentionShape, longest: Int, pool: Pool, memory: Arena) {
        self.init(shape: shape, longest: longest, pool: pool,
                  memory: memory.take(Self.floats(shape: shape, longest: longest, threads: pool.threads)))
    }

    /// The same in memory that it may use while it computes, and not in between.
    init(shape: AttentionShape, longest: Int, pool: Pool, memory: Row) {
        self.pool = pool
        scratch = Matrix(memory, rows: pool.threads, columns: shape.scratchFloats(segment: longest))
    }

    public static func floats(shape: AttentionShape, longest: Int, threads: Int) -> Int {
        Arena.padded(threads * shape.scratchFloats(segment: longest))
    }

    public var keptFloats: Int { 0 }

    public func forward(_ out: Matrix, logSum: Matrix, kept: Row, qkv: Matrix, shape: AttentionShape,
                        segments: Segments) {
        attention(out, logSum: logSum, qkv: qkv, shape: shape, segments: segments, scratch: scratch, pool: pool)
    }

    public func backward(_ dQKV: Matrix, dOut: Matrix, out: Matrix, logSum: Matrix, kept: Row, qkv: Matrix,
                         shape: AttentionShape, segments: Segments) {
        attentionBackward(dQKV, dOut: dOut, out: out, logSum: logSum, qkv: qkv, shape: shape,
                          segments: segments, scratch: scratch, pool: pool)
    }
}
