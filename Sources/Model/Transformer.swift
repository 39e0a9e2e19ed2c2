import Base
import Recipe
import Tensor

/// The tokens of one forward and backward: whole rows of one length, laid out one after the other; or this rank's part
/// of them.
public struct MicroBatch: Sendable {
    public let inputs: Targets
    public let targets: Targets
    public let segments: Segments
    public let sequence: Int
    /// Of each token in its row; nil where all tokens of the rows are here.
    public let positions: Targets?
    /// Where the first token lies among those of all ranks and micro-batches of the step: random numbers come from
    /// there.
    public let firstToken: Int

    public var tokens: Int { inputs.count }

    /// inputs, targets: T ids each (a negative target is none). segments: where documents begin, and rows do.
    /// sequence: tokens of a row; positions start again at 0 with each row.
    public init(inputs: Targets, targets: Targets, segments: Segments, sequence: Int, firstToken: Int = 0) {
        precondition(inputs.count == targets.count && inputs.count % sequence == 0, "a batch is whole rows")
        self.inputs = inputs
        self.targets = targets
        self.segments = segments
        self.sequence = sequence
        self.firstToken = firstToken
        positions = nil
    }

    /// Some tokens of rows of `sequence`, with the position of each in its row.
    public init(inputs: Targets, targets: Targets, segments: Segments, sequence: Int, positions: Targets,
                firstToken: Int = 0) {
        precondition(inputs.count == targets.count && inputs.count == positions.count, "a position for each token")
        self.inputs = inputs
        self.targets = targets
        self.segments = segments
        self.sequence = sequence
        self.positions = positions
        self.firstToken = firstToken
    }
}

/// A decoder-only transformer in Llama's layout: RMSNorm before each half of a block, rotary positions,
/// grouped-query attention, SwiGLU.
///
/// It owns its activations and scratch memory, but neither weights nor gradients, and knows of no rank.
public final class Transformer {
    public let table: ParameterTable
    public let maxTokens: Int
    private let workspace: Workspace
    private let attentionLayer: AttentionLayer
    private let feedForward: FeedForwardLayer
    private let headLayer: HeadLayer
    private let pool: Pool
    private let recomputation: Recipe.Recomputation
    package let arena: Arena
    /// How the linear layers' operands are rounded; nil: not at all. Whoever trains begins and finishes its steps.
    public let quantisation: Quantisation?
    /// Where weights come from, block by block; nil: they are there.
    public var source: (any WeightSource)?
    private let headBlocks: [Int]
    private let usesOfForward: [Int]
    private let usesOfStep: [Int]
    /// Views for the tokens of the micro-batch at hand.
    private var views: (saved: Saved, scratch: Scratch)

    /// Memory for tasks of up to `maxTokens` tokens in rows of up to `sequence`. `formats`: of the linear layers; nil:
    /// fp32. `seed` draws the numbers of stochastic rounding. `keepsWeights`: quantised weights stay packed within a
    /// step. `attention` replaces the local strategy.
    public init(_ table: ParameterTable, maxTokens: Int, sequence: Int, pool: Pool,
                recomputation: Recipe.Recomputation = .none, matmul: Recipe.Matmul = .own,
                formats: LinearFormats? = nil, seed: Int = 0, keepsWeights: Bool = false,
                attention: (any AttentionStrategy)? = nil) throws(OutOfMemory) {
        self.table = table
        self.maxTokens = maxTokens
        self.pool = pool
        self.recomputation = recomputation
        headBlocks = table.headBlocks
        usesOfForward = table.uses(backward: false)
        usesOfStep = table.uses(backward: true)
        let shape = table.shape
        let slots = ActivationSlots(shape, vocabulary: table.vocabulary, tokens: maxTokens,
                                    recomputation: recomputation, exchanged: attention?.keptFloats ?? 0,
                                    precision: formats?.setting)
        let attentionShape = AttentionShape(heads: shape.heads, keyHeads: shape.keyHeads, headDim: shape.headDim,
                                            isRounded: formats?.setting.roundsAttention ?? false,
                                            path: formats?.path ?? .best)
        let attentionFloats = attention == nil
            ? LocalAttention.floats(shape: attentionShape, longest: sequence, threads: pool.threads) : nil
        let borrowed = formats?.setting.borrowed(slots, shape, tokens: maxTokens, threads: pool.threads,
                                                 attention: attentionFloats)
            ?? BorrowedLogits(logits: 0, attention: 0, tiles: 0)
        arena = try Arena(name: "activations", capacity: slots.totalFloats
            + RotaryTable.floats(positions: sequence, headDim: shape.headDim)
            + (attentionFloats ?? 0) - borrowed.attention
            + HeadLayer.floats(slots.head, dim: shape.dim, threads: pool.threads)
            + (formats?.setting.floats(shape, tokens: maxTokens, threads: pool.threads,
                                       keepsWeights: keepsWeights, borrowed: borrowed) ?? 0))
        workspace = Workspace(slots, shape: shape, memory: arena)
        views = workspace.whole
        let rotaryTable = RotaryTable(arena, positions: sequence, headDim: shape.headDim, theta: shape.ropeTheta,
                                      scaling: shape.rotaryScaling)
        let epsilon = Float(shape.normEpsilon), memory = arena, logits = views.scratch.logits
        quantisation = formats.map {
            Quantisation($0, shape: shape, tokens: maxTokens, threads: pool.threads, seed: UInt64(seed),
                         keepsWeights: keepsWeights, tiles: logits.slice(borrowed.tilesStart, borrowed.tiles),
                         memory: memory)
        }
        let linears = Linears(matmul: matmul, quantisation: quantisation)
        attentionLayer = AttentionLayer(
            shape: attentionShape, rotaryTable: rotaryTable, epsilon: epsilon, pool: pool, linears: linears,
            strategy: attention ?? LocalAttention(
                shape: attentionShape, longest: sequence, pool: pool,
                memory: borrowed.attention > 0 ? logits.slice(borrowed.taken, borrowed.attention)
                    : memory.take(attentionFloats ?? 0)))
        feedForward = FeedForwardLayer(epsilon: epsilon, pool: pool, linears: linears)
        headLayer = HeadLayer(slots.head, epsilon: epsilon, pool: pool, matmul: matmul, dim: shape.dim, memory: arena)
    }

    private func views(_ tokens: Int) -> (Saved, Scratch) {
        precondition(tokens <= maxTokens, "a batch of \(tokens) tokens, but memory for \(maxTokens)")
        if views.saved.finalInverse.count != tokens { workspace.resize(&views, to: tokens) }
        return views
    }

    /// The residual stream through all layers. What the backward needs stays in this model's memory until the
    /// next forward.
    public func forward(_ batch: MicroBatch, weights: Parameters) {
        let (saved, scratch) = views(batch.tokens)
        quantisation?.firstRow = batch.firstToken
        let tiles = Tiles(tokens: batch.tokens)
        let first = saved.layers[0].input
        source?.acquire(0)
        pool.run(tiles.count, stage: "embedding") { tile, _ in
            let (start, count) = tiles.range(tile)
            gatherRows(first.rows(start, count), table: weights.embedding, tokens: batch.inputs.slice(start, count))
        }
        source?.release(0)
        for (index, layer) in saved.layers.enumerated() {
            source?.acquire(index + 1)
            attentionLayer.forward(layer, weights.layers[index], batch, scratch)
            let out = index + 1 < saved.layers.count ? saved.layers[index + 1].input : saved.final
            feedForward.forward(out, layer, weights.layers[index], scratch)
            source?.release(index + 1)
        }
    }

    /// The blocks whose weights a forward, and the loss or the backward after it, use one after the other.
    public func uses(backward: Bool) -> [Int] { backward ? usesOfStep : usesOfForward }

    /// The sum of the token losses in nats, after `forward` of the same micro-batch.
    public func loss(_ batch: MicroBatch, weights: Parameters) -> Double {
        head(batch, weights, weights, nil)
    }

    /// out: [T, V], the logits behind each token, after `forward` of the same micro-batch: for tests and for those who
    /// hold results against it, since a step never has them all at once.
    package func logits(_ out: Matrix, tokens: Int, weights: Parameters) {
        let (saved, scratch) = views(tokens)
        rmsNorm(scratch.normed, inverse: saved.finalInverse, x: saved.final, gain: weights.finalGain,
                epsilon: Float(table.shape.normEpsilon))
        Gemm.timesTransposed(out, scratch.normed, weights.head)
    }

    /// The sum of the token losses, and all gradients of scale * loss, added to `gradients`, after `forward` of
    /// the same micro-batch. `scale` is 1 over the step's count of targets on all ranks. `sink` hears of each block
    /// when it is complete, last block first. A forward's backward can be asked for once: it writes over what the
    /// forward left.
    public func backward(_ batch: MicroBatch, weights: Parameters, gradients: Parameters, scale: Float,
                         into sink: (any GradientSink)? = nil) -> Double {
        let (saved, scratch) = views(batch.tokens)
        let layers = saved.layers.count
        for block in headBlocks { sink?.begin(block) }
        let loss = head(batch, weights, gradients, scale)
        sink?.ready(layers + 1)
        for index in (0..<layers).reversed() {
            let layer = saved.layers[index]
            source?.acquire(index + 1)
            sink?.begin(index + 1)
            // What layers share holds the last layer's values still.
            let isMissing = index + 1 < layers
            if isMissing, recomputation == .full {
                attentionLayer.forward(layer, weights.layers[index], batch, scratch)
            }
            let left = feedForward.backward(layer, weights.layers[index], gradients.layers[index], scratch,
                                            makingAgain: isMissing && recomputation != .none)
            attentionLayer.backward(layer, weights.layers[index], gradients.layers[index], batch, scratch, left: left)
            // What is fetched next goes before these gradients over the network.
            source?.release(index + 1)
            sink?.ready(index + 1)
        }
        if !table.shape.tieEmbeddings { sink?.begin(0) }
        embeddingBackward(batch, gradients, scratch)
        sink?.ready(0)
        return loss
    }

    /// What source and sink hear of a forward, its loss, and with a `sink` its backward, of no tokens at all: from a
    /// rank that has no micro-batch while others have one, where all exchange weights or gradients in each.
    public func pass(into sink: (any GradientSink)? = nil) {
        let layers = table.shape.layers
        for block in 0...layers {
            source?.acquire(block)
            source?.release(block)
        }
        for block in headBlocks { sink?.begin(block) }
        for block in headBlocks { source?.acquire(block) }
        for block in headBlocks { source?.release(block) }
        guard let sink else { return }
        sink.ready(layers + 1)
        for block in (1...layers).reversed() {
            source?.acquire(block)
            sink.begin(block)
            source?.release(block)
            sink.ready(block)
        }
        if !table.shape.tieEmbeddings { sink.begin(0) }
        sink.ready(0)
    }

    private func head(_ batch: MicroBatch, _ weights: Parameters, _ gradients: Parameters, _ scale: Float?) -> Double {
        let (saved, scratch) = views(batch.tokens)
        for block in headBlocks { source?.acquire(block) }
        defer { for block in headBlocks { source?.release(block) } }
        return headLayer.run(saved, weights, gradients, batch, scratch, gradientScale: scale)
    }

    /// Two tokens of a tile may be the same word, so the work is cut by columns and by words, and not by tokens.
    private func embeddingBackward(_ batch: MicroBatch, _ gradients: Parameters, _ scratch: Scratch) {
        let width = table.shape.dim
        // A cache line of each row: as narrow as columns can be without two threads on one line. Where lines are few,
        // words are dealt out as well: the frequent ones, first, then leave no thread of sixteen waiting.
        let strips = (width + 15) / 16, parts = strips < 24 ? 8 : strips < 48 ? 4 : 1
        pool.run(strips * parts, stage: "embedding backward") { tile, _ in
            let first = tile % strips * 16
            scatterRows(gradients.embedding, dOut: scratch.dResidual, tokens: batch.inputs,
                        columns: first..<min(width, first + 16), part: tile / strips, of: parts)
        }
    }
}
