import Base
import Recipe
import Tensor

/// What one SwiGLU channel that has become an outlier does to the down projection's input in eight bits, and which
/// scales bear it. Injected instead of trained for 200 G tokens (2409.12517): the two rows of one channel's weights are
/// alike, so its output is the square of their product with a token; a token that lies along them is the spike.
///
/// Two failures are told apart. In the step of the spike a scale from the steps before clips it. As long as the spike
/// is in a scale's history, the scale is so coarse that the other channels become zero.
public struct OutlierExperiment {
    public var tokens = 1_024
    public var dim = 256
    public var channels = 688
    /// Length of the aligned rows, their cosine, and how far the one token reaches along them.
    public var gain = 16.0
    public var cosine = 1.0
    public var spike = 32.0
    public var format = NumberFormat.e4m3
    public var seed = 0

    public init() {}

    public enum Scheme: String, CaseIterable, Sendable {
        case delayed = "tensor, delayed"
        case current = "tensor, current"
        case rows = "row, current"
        case blocks = "1x32, current"
        case channel = "smooth by channel, scale with it"
        case token = "smooth by token, scale with it"
        case stale = "smooth by channel, scale delayed"
        case staleToken = "smooth by token, scale delayed"
        case channelBlocks = "smooth by channel, then 1x32"
        case tokenBlocks = "smooth by token, then 1x32"
    }

    public struct Line: Sendable {
        public let scheme: Scheme
        /// In the step of the spike, and in the one after it.
        public let during: Quality
        public let after: Quality
    }

    public struct Quality: Sendable {
        /// Signal over noise of the down projection's output, and of the ordinary channels' part of it, in decibels.
        public let all: Double
        public let others: Double
        /// The share of the ordinary channels' numbers that became zero.
        public let flushed: Double
    }

    public func run() throws -> [Line] {
        let longest = max(tokens, channels), blocks = Granularity.block(rows: 1, columns: 32)
        let floats = 8 * tokens * channels + 4 * tokens * dim + 3 * channels * dim + 2 * dim + 8 * longest
            + Scales.floats(blocks, rows: tokens, columns: channels)
        let memory = try Arena(name: "outlier", capacity: floats + 4_096)
        defer { withExtendedLifetime(memory) {} }
        let weights = Weights(self, memory)
        let calm = Branches(self, weights, spikes: false, memory), hit = Branches(self, weights, spikes: true, memory)
        let bench = Bench(self, weights, memory)
        return Scheme.allCases.map { scheme in
            Line(scheme: scheme, during: bench.quality(scheme, of: hit, before: calm),
                 after: bench.quality(scheme, of: calm, before: hit))
        }
    }

    /// The channel with aligned rows.
    fileprivate var outlier: Int { channels / 3 }
}

private struct Weights {
    let gateUp, down: Matrix
    /// The direction of the aligned rows, of length 1.
    let direction: Row

    init(_ own: OutlierExperiment, _ memory: Arena) {
        let (dim, width) = (own.dim, own.channels)
        gateUp = memory.take(rows: 2 * width, columns: dim)
        down = memory.take(rows: dim, columns: width)
        direction = memory.take(dim)
        let other = memory.take(dim), rng = CounterRNG(seed: UInt64(own.seed), stream: 0x0071)
        func fill(_ row: Row, _ number: Int, _ size: Double) {
            for i in 0..<row.count { row[i] = Float(rng.normalPair(at: UInt64(number * 4_096 + i)).0 * size) }
        }
        for row in 0..<(2 * width) { fill(gateUp.row(row), row, 1 / Double(dim).squareRoot()) }
        for row in 0..<dim { fill(down.row(row), 2 * width + row, 1 / Double(width).squareRoot()) }
        fill(direction, 2 * width + dim, 1)
        fill(other, 2 * width + dim + 1, 1)
        Self.normalise(direction)
        addScaled(other, direction, -dot(other, direction))
        Self.normalise(other)
        let gate = gateUp.row(own.outlier), up = gateUp.row(width + own.outlier)
        gate.fill(0)
        up.fill(0)
        addScaled(gate, direction, Float(own.gain))
        addScaled(up, direction, Float(own.gain * own.cosine))
        addScaled(up, other, Float(own.gain * max(0, 1 - own.cosine * own.cosine).squareRoot()))
    }

    private static func normalise(_ row: Row) {
        let length = dot(row, row).squareRoot()
        for i in 0..<row.count { row[i] /= length }
    }
}

/// SwiGLU's output and its linear branch, [T, F], for ordinary tokens, one of which may lie along the direction.
private struct Branches {
    let hidden, up: Matrix

    init(_ own: OutlierExperiment, _ weights: Weights, spikes: Bool, _ memory: Arena) {
        let x = memory.take(rows: own.tokens, columns: own.dim)
        let rng = CounterRNG(seed: UInt64(own.seed), stream: spikes ? 0x0072 : 0x0073)
        for t in 0..<own.tokens {
            let row = x.row(t)
            for i in 0..<own.dim { row[i] = Float(rng.normalPair(at: UInt64(t * own.dim + i)).0) }
        }
        if spikes { addScaled(x.row(own.tokens / 2), weights.direction, Float(own.spike)) }
        let gateUp = memory.take(rows: own.tokens, columns: 2 * own.channels)
        Gemm.timesTransposed(gateUp, x, weights.gateUp)
        hidden = memory.take(rows: own.tokens, columns: own.channels)
        swiGLU(hidden, gateUp: gateUp)
        up = gateUp.columns(own.channels, own.channels)
    }
}

private struct Bench {
    let own: OutlierExperiment
    let weights: Weights
    let rounded, smoothed, want, got: Matrix
    let scales, smoothing: Row
    let pool = Pool(threads: 1)

    init(_ own: OutlierExperiment, _ weights: Weights, _ memory: Arena) {
        self.own = own
        self.weights = weights
        rounded = memory.take(rows: own.tokens, columns: own.channels)
        smoothed = memory.take(rows: own.tokens, columns: own.channels)
        want = memory.take(rows: own.tokens, columns: own.dim)
        got = memory.take(rows: own.tokens, columns: own.dim)
        let blocks = Granularity.block(rows: 1, columns: 32)
        scales = memory.take(max(Scales.floats(blocks, rows: own.tokens, columns: own.channels),
                                 2 * Scales.floats(.row, rows: max(own.tokens, own.channels), columns: 1)))
        smoothing = memory.take(Smoothing.floats(max(own.tokens, own.channels)))
    }

    /// `before`: what a delayed scale was made from.
    func quality(_ scheme: OutlierExperiment.Scheme, of now: Branches, before: Branches)
        -> OutlierExperiment.Quality {
        switch scheme {
        case .channelBlocks: roundInBlocks(now, .channel)
        case .tokenBlocks: roundInBlocks(now, .token)
        default: Quantizer(own.format, scales(scheme, now, before)).roundTrip(rounded, now.hidden)
        }
        var (zeros, count) = (0, 0)
        for t in 0..<own.tokens {
            let x = now.hidden.row(t), y = rounded.row(t)
            for i in 0..<own.channels where i != own.outlier && x[i] != 0 {
                count += 1
                if y[i] == 0 { zeros += 1 }
            }
        }
        let all = decibels(now.hidden)
        for t in 0..<own.tokens { rounded.row(t)[own.outlier] = now.hidden.row(t)[own.outlier] }
        return OutlierExperiment.Quality(all: all, others: decibels(now.hidden, without: own.outlier),
                                         flushed: Double(zeros) / Double(max(count, 1)))
    }

    /// rounded = what is left of the hidden numbers where they are smoothed first and blocks of them scaled after.
    private func roundInBlocks(_ now: Branches, _ axis: Smoothing.Axis) {
        let smooth = Smoothing(axis, count: axis == .channel ? own.channels : own.tokens, memory: smoothing)
        smooth.measure(now.hidden, up: now.up, pool: pool, scratch: rounded)
        func factor(_ t: Int, _ i: Int) -> Float { smooth.factors[axis == .channel ? i : t] }
        for t in 0..<own.tokens {
            let x = now.hidden.row(t), y = smoothed.row(t)
            for i in 0..<own.channels { y[i] = x[i] * factor(t, i) }
        }
        let scales = Scales(.block(rows: 1, columns: 32), rows: own.tokens, columns: own.channels, foldable: true,
                            memory: scales)
        scales.measure(smoothed, .powerOfTwo, format: own.format)
        Quantizer(own.format, scales).roundTrip(rounded, smoothed)
        for t in 0..<own.tokens {
            let y = rounded.row(t)
            for i in 0..<own.channels { y[i] /= factor(t, i) }
        }
    }

    private func scales(_ scheme: OutlierExperiment.Scheme, _ now: Branches, _ before: Branches) -> Scales {
        func make(_ granularity: Granularity) -> Scales {
            Scales(granularity, rows: own.tokens, columns: own.channels, foldable: true, memory: scales)
        }
        func smooth(_ axis: Smoothing.Axis) -> Scales {
            let own = Smoothing(axis, count: axis == .channel ? self.own.channels : self.own.tokens, memory: smoothing)
            let scales = make(own.granularity)
            own.measure(now.hidden, up: now.up, pool: pool, scratch: rounded)
            own.set(scales, format: self.own.format)
            return scales
        }
        switch scheme {
        case .delayed:
            let scales = make(.tensor)
            scales.measure(before.hidden, .powerOfTwo, format: own.format)
            return scales
        case .current, .rows, .blocks:
            let scales = make(scheme == .current ? .tensor : scheme == .rows ? .row : .block(rows: 1, columns: 32))
            scales.measure(now.hidden, .powerOfTwo, format: own.format)
            return scales
        case .channel: return smooth(.channel)
        case .token: return smooth(.token)
        case .channelBlocks, .tokenBlocks: preconditionFailure("scaled after smoothing: see roundInBlocks")
        case .stale, .staleToken:
            let axis = scheme == .stale ? Smoothing.Axis.channel : .token
            let factors = Smoothing(axis, count: axis == .channel ? own.channels : own.tokens, memory: smoothing)
            let scales = make(factors.granularity)
            factors.measure(before.hidden, up: before.up, pool: pool, scratch: rounded)
            let peak = factors.peakMagnitude
            factors.measure(now.hidden, up: now.up, pool: pool, scratch: rounded)
            factors.set(scales, format: own.format, peak: peak)
            return scales
        }
    }

    /// Signal over noise of the product with W_down: of all of it, or of the part that other channels have in it.
    private func decibels(_ hidden: Matrix, without channel: Int? = nil) -> Double {
        var kept: [Float] = []
        if let channel {
            for row in 0..<own.dim {
                kept.append(weights.down.row(row)[channel])
                weights.down.row(row)[channel] = 0
            }
        }
        Gemm.timesTransposed(want, hidden, weights.down)
        Gemm.timesTransposed(got, rounded, weights.down)
        if let channel { for row in 0..<own.dim { weights.down.row(row)[channel] = kept[row] } }
        var health = QuantizationHealth()
        for t in 0..<own.tokens {
            let x = want.row(t), y = got.row(t)
            for i in 0..<own.dim {
                health.signal += Double(x[i]) * Double(x[i])
                health.noise += (Double(x[i]) - Double(y[i])) * (Double(x[i]) - Double(y[i]))
            }
        }
        return health.sqnr
    }
}

/// The table, in Markdown.
public func outlierTable(_ lines: [OutlierExperiment.Line]) -> String {
    var text = ["| Scales | spike: all, dB | others, dB | others lost | after: all, dB | others, dB | others lost |",
                "|---|---|---|---|---|---|---|"]
    for line in lines {
        let cells = [line.during, line.after].flatMap {
            [Units.fixed($0.all, 1), Units.fixed($0.others, 1), Units.fixed(100 * $0.flushed, 1) + " %"]
        }
        text.append("| " + ([line.scheme.rawValue] + cells).joined(separator: " | ") + " |")
    }
    return text.joined(separator: "\n")
}
