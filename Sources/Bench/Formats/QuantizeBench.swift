import Base
import Tensor

/// What `skein bench quantize` measures.
public struct QuantizeSetting {
    /// Number formats and block formats by their names.
    public var formats: [String]
    public var elements = 1 << 24
    public var rounds = 9

    public init(formats: [String]) { self.formats = formats }

    /// Floats of memory.
    public var floats: Int { 3 * elements }
}

/// Quantising of `elements` floats on one thread, beside a copy of the same bytes (4 in, 4 out for each element): to
/// nearest, stochastically, and to codes and back. Scales are given, but for block formats, which measure theirs.
public func benchQuantize(_ setting: QuantizeSetting) throws -> [BenchLine] {
    let memory = try QuantizeMemory(setting.elements)
    let copy = medianSeconds(rounds: setting.rounds) { _ in memory.out.copy(memory.x) }
    return try setting.formats.flatMap { name in
        let runs = try BlockFormat.all.contains { $0.name == name.uppercased() }
            ? memory.runs(BlockFormat(named: name)) : memory.runs(NumberFormat(named: name))
        return runs.map { what, run in
            let seconds = medianSeconds(rounds: setting.rounds) { _ in run() }
            var line = BenchLine(bench: "quantize", threads: 1, seconds: seconds)
            line.add("format", name.uppercased())
            line.add("what", what)
            line.add("elements", setting.elements)
            line.add("elements_per_s", Double(setting.elements) / seconds)
            line.add("copy_elements_per_s", Double(setting.elements) / copy)
            return line
        }
    }
}

/// The quantiser held against the reference for each of the 2^32 floats; how many came out otherwise.
public func benchEveryFloat(_ name: String, threads: Int) throws -> (line: BenchLine, mismatches: Int) {
    let format = try NumberFormat(named: name)
    let pool = Pool(threads: threads)
    defer { pool.close() }
    let start = MonotonicClock.seconds()
    let wrong = try mismatches(format, against: FormatReference(format), upperHalves: 0..<1 << 16, pool: pool)
    let seconds = MonotonicClock.seconds() - start
    var line = BenchLine(bench: "quantize", threads: threads, seconds: seconds)
    line.add("format", format.description)
    line.add("what", "exhaustive")
    line.add("elements", 1 << 32)
    line.add("elements_per_s", Double(1 << 32) / seconds)
    line.add("mismatches", wrong)
    return (line, wrong)
}

/// A matrix of everyday numbers in rows of 4,096, and where its quantised copy goes.
private struct QuantizeMemory {
    let x: Matrix
    let out: Matrix
    private let scaleMemory: Row
    private let codeMemory: Row
    private let arena: Arena

    init(_ elements: Int) throws {
        let columns = min(elements, 4_096), rows = elements / columns, count = rows * columns
        let scales = max(Scales.floats(.block(rows: 1, columns: 16), rows: rows, columns: columns),
                         Scales.floats(.tensor, rows: rows, columns: columns))
        arena = try Arena(name: "bench quantize", capacity: 2 * Arena.padded(count) + scales + count / 2 + rows + 64)
        x = arena.take(rows: rows, columns: columns)
        out = arena.take(rows: rows, columns: columns)
        scaleMemory = arena.take(scales)
        codeMemory = arena.take(count / 2 + rows)
        let rng = CounterRNG(seed: 11, stream: 0)
        for index in 0..<count { x.all[index] = Float(rng.uniform(at: UInt64(index)) * 16 - 8) }
    }

    func runs(_ format: NumberFormat) -> [(String, () -> Void)] {
        let scales = Scales(.tensor, rows: x.rows, columns: x.columns, foldable: true, memory: scaleMemory)
        scales.set(ScaleRule.powerOfTwo.factor(amax: 8, format: format))
        let nearest = Quantizer(format, scales)
        let key = RoundingKey(seed: 1, step: 1, tensor: 1, operand: 1)
        let stochastic = Quantizer(format, scales, .stochastic(key))
        let runs: [(String, () -> Void)] = [
            ("nearest", { nearest.quantize(out, x) }), ("stochastic", { stochastic.quantize(out, x) }),
        ]
        guard format.bits <= 16 else { return runs }
        let codes = Codes(format, rows: x.rows, columns: x.columns, memory: codeMemory)
        return runs + [("to codes", { codes.store(x, nearest) }), ("from codes", { codes.load(out, scales) })]
    }

    func runs(_ format: BlockFormat) -> [(String, () -> Void)] {
        let scales = format.scales(rows: x.rows, columns: x.columns, memory: scaleMemory)
        let quantizer = Quantizer(format.element, scales)
        return [("nearest", {
            format.measure(x, scales)
            quantizer.roundTrip(out, x)
        })]
    }
}
