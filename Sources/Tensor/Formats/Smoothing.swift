import CKernels

/// Smooth-SwiGLU (2409.12517): the input of the down projection, h = silu(gate) up, is multiplied by s before it is
/// quantised and divided by it afterwards, where s brings the linear branch `up` to 1 at most. Where gate and up of a
/// channel have grown alike, h grows with the square of either; what is left of it grows with one of them alone.
///
/// By channel, s is constant along a product's rows and may be merged into the weights beside it: s W_up, and
/// W_down / s (`merge`). By token it is what the paper's authors' code does; it commutes with the product, and there is
/// nothing to merge. Here s is a power of two either way, so that both directions are exact and an element still fits
/// bf16. Zeros and what is not finite get 1.
///
/// s and the tensor's own scale are made from the same tensor: a new s under an old scale would clip.
public struct Smoothing: Sendable {
    public enum Axis: Sendable { case channel, token }

    public let axis: Axis
    /// s, one for each channel or token.
    public let factors: Row
    private let peak: Row

    /// Floats of memory for so many channels or tokens.
    public static func floats(_ count: Int) -> Int { count + 1 }

    /// Uses the first `floats` of `memory`, as they are: `measure` fills them.
    public init(_ axis: Axis, count: Int, memory: Row) {
        self.axis = axis
        factors = memory.slice(0, count)
        peak = memory.slice(count, 1)
    }

    private static let columns = 64
    private static let rows = 64

    /// Takes s from `up` and the largest magnitude from `hidden`, both [T, F], on all threads. `scratch`: a row for
    /// each thread, of a float at least.
    public func measure(_ hidden: Matrix, up: Matrix, pool: Pool, scratch: Matrix) {
        precondition(hidden.rows == up.rows && hidden.columns == up.columns
            && factors.count == (axis == .channel ? up.columns : up.rows), "smoothing: shapes differ")
        for worker in 0..<pool.threads { scratch.row(worker)[0] = 0 }
        let count = factors.count, size = axis == .channel ? Self.columns : Self.rows
        pool.run((count + size - 1) / size, stage: "measure") { tile, worker in
            let start = tile * size, own = min(size, count - start)
            let largest = axis == .channel ? measureChannels(hidden, up, start, own)
                : measureTokens(hidden, up, start, own)
            let most = scratch.row(worker)
            most[0] = largerMagnitude(most[0], largest)
        }
        peak[0] = (0..<pool.threads).reduce(0) { largerMagnitude($0, scratch.row($1)[0]) }
    }

    private func measureChannels(_ hidden: Matrix, _ up: Matrix, _ start: Int, _ count: Int) -> Float {
        let own = factors.slice(start, count)
        own.fill(0)
        for t in 0..<up.rows {
            unsafe skein_larger_magnitudes(count, up.row(t).slice(start, count).pointer, own.pointer)
        }
        for i in 0..<count { own[i] = Self.factor(own[i]) }
        return unsafe withUnsafeTemporaryAllocation(of: Float.self, capacity: Self.columns) { memory in
            guard let base = memory.baseAddress else { return 0 }
            let magnitudes = unsafe Row(base, count: count)
            magnitudes.fill(0)
            for t in 0..<hidden.rows {
                unsafe skein_larger_magnitudes(count, hidden.row(t).slice(start, count).pointer, magnitudes.pointer)
            }
            return (0..<count).reduce(0) { largerMagnitude($0, magnitudes[$1] * own[$1]) }
        }
    }

    private func measureTokens(_ hidden: Matrix, _ up: Matrix, _ start: Int, _ count: Int) -> Float {
        var largest: Float = 0
        for t in start..<(start + count) {
            factors[t] = Self.factor(largestMagnitude(up.row(t)))
            largest = largerMagnitude(largest, largestMagnitude(hidden.row(t)) * factors[t])
        }
        return largest
    }

    /// Takes s from the largest magnitudes of the linear branch, one for each channel or token.
    public func set(magnitudes: Row) {
        precondition(magnitudes.count == factors.count, "smoothing: shapes differ")
        for index in 0..<factors.count { factors[index] = Self.factor(magnitudes[index]) }
    }

    /// The largest power of two that brings `amax` to 1 at most, within what leaves room for the tensor's own scale.
    private static func factor(_ amax: Float) -> Float {
        min(max(ScaleRule.powerOfTwo.factor(amax: amax, largest: 1) ?? 1, 0x1p-24), 0x1p24)
    }

    public var granularity: Granularity { axis == .channel ? .column : .row }

    /// The largest magnitude of s h.
    public var peakMagnitude: Float { peak[0] }

    /// Sets the scales of a tensor [T, F] of `granularity`: s, times the power of two that brings the largest magnitude
    /// that is left into the format. `peak`: another one to go by.
    public func set(_ scales: Scales, format: NumberFormat, peak other: Float? = nil) {
        precondition(scales.granularity == granularity && scales.factors.all.count == factors.count
            && scales.isFoldable, "smoothed scales: shapes differ")
        let whole = ScaleRule.powerOfTwo.factor(amax: other ?? peakMagnitude, format: format) ?? 1
        let all = scales.factors.all, inverses = scales.inverses.all
        for i in 0..<factors.count {
            all[i] = min(max(factors[i] * whole, 0x1p-62), 0x1p62)
            inverses[i] = 1 / all[i]
        }
    }

    /// Merges channels' factors into the weights, for inference: up [F, D] is multiplied by s row by row, down [D, F]
    /// divided by it column by column. SwiGLU is linear in `up`, so the block computes what it did, to the bit as long
    /// as nothing over- or underflows.
    public func merge(up: Matrix, down: Matrix) {
        merge(up: up)
        merge(down: down)
    }

    /// The one half of it; the other must follow.
    public func merge(up: Matrix) {
        precondition(axis == .channel && up.rows == factors.count, "only channels merge into weights")
        for channel in 0..<factors.count { scale(up.row(channel), by: factors[channel]) }
    }

    public func merge(down: Matrix) {
        precondition(axis == .channel && down.columns == factors.count, "only channels merge into weights")
        for line in 0..<down.rows {
            let row = down.row(line)
            for i in laneStarts(row.count) { row[lanes: i] = row[lanes: i] / factors[lanes: i] }
        }
    }
}
