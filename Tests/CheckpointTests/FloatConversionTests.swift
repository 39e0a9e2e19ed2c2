import Base
import Checkpoint
import Foundation
import Testing

@Suite struct FloatConversionTests {
    /// Every value of a 16-bit type, as a Float.
    private static func values(_ type: ElementType) -> [Float] {
        (0...UInt16.max).map { bits in
            type == .bfloat16 ? Float(bitPattern: UInt32(bits) << 16) : Float(Float16(bitPattern: bits))
        }
    }

    private func encoded(_ floats: [Float], _ type: ElementType) -> [UInt16] {
        var out = [UInt16](repeating: 0, count: floats.count)
        unsafe floats.withUnsafeBytes { source in
            unsafe out.withUnsafeMutableBytes { unsafe type.encode(source, into: $0) }
        }
        return out
    }

    private func rounded(_ floats: [Float], _ type: ElementType) -> [Float] {
        var floats = floats
        unsafe floats.withUnsafeMutableBytes { unsafe type.round($0) }
        return floats
    }

    /// What the type has stays as it is, infinities and the sign of zero included.
    @Test(arguments: [ElementType.bfloat16, .float16]) func everyValueComesBack(_ type: ElementType) {
        let values = Self.values(type), codes = encoded(values, type)
        for (bits, value) in values.enumerated() {
            if value.isNaN {
                #expect(values[Int(codes[bits])].isNaN)
            } else {
                #expect(Int(codes[bits]) == bits)
            }
        }
        #expect(zip(rounded(values, type), values).allSatisfy { $0.bitPattern == $1.bitPattern || $1.isNaN })
    }

    /// Against a search over all values of the type: the nearest in Double, and of two the even one. Halfway cases of
    /// neighbours are among them, and a little to each side of those.
    @Test(arguments: [ElementType.bfloat16, .float16]) func roundsToNearestEven(_ type: ElementType) {
        let finite = Self.values(type).enumerated().filter { $0.element.isFinite && $0.offset < 0x8000 }
            .map { (code: UInt16($0.offset), value: Double($0.element)) }
        let rng = CounterRNG(seed: 4, stream: 1)
        var floats: [Float] = [], want: [UInt16] = []
        for draw in 0..<3_000 {
            let place = rng.integer(below: finite.count - 1, at: UInt64(draw))
            let (low, high) = (finite[place], finite[place + 1])
            let middle = Float((low.value + high.value) / 2)
            for float in [middle, middle.nextUp, middle.nextDown] {
                let (below, above) = (Double(float) - low.value, high.value - Double(float))
                let isLow = below < above || (below == above && low.code % 2 == 0)
                floats += [float, -float]
                want += [isLow ? low.code : high.code, (isLow ? low.code : high.code) | 0x8000]
            }
        }
        let found = encoded(floats, type)
        #expect(found == want)
        let values = Self.values(type)
        #expect(zip(rounded(floats, type), found).allSatisfy { values[Int($1)].bitPattern == $0.bitPattern })
    }

    @Test func shardsKeepOrderAndSize() {
        let specs = [5, 3, 9, 1, 1, 30].enumerated().map { TensorSpec("t\($0.offset)", .float32, [$0.element]) }
        for type in ElementType.weightTypes {
            for limit in [1, 10, 20, 1_000] {
                let shards = WeightFile.shards(specs, as: type, bytes: limit)
                #expect(shards.flatMap { $0 } == specs && !shards.contains([]))
                for shard in shards {
                    let bytes = shard.reduce(0) { $0 + $1.byteCount / 4 * type.width }
                    #expect(bytes <= limit || shard.count == 1)
                }
            }
        }
        #expect(WeightFile.name(0, of: 1) == "model.safetensors")
        #expect(WeightFile.name(1, of: 12) == "model-00002-of-00012.safetensors")
    }
}
