import Base
import Checkpoint
import Testing

@Suite struct ElementTypeTests {
    private func decode(_ type: ElementType, _ bytes: [UInt8]) -> [Double] {
        var values: [Double] = []
        unsafe bytes.withUnsafeBytes { unsafe type.decode($0, into: &values) }
        return values
    }

    /// Every code of the 8-bit formats against the definition by fields; the extremes by name.
    @Test func everySmallFloat() {
        let codes = (0...255).map { UInt8($0) }
        let e4m3 = decode(.float8E4M3, codes), e5m2 = decode(.float8E5M2, codes)
        for code in 0...255 {
            let sign = code < 128 ? 1.0 : -1.0
            func value(_ mantissaBits: Int, _ bias: Int) -> Double {
                let exponent = (code & 127) >> mantissaBits
                let mantissa = Double(code & ((1 << mantissaBits) - 1)) / Double(1 << mantissaBits)
                var scale = 1.0
                for _ in 0..<abs(max(exponent, 1) - bias) { scale *= max(exponent, 1) > bias ? 2 : 0.5 }
                return sign * scale * (exponent == 0 ? mantissa : 1 + mantissa)
            }
            if code & 127 == 127 {
                #expect(e4m3[code].isNaN)
            } else {
                #expect(e4m3[code] == value(3, 7), "E4M3 code \(code)")
            }
            if code & 127 < 124 {
                #expect(e5m2[code] == value(2, 15), "E5M2 code \(code)")
            } else {
                #expect(code & 127 == 124 ? e5m2[code] == sign * .infinity : e5m2[code].isNaN)
            }
        }
        #expect(e4m3[0x7E] == 448)
        #expect(e5m2[0x7B] == 57_344)
    }

    @Test func widerTypes() {
        #expect(decode(.float32, [0, 0, 0xC0, 0x3F, 0, 0, 0x80, 0xFF]) == [1.5, -.infinity])
        #expect(decode(.bfloat16, [0xC0, 0x3F, 0x49, 0x40]) == [1.5, 3.140625])
        #expect(decode(.float16, [0, 0x3E, 1, 0]) == [1.5, 0x1p-24])
        #expect(decode(.int32, [0xFE, 0xFF, 0xFF, 0xFF]) == [-2])
        #expect(decode(.int64, [5, 0, 0, 0, 1, 0, 0, 0]) == [4_294_967_301])
        #expect(decode(.uint8, [0, 255]) == [0, 255])
        #expect(decode(.float64, [0, 0, 0, 0, 0, 0, 0xF8, 0x3F]) == [1.5])
        #expect(decode(.int8, [127, 128]) == [127, -128])
        #expect(decode(.int16, [0xFE, 0xFF, 1, 2]) == [-2, 513])
        #expect(decode(.uint16, [0xFE, 0xFF]) == [65_534])
        #expect(decode(.uint32, [0xFE, 0xFF, 0xFF, 0xFF]) == [4_294_967_294])
        #expect(decode(.uint64, [0, 0, 0, 0, 0, 0, 0, 0x80]) == [0x1p63])
        #expect(decode(.bool, [0, 1, 255]) == [0, 1, 1])
    }

    @Test func sizesAreCheckedForOverflow() {
        for type in ElementType.allCases {
            #expect(type.byteCount(of: []) == type.width)
            #expect(type.byteCount(of: [3, 0, 5]) == 0)
            #expect(type.byteCount(of: [3, 5]) == 15 * type.width)
            #expect(type.byteCount(of: [3, -1]) == nil)
            #expect(type.byteCount(of: [1 << 32, 1 << 32]) == nil)
        }
    }
}
