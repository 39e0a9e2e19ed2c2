#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif
import Tensor
import Testing
import TestSupport

@Suite struct LanesTests {
    /// Distance to the exact value in units of the last place of the nearest float.
    private func ulps(_ got: Float, _ want: Double) -> Double {
        abs(Double(got) - want) / Double(Float(want).ulp)
    }

    /// The worst error of `function` over every `step`-th float of both signs between 0 and `limit` in size that
    /// `inRange` allows, and where it is.
    private func worst(step: UInt32, _ function: (Row, Row) -> Void, inRange: (Float) -> Bool,
                       exact: (Double) -> Double) -> (error: Double, at: Float, count: Int) {
        let memory = FencedMemory()
        let x = memory.row(4096), y = memory.row(4096)
        var result = (error: 0.0, at: Float(0), count: 0)
        var filled = 0
        func flush() {
            function(y.slice(0, filled), x.slice(0, filled))
            for i in 0..<filled {
                let error = ulps(y[i], exact(Double(x[i])))
                if !(error <= result.error) { result = (error, x[i], result.count) }
            }
            result.count += filled
            filled = 0
        }
        for sign in [UInt32(0), 1 << 31] {
            for bits in stride(from: UInt32(0), to: Float.infinity.bitPattern, by: UInt32.Stride(step)) {
                let value = Float(bitPattern: bits | sign)
                guard inRange(value) else { break }
                x[filled] = value
                filled += 1
                if filled == x.count { flush() }
            }
        }
        flush()
        #expect(memory.isIntact)
        return result
    }

    /// The contract: 2 ulp on [-87.3, 88]. Over twenty million floats, denormal ones among them.
    @Test func exponentialIsWithinItsUlps() {
        let result = worst(step: 103, exponential, inRange: { $0 >= -87.3 && $0 <= 88 }, exact: { exp($0) })
        #expect(result.count > 20_000_000)
        #expect(result.error <= 2, "\(result)")
    }

    /// The contract: 1 ulp on [-126, 127].
    @Test func powerOfTwoIsWithinItsUlp() {
        let result = worst(step: 103, powerOfTwo, inRange: { $0 >= -126 && $0 <= 127 }, exact: { exp2($0) })
        #expect(result.count > 20_000_000)
        #expect(result.error <= 1, "\(result)")
    }

    /// The contract: 4 ulp from -88.3 on, where the result is denormal already.
    @Test func sigmoidIsWithinItsUlps() {
        let result = worst(step: 103, sigmoid, inRange: { $0 >= -88.3 }, exact: { 1 / (1 + exp(-$0)) })
        #expect(result.count > 20_000_000)
        #expect(result.error <= 4, "\(result)")
    }

    /// Outside the range: zero below, the clamp above, and no infinity out of finite or infinite arguments.
    @Test func theEnds() {
        let memory = FencedMemory()
        let x = memory.row([-87.4, -100, -3e38, -.infinity, 88.37, 88.8, 100, 3e38, .infinity, .nan, 0, -0.0])
        let y = memory.row(x.count)
        exponential(y, x)
        #expect(y.slice(0, 4).array == [0, 0, 0, 0])
        for i in 4..<10 {
            #expect(y[i] == y[4])
            #expect(y[i].isFinite && y[i] > 2e38)
        }
        #expect(y.slice(10, 2).array == [1, 1])
        let low = memory.row([-126.01, -150, -3e38, -.infinity, .nan, 0, -0.0, 1, -126, 127])
        let power = memory.row(low.count)
        powerOfTwo(power, low)
        #expect(power.slice(0, 4).array == [0, 0, 0, 0])
        #expect(power[4].isNaN)
        #expect(power.slice(5, 5).array == [1, 1, 2, 0x1p-126, 0x1p127])
        sigmoid(y, x)
        for i in 0..<4 { #expect(y[i] >= 0 && y[i] < 1e-37) }
        #expect(y.slice(4, 5).array == [1, 1, 1, 1, 1])
        #expect(y.slice(10, 2).array == [0.5, 0.5])
        #expect(memory.isIntact)
    }

    /// A lane's value does not depend on the lane, nor on its neighbours.
    @Test func lanesAreIndependent() {
        let memory = FencedMemory()
        let values = normals(16, seed: 1, size: 20)
        let x = memory.row(values), y = memory.row(16)
        exponential(y, x)
        let z = memory.row(16)
        powerOfTwo(z, x)
        for (index, value) in values.enumerated() {
            for lane in 0..<16 {
                let alone = memory.row([Float](repeating: -3, count: lane) + [value]), out = memory.row(lane + 1)
                exponential(out, alone)
                #expect(out[lane].bitPattern == y[index].bitPattern)
                powerOfTwo(out, alone)
                #expect(out[lane].bitPattern == z[index].bitPattern)
            }
        }
    }
}
