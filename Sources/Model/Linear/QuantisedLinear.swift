import Recipe
import Tensor

/// How a linear layer's operands are rounded in one step.
struct QuantisedLinear: Sendable {
    let operands: Operands<QuantisedOperand>
    /// [threads, floats] a packed tile of each thread.
    let workers: Matrix
    /// [threads, ...] where each thread notes the largest magnitudes that it sees; this layer's begin at `place`.
    let peaks: Matrix
    let place: Int
    /// Where the micro-batch's health is noted; nil: nowhere, as a rule.
    let health: HealthNotes?
    let path: DotPath
    /// Where the weight stays packed within a step: for the forward, and for the input's gradient. Nil: it does not.
    let kept: (forward: KeptSlot, backward: KeptSlot)?

    /// Looks at an operand whose scales are set.
    func look(_ x: Matrix, _ quantizer: Quantizer, _ operand: Operand, pool: Pool) {
        health?.look(x, quantizer, operand, of: place / PrecisionSetting.tensors, pool: pool)
    }

    /// A worker has seen some elements of a tensor.
    func note(_ x: Matrix, _ tensor: OperandTensor, worker: Int) {
        let peaks = peaks.row(worker), index = place + tensor.rawValue
        peaks[index] = largerMagnitude(peaks[index], largestMagnitude(x))
    }
}

/// Memory of a weight that stays packed until it changes.
struct KeptSlot: Sendable {
    /// One number: 1 where it is packed.
    let isPacked: Row
    let scales: Row
    let packed: Row

    init(_ sizes: KeptWeight, _ memory: Arena) {
        isPacked = memory.take(1)
        scales = memory.take(sizes.scales)
        packed = memory.take(sizes.packed)
    }
}

/// One operand in one step.
struct QuantisedOperand: Sendable {
    let format: OperandFormat
    /// The scale of the whole tensor; nil: scales come from the tensor itself.
    let factor: Float?
    let rounding: Rounding

    /// Scales for a tensor of that shape, set as far as they are known.
    /// `keeping`: those that lie there already.
    func scales(rows: Int, columns: Int, depthAlongColumns: Bool, by smoothing: Smoothing? = nil,
                keeping: Bool = false, _ memory: inout PackingMemory) -> Scales {
        let granularity = smoothing?.granularity ?? format.granularity(depthAlongColumns: depthAlongColumns)
        let scales = Scales(granularity, rows: rows, columns: columns, foldable: !format.setting.isFree,
                            memory: memory.take(Scales.floats(granularity, rows: rows, columns: columns)),
                            keeping: keeping)
        if smoothing == nil, let factor { scales.set(factor) }
        return scales
    }

    /// Makes the scales those of `x`, where they are not known. `scratch` as in `Scales.measure`.
    func measure(_ x: Matrix, _ scales: Scales, pool: Pool, scratch: Matrix) {
        guard factor == nil else { return }
        if format.setting.rule == .twoLevels {
            scales.measureTwoLevels(x, format: format.number, pool: pool, scratch: scratch)
        } else {
            scales.measure(x, format.rule, format: format.number, pool: pool, scratch: scratch)
        }
    }

    func quantizer(_ scales: Scales) -> Quantizer { Quantizer(format.number, scales, rounding) }
}

/// A layer's product with its weight on the right, with both operands quantised: the weight while it is packed, once
/// for all tokens, the left operand tile by tile.
struct QuantisedProduct: Sendable {
    private let linear: QuantisedLinear
    private let isForward: Bool
    private let left: QuantisedOperand
    private let leftScales: Scales
    private let right: DotRight
    private let smoothing: Smoothing?
    /// Whether an earlier micro-batch of this step has packed the weight.
    private let isPacked: Bool

    /// `memory` tells the tokens to come. Scales that come from the weight itself are measured here, on all threads.
    init(_ linear: QuantisedLinear, weight: Matrix, isForward: Bool, smoothing: Smoothing?,
         memory: inout PackingMemory) {
        self.linear = linear
        self.isForward = isForward
        self.smoothing = isForward ? smoothing : nil
        left = isForward ? linear.operands.forwardInput : linear.operands.inputGradientOutput
        let operand = isForward ? linear.operands.forwardWeight : linear.operands.inputGradientWeight
        let (depth, width) = isForward ? (weight.columns, weight.rows) : (weight.rows, weight.columns)
        let kept = isForward ? linear.kept?.forward : linear.kept?.backward
        isPacked = kept.map { $0.isPacked[0] == 1 } ?? false
        var own = kept.map { PackingMemory($0.scales) } ?? memory
        let scales = operand.scales(rows: weight.rows, columns: weight.columns, depthAlongColumns: isForward,
                                    keeping: isPacked, &own)
        if kept == nil { memory = own }
        if let pool = memory.pool {
            if !isPacked { operand.measure(weight, scales, pool: pool, scratch: linear.workers) }
            linear.look(weight, operand.quantizer(scales), isForward ? .forwardWeight : .inputGradientWeight,
                        pool: pool)
        }
        right = DotRight(weight, transposed: isForward, operand.quantizer(scales),
                         memory: kept?.packed ?? memory.take(DotRight.floats(depth: depth, columns: width)),
                         path: linear.path)
        // Whoever makes a product packs it next.
        kept?.isPacked[0] = 1
        leftScales = left.scales(rows: memory.tokens, columns: depth, depthAlongColumns: true, by: self.smoothing,
                                 &memory)
    }

    var packingTiles: Int { isPacked ? 0 : right.packingTiles }

    func pack(_ tile: Int, worker: Int) {
        if isForward { linear.note(right.source(tile), .weight, worker: worker) }
        right.pack(tile)
    }

    /// Whether the left operand must be there as a whole before any of it is multiplied.
    var needsWhole: Bool { left.factor == nil || smoothing != nil || linear.health != nil }

    /// The left operand is complete. `up`: the linear branch that smooths it, if it is to be smoothed.
    func measure(_ x: Matrix, up: Matrix?, pool: Pool) {
        if let smoothing, let up {
            smoothing.measure(x, up: up, pool: pool, scratch: linear.workers)
            smoothing.set(leftScales, format: left.format.number)
        } else {
            left.measure(x, leftScales, pool: pool, scratch: linear.workers)
        }
        linear.look(x, left.quantizer(leftScales), isForward ? .forwardInput : .inputGradientOutput, pool: pool)
    }

    /// out = x W^T or x W (+ out), where x is the tokens from `start` on.
    func multiply(_ out: Matrix, _ x: Matrix, at start: Int, worker: Int, accumulate: Bool) {
        if smoothing == nil { linear.note(x, isForward ? .input : .outputGradient, worker: worker) }
        let packed = DotLeft(x, row: start, transposed: false, left.quantizer(leftScales),
                             memory: linear.workers.row(worker), path: linear.path)
        DotGemm.times(out, packed, right, accumulate: accumulate)
    }
}
