import Tensor
import Testing
import TestSupport

@Suite struct MomentCodecTests {
    private struct State {
        let codec: MomentCodec
        let codes: Codes
        let scales: Row

        init(_ codec: MomentCodec, _ count: Int, _ memory: FencedMemory) {
            self.codec = codec
            codes = codec.codes(count, memory: memory.row(Codes.floats(codec.format, rows: 1, columns: count)))
            scales = memory.row(MomentCodec.blocks(count))
        }

        func encode(_ x: Row) -> Bool { codec.encode(x, to: codes, scales: scales) }
        func decode(to out: Row) { codec.decode(codes, scales: scales, to: out) }
    }

    private static let codecs: [MomentCodec] = [.firstMoment, .secondMoment, .masterWeight]

    /// What comes back is what `encode` left, within half a step of what went in: relative to the number where it is
    /// normal, to its block's largest below. Once more gives the same.
    @Test(arguments: codecs) func comesBack(_ codec: MomentCodec) {
        for count in [1, 17, 128, 129, 1_000] {
            let memory = FencedMemory()
            defer { #expect(memory.isIntact) }
            let values = spread(count, seed: 3, exponents: -24 ... -4)
                .map { codec.keepsFromZero ? $0.magnitude : $0 }
            let state = State(codec, count, memory), x = memory.row(values), out = memory.row(count)
            #expect(state.encode(x))
            state.decode(to: out)
            #expect(bitMismatch(out.array, x.array) == nil)
            let half = Double(sign: .plus, exponent: -codec.format.mantissaBits - 1, significand: 1)
            for (index, value) in values.enumerated() {
                let scale = Double(state.scales[index / MomentCodec.blockSize])
                let floor = Double(codec.format.smallest) / scale * (codec.keepsFromZero ? 1 : 0.5)
                #expect(abs(Double(out[index]) - Double(value)) <= max(abs(Double(value)) * half, floor))
            }
            #expect(state.encode(out))
            #expect(bitMismatch(out.array, x.array) == nil)
        }
    }

    /// A second moment beside one that is 2^60 times as large: not zero, but the smallest number; zero itself stays.
    /// The next block knows nothing of it.
    @Test func secondMomentsStayAboveZero() {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        var values = [Float](repeating: 1e-18, count: 256)
        values[0] = 1
        values[1] = 0
        let state = State(.secondMoment, 256, memory), x = memory.row(values)
        #expect(state.encode(x))
        #expect(x[1] == 0 && x[0] == 1)
        let smallest = NumberFormat.e5m2.smallest / state.scales[0]
        #expect((2..<128).allSatisfy { x[$0] == smallest } && smallest > 0)
        #expect((128..<256).allSatisfy { abs(x[$0] / 1e-18 - 1) < 0.125 })
        // A first moment's may vanish.
        let first = State(.firstMoment, 256, memory), y = memory.row(values)
        #expect(first.encode(y))
        #expect(y[2] == 0 && abs(y[200] / 1e-18 - 1) < 0.0625)
    }

    @Test(arguments: codecs) func whatIsNotFiniteIsRefused(_ codec: MomentCodec) {
        for odd in [Float.infinity, .nan] {
            let memory = FencedMemory()
            let state = State(codec, 200, memory), x = memory.row([Float](repeating: 1, count: 200))
            x[150] = odd
            #expect(!state.encode(x))
        }
    }

    /// Blocks that are stored by themselves, as ranks do that share a vector out, are those of the whole; stochastic
    /// rounding is right on average, and never makes a zero of what is none; roots come back squared.
    @Test func storedBlocksAreThoseOfTheWhole() {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let codecs = [MomentCodec(.e5m2, keepsFromZero: true, isStochastic: true),
                      MomentCodec(.e4m3, keepsFromZero: true, isStochastic: true, isRoot: true),
                      MomentCodec(.fp16, keepsFromZero: false, isStochastic: true), .firstMoment]
        let count = 1_000, values = spread(count, seed: 5, exponents: -20 ... -4).map(\.magnitude)
        for codec in codecs {
            let blocks = MomentCodec.blocks(count), copy = memory.row(count)
            let codes = memory.row(blocks * codec.blockFloats), scales = memory.row(blocks), out = memory.row(count)
            func stored(_ size: Int, step: Int) -> [Float] {
                copy.copy(values)
                for start in stride(from: 0, to: count, by: size) {
                    let own = min(size, count - start), first = start / MomentCodec.blockSize
                    let floats = Codes.floats(codec.format, rows: 1, columns: own)
                    let part = (codes.slice(first * codec.blockFloats, floats),
                                scales.slice(first, MomentCodec.blocks(own)))
                    var key = RoundingKey(seed: 7, step: step, tensor: 3, operand: 64)
                    key.firstRow = first
                    codec.store(copy.slice(start, own), to: part.0, scales: part.1, key)
                    codec.load(part.0, scales: part.1, to: out.slice(start, own))
                }
                return out.array
            }
            let whole = stored(count, step: 1)
            #expect(bitMismatch(stored(256, step: 1), whole) == nil, "\(codec)")
            #expect((bitMismatch(stored(count, step: 2), whole) != nil) == codec.isStochastic)
            guard codec.isStochastic else { continue }
            var sums = [Double](repeating: 0, count: count)
            for step in 1...400 {
                for (index, value) in stored(count, step: step).enumerated() {
                    #expect(value > 0)
                    sums[index] += codec.isRoot ? Double(value.squareRoot()) : Double(value)
                }
            }
            let steps = Double(sign: .plus, exponent: -codec.format.mantissaBits, significand: 1)
            for (index, value) in values.enumerated() where index % 128 > 0 {
                let wanted = codec.isRoot ? Double(value.squareRoot()) : Double(value)
                // Five standard deviations of a mean of 400, for what is normal in its block.
                guard wanted > 1e-3 * (codec.isRoot ? 0.25 : 0.06) else { continue }
                #expect(abs(sums[index] / 400 - wanted) < wanted * steps * 5 * 0.5 / 20, "\(codec) \(index)")
            }
        }
    }

    /// A block with something infinite or not a number comes back as not-a-numbers, and no other.
    @Test(arguments: codecs) func whatIsNotFiniteShows(_ codec: MomentCodec) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let codes = memory.row(3 * codec.blockFloats), scales = memory.row(3), out = memory.row(384)
        let x = memory.row([Float](repeating: 1, count: 384))
        x[150] = .infinity
        codec.store(x, to: codes, scales: scales)
        codec.load(codes, scales: scales, to: out)
        #expect((0..<384).allSatisfy { out[$0].isNaN == (128..<256).contains($0) && ($0 / 128 == 1 || out[$0] == 1) })
    }

    /// AdamW on a bowl of 300 dimensions, with its whole state in 8 and 16 bits: it ends where fp32 ends.
    @Test func adamStillConverges() {
        let memory = FencedMemory()
        let count = 300, target = normals(count, seed: 1), steepness = normals(count, seed: 2).map { abs($0) + 0.1 }
        func distance(_ inFewBits: Bool) -> Double {
            let rows = (0..<4).map { _ in memory.row([Float](repeating: 0, count: count)) }
            let states = Self.codecs.map { State($0, count, memory) }
            for step in 1...400 {
                for index in 0..<count { rows[3][index] = steepness[index] * (rows[2][index] - target[index]) }
                adamW(rows[2], momentum: rows[0], variance: rows[1], gradient: rows[3], AdamWStep(
                    learningRate: 0.02, beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0,
                    correction1: 1 - power(0.9, step), correction2: 1 - power(0.95, step), gradientScale: 1))
                guard inFewBits else { continue }
                for (state, row) in zip(states, rows) { #expect(state.encode(row)) }
                for (state, row) in zip(states, rows) { state.decode(to: row) }
            }
            return relativeError(rows[2].array, doubles(target))
        }
        let (full, few) = (distance(false), distance(true))
        #expect(full < 0.02 && few < 0.04, "\(full) \(few)")
    }

    private func power(_ base: Float, _ exponent: Int) -> Float { (0..<exponent).reduce(1) { x, _ in x * base } }
}
