import Tensor

/// Who computes attention over the tokens of a micro-batch: this rank alone, or several that share sequences. Called
/// once a layer, so an existential costs nothing that could be measured.
public protocol AttentionStrategy: AnyObject {
    /// Floats that a layer's forward leaves for its backward besides what both are given.
    var keptFloats: Int { get }

    /// out: [T, H * headDim], overwritten. logSum: [H, T], for the backward, and `kept`, of `keptFloats` floats: left
    /// as the strategy likes. qkv: [T, C] in `AttentionShape`'s layout, rotated.
    func forward(_ out: Matrix, logSum: Matrix, kept: Row, qkv: Matrix, shape: AttentionShape, segments: Segments)

    /// dQKV: [T, C], overwritten. The rest as the forward had and left them.
    func backward(_ dQKV: Matrix, dOut: Matrix, out: Matrix, logSum: Matrix, kept: Row, qkv: Matrix,
                  shape: AttentionShape, segments: Segments)
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
    public init(shape: AttentionShape, longest: Int, pool: Pool, memory: Arena) {
        self.pool = pool
        scratch = memory.take(rows: pool.threads, columns: shape.scratchFloats(segment: longest))
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
