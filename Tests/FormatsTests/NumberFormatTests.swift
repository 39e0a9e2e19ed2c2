import Base
import Bench
import Tensor
import Testing

@Suite struct NumberFormatTests {
    /// What the specifications say: largest, smallest normal and smallest number.
    @Test(arguments: [
        (NumberFormat.e4m3, Float(448), Float(0x1p-6), Float(0x1p-9)), (.e4m3IEEE, 240, 0x1p-6, 0x1p-9),
        (.e5m2, 57_344, 0x1p-14, 0x1p-16), (.e3m2, 28, 0.25, 0.0625), (.e2m3, 7.5, 1, 0.125), (.e2m1, 6, 1, 0.5),
        (.int8, 127, 128, 1), (.int4, 7, 8, 1), (.fp16, 65_504, 0x1p-14, 0x1p-24),
        (.bf16, 0x1.FEp127, 0x1p-126, 0x1p-133),
    ]) func theKnownOnes(_ format: NumberFormat, _ largest: Float, _ normal: Float, _ smallest: Float) {
        #expect(format.largest == largest && format.smallest == smallest)
        #expect(Float(sign: .plus, exponent: format.smallestExponent, significand: 1) == normal)
    }

    /// The conventions differ in what the largest exponent is used for: 480, 448, 240.
    @Test func theConventions() throws {
        let largest = try NumberFormat.Convention.allCases.map {
            try NumberFormat(exponentBits: 4, mantissaBits: 3, convention: $0).largest
        }
        #expect(largest == [240, 448, 480])
    }

    /// Enough formats, each with the reference's extremes, and found again by its name.
    @Test func allOfThem() throws {
        #expect(allFormats.count == 8 * 11 + 2 * 7 * 11 - 2 + 10)
        for format in allFormats {
            let magnitudes = FormatReference(format).magnitudes
            #expect(Double(format.largest) == magnitudes.last, "\(format)")
            #expect(Double(format.smallest) == magnitudes[1], "\(format)")
            #expect(try NumberFormat(named: format.description) == format)
            #expect(try NumberFormat(named: format.description.lowercased()) == format)
        }
    }

    @Test(arguments: [
        ("E9M3", "exponents have 1 to 8 bits"), ("E4M11", "mantissas 0 to 10"), ("E8M7-finite", "take E8M7"),
        ("E1M0-ieee", "no number but zero"), ("INT12", "2 to 11 bits"), ("FP8", "is no number format"),
        ("E4M3-gaudi", "is no number format"), ("E4", "is no number format"), ("", "is no number format"),
        ("E4M3-ocp-ocp", "is no number format"),
    ]) func badNamesAreSaid(_ name: String, _ part: String) {
        let fault = #expect(throws: BadInput.self) { try NumberFormat(named: name) }
        #expect(fault?.description.contains(part) == true, "\(fault?.description ?? "")")
    }
}
