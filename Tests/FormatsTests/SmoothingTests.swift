import Base
import Tensor
import Testing
import TestSupport

/// Smooth-SwiGLU's factors, its scales, and what they are good for.
@Suite struct SmoothingTests {
    static let axes: [Smoothing.Axis] = [.channel, .token]

    /// hidden and up [T, F]: SwiGLU of normal gates and ups, in which one channel is large in one token: gate and up
    /// alike, so that it is the square of either.
    private func branches(_ tokens: Int, _ width: Int, outlier: Float, _ memory: FencedMemory) -> (Matrix, Matrix) {
        let gate = normals(tokens * width, seed: 1), up = normals(tokens * width, seed: 2)
        let gateUp = memory.matrix(tokens, 2 * width), hidden = memory.matrix(tokens, width)
        for t in 0..<tokens {
            let row = gateUp.row(t)
            row.slice(0, width).copy(Array(gate[(t * width)..<(t * width + width)]))
            row.slice(width, width).copy(Array(up[(t * width)..<(t * width + width)]))
        }
        gateUp.row(tokens / 2)[width / 3] = outlier
        gateUp.row(tokens / 2)[width / 3 + width] = outlier
        swiGLU(hidden, gateUp: gateUp)
        return (hidden, gateUp.columns(width, width))
    }

    private func measured(_ axis: Smoothing.Axis, _ hidden: Matrix, _ up: Matrix, threads: Int,
                          _ memory: FencedMemory) -> Smoothing {
        let count = axis == .channel ? up.columns : up.rows
        let smoothing = Smoothing(axis, count: count, memory: memory.row(Smoothing.floats(count)))
        let pool = Pool(threads: threads, spin: false)
        defer { pool.close() }
        smoothing.measure(hidden, up: up, pool: pool, scratch: memory.matrix(threads, 1))
        return smoothing
    }

    private func smoothed(_ smoothing: Smoothing, _ x: Matrix, _ format: NumberFormat, _ memory: FencedMemory)
        -> Quantizer {
        let scales = Scales(smoothing.granularity, rows: x.rows, columns: x.columns, foldable: true,
                            memory: memory.row(Scales.floats(smoothing.granularity, rows: x.rows, columns: x.columns)))
        smoothing.set(scales, format: format)
        return Quantizer(format, scales)
    }

    /// Each factor is the power of two that brings its channel's, or its token's, linear branch to between 1/2 and 1;
    /// all of it together just fits the format. Zeros and infinities get 1. Threads change nothing.
    @Test(arguments: axes, [1, 2, 3]) func factors(_ axis: Smoothing.Axis, threads: Int) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let (hidden, up) = branches(70, 83, outlier: 40, memory)
        up.row(5).fill(0)
        for t in 0..<up.rows { up.row(t)[7] = 0 }
        up.row(9)[11] = .infinity
        let smoothing = measured(axis, hidden, up, threads: threads, memory)
        let all = smoothed(smoothing, hidden, .e4m3, memory).scales
        var most = 0.0
        for index in 0..<smoothing.factors.count {
            let line = axis == .channel ? (0..<up.rows).map { up.row($0)[index] } : up.row(index).array
            let amax = line.map(\.magnitude).max() ?? 0, factor = smoothing.factors[index]
            if amax == 0 || !amax.isFinite {
                #expect(factor == 1)
            } else {
                #expect(factor.significand == 1 && amax * factor <= 1 && amax * factor > 0.5, "\(index)")
            }
        }
        for t in 0..<hidden.rows {
            for i in 0..<hidden.columns {
                most = max(most, Double(hidden.row(t)[i].magnitude) * Double(all.factor(row: t, column: i)))
                #expect(all.factor(row: t, column: i) * all.inverse(row: t, column: i) == 1)
            }
        }
        #expect(most <= 448 && most > 224)
    }

    /// One channel that is the square of two large numbers drowns the others under one scale: most of them become zero.
    /// Smoothed by channel or by token they do not, and less is lost of what they are.
    @Test(arguments: axes) func whatIsSmallSurvives(_ axis: Smoothing.Axis) {
        let memory = FencedMemory()
        let (hidden, up) = branches(128, 96, outlier: 512, memory)
        let scale = ScaleRule.powerOfTwo.factor(amax: largestMagnitude(hidden), format: .e4m3) ?? 1
        let plain = quantizer(.e4m3, memory, rows: hidden.rows, columns: hidden.columns, scale: scale)
        let smooth = smoothed(measured(axis, hidden, up, threads: 1, memory), hidden, .e4m3, memory)
        func others(_ quantizer: Quantizer) -> (flushed: Double, error: Double) {
            let out = memory.matrix(hidden.rows, hidden.columns)
            quantizer.roundTrip(out, hidden)
            var (zeros, count, noise, signal) = (0.0, 0.0, 0.0, 0.0)
            for t in 0..<hidden.rows where t != hidden.rows / 2 {
                for i in 0..<hidden.columns where i != hidden.columns / 3 {
                    let x = Double(hidden.row(t)[i]), y = Double(out.row(t)[i])
                    (zeros, count) = (zeros + (y == 0 && x != 0 ? 1 : 0), count + 1)
                    (noise, signal) = (noise + (x - y) * (x - y), signal + x * x)
                }
            }
            return (zeros / count, (noise / signal).squareRoot())
        }
        #expect(others(plain).flushed > 0.5 && others(plain).error > 0.3, "\(others(plain))")
        #expect(others(smooth).flushed < 0.15 && others(smooth).error < 0.05, "\(axis): \(others(smooth))")
        #expect(memory.isIntact)
    }

    /// Channels' factors merged into both weights: the block's output has the same bits.
    @Test func mergedWeightsComputeTheSame() {
        let memory = FencedMemory(), (tokens, width, dim) = (31, 50, 24)
        let x = memory.matrix(normals(tokens * dim, seed: 3), tokens, dim)
        let weights = memory.matrix(normals(2 * width * dim, seed: 4), 2 * width, dim)
        let down = memory.matrix(normals(dim * width, seed: 5), dim, width)
        func output() -> ([Float], Smoothing) {
            let gateUp = memory.matrix(tokens, 2 * width), hidden = memory.matrix(tokens, width)
            let out = memory.matrix(tokens, dim)
            Gemm.timesTransposed(gateUp, x, weights)
            swiGLU(hidden, gateUp: gateUp)
            Gemm.timesTransposed(out, hidden, down)
            return (out.values, measured(.channel, hidden, gateUp.columns(width, width), threads: 1, memory))
        }
        let (want, smoothing) = output()
        #expect(Set(smoothing.factors.array).count > 1)
        smoothing.merge(up: weights.rows(width, width), down: down)
        let (got, after) = output()
        #expect(mismatch(got, want) == nil)
        #expect(after.factors.array.allSatisfy { $0 == 1 }, "what is merged needs no factor any more")
        #expect(memory.isIntact)
    }

    /// Scales measured on several threads are those measured on one, whatever shares them.
    @Test(arguments: ScalesTests.grids, [1, 2, 3]) func scalesOnThreads(_ grid: Granularity, threads: Int) {
        let memory = FencedMemory(), (rows, columns) = (131, 1_100)
        let x = memory.matrix(spread(rows * columns, seed: 6, exponents: -12...12), rows, columns, gap: 3)
        func scales() -> Scales {
            Scales(grid, rows: rows, columns: columns, foldable: true,
                   memory: memory.row(Scales.floats(grid, rows: rows, columns: columns)))
        }
        let one = scales(), several = scales(), pool = Pool(threads: threads, spin: false)
        defer { pool.close() }
        one.measure(x, .powerOfTwo, format: .e4m3)
        several.measure(x, .powerOfTwo, format: .e4m3, pool: pool, scratch: memory.matrix(threads, 1))
        if grid == .tensor { one.set(ScaleRule.powerOfTwo.factor(amax: largestMagnitude(x), format: .e4m3)) }
        for row in 0..<rows {
            for column in stride(from: 0, to: columns, by: 7) {
                #expect(several.factor(row: row, column: column) == one.factor(row: row, column: column))
            }
        }
        #expect(memory.isIntact)
    }
}
