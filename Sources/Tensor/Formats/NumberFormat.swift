import Base
import CKernels

/// A small number format: a sign, `exponentBits` and `mantissaBits`, with subnormal numbers; or, without exponent bits,
/// the whole numbers up to 2^mantissaBits - 1, which are symmetric about zero.
///
/// Values are those of 2^e (1 + m / 2^M) with the usual bias of 2^(E-1) - 1. What the largest exponent is used for is
/// the format's convention, and decides how large its numbers get: E4M3 ends at 448, 240 or 480. E5M2 and E4M3 are
/// OCP's FP8 (Open Compute Project, OCP 8-bit Floating Point Specification, revision 1.0, table 1), E3M2, E2M3 and E2M1
/// those of OCP's Microscaling Formats, version 1.0, table 1; E4M3-ieee is what Gaudi 2 trains in (2409.12517).
public struct NumberFormat: Sendable, Hashable, CustomStringConvertible {
    /// What the codes with the largest exponent mean.
    public enum Convention: String, Sendable, CaseIterable {
        /// Infinity and not-a-numbers, as in IEEE 754.
        case ieee
        /// Numbers, but for the code of all ones, which is not a number: as in OCP's E4M3.
        case ocp
        /// Numbers, all of them. There is neither infinity nor not-a-number.
        case finite
    }

    public let exponentBits: Int
    public let mantissaBits: Int
    public let convention: Convention

    /// E from 1 to 8 and M from 0 to 10. Throws where that has no numbers but zero, or numbers that floats have not.
    public init(exponentBits: Int, mantissaBits: Int, convention: Convention) throws(BadInput) {
        let name = "E\(exponentBits)M\(mantissaBits)"
        guard (1...8).contains(exponentBits), (0...10).contains(mantissaBits) else {
            throw BadInput("\(name) is no format here: exponents have 1 to 8 bits, mantissas 0 to 10")
        }
        guard exponentBits < 8 || convention == .ieee else {
            throw BadInput("\(name)-\(convention.rawValue) has numbers beyond those of 32-bit floats; take \(name)")
        }
        self.init(exponentBits, mantissaBits, convention)
        guard largestCode > 0 else {
            throw BadInput("\(self) has no number but zero; give it another bit, or take \(name)-finite")
        }
    }

    /// Whole numbers of `bits` bits, sign included: 2 to 11. INT8 ends at 127 on both sides.
    public init(integerBits bits: Int) throws(BadInput) {
        guard (2...11).contains(bits) else {
            throw BadInput("INT\(bits) is no format here: whole numbers have 2 to 11 bits")
        }
        self.init(0, bits - 1, .finite)
    }

    private init(_ exponentBits: Int, _ mantissaBits: Int, _ convention: Convention) {
        self.exponentBits = exponentBits
        self.mantissaBits = mantissaBits
        self.convention = convention
    }

    public static let e4m3 = NumberFormat(4, 3, .ocp)
    public static let e4m3IEEE = NumberFormat(4, 3, .ieee)
    public static let e5m2 = NumberFormat(5, 2, .ieee)
    public static let e3m2 = NumberFormat(3, 2, .finite)
    public static let e2m3 = NumberFormat(2, 3, .finite)
    public static let e2m1 = NumberFormat(2, 1, .finite)
    public static let bf16 = NumberFormat(8, 7, .ieee)
    public static let fp16 = NumberFormat(5, 10, .ieee)
    public static let int8 = NumberFormat(0, 7, .finite)
    public static let int4 = NumberFormat(0, 3, .finite)

    /// What a name without a convention means: OCP's choices where OCP has the format (one not-a-number in E4M3, none
    /// in six bits and fewer), else IEEE's.
    static func usualConvention(_ exponentBits: Int, _ mantissaBits: Int) -> Convention {
        if exponentBits == 4 && mantissaBits == 3 { return .ocp }
        return exponentBits + mantissaBits < 6 && exponentBits < 8 ? .finite : .ieee
    }

    public var isInteger: Bool { exponentBits == 0 }
    /// All bits of a number.
    public var bits: Int { 1 + exponentBits + mantissaBits }

    /// The exponent of the smallest normal number; what is below has its step. Whole numbers are all below.
    public var smallestExponent: Int { isInteger ? mantissaBits : 2 - 1 << (exponentBits - 1) }

    /// The code, without its sign, of the largest number.
    var largestCode: Int {
        let all = 1 << (exponentBits + mantissaBits)
        return switch convention {
        case .ieee: all - 1 << mantissaBits - 1
        case .ocp: all - 2
        case .finite: all - 1
        }
    }

    /// The largest magnitude.
    public var largest: Float { magnitude(ofCode: largestCode) }
    /// The smallest magnitude but zero: one step.
    public var smallest: Float { magnitude(ofCode: 1) }

    private func magnitude(ofCode code: Int) -> Float {
        let exponent = code >> mantissaBits, mantissa = code & (1 << mantissaBits - 1)
        let step = Float(sign: .plus, exponent: max(exponent, 1) - 1 + smallestExponent - mantissaBits, significand: 1)
        return Float(exponent > 0 ? 1 << mantissaBits + mantissa : mantissa) * step
    }

    /// Whether every number, times a power of two, is a bf16 number: products of two such are exact in fp32.
    public var fitsBF16: Bool { mantissaBits <= 7 }

    /// What the C loops know of it.
    package var loops: skein_format {
        let top = 1 << (exponentBits + mantissaBits)
        let infinity = convention == .ieee ? top - 1 << mantissaBits : 0
        let nan = switch convention {
        case .ieee: mantissaBits > 0 ? infinity + 1 << (mantissaBits - 1) : 0
        case .ocp: top - 1
        case .finite: 0
        }
        return skein_format(largest: largest, smallest_normal: UInt32(smallestExponent + 127) << 23,
                            mantissa: UInt32(mantissaBits), is_cut_float: exponentBits == 8 ? 1 : 0,
                            largest_code: UInt32(largestCode), infinity_code: UInt32(infinity),
                            nan_code: UInt32(nan), bits: UInt32(bits), is_integer: isInteger ? 1 : 0)
    }
}

extension NumberFormat {
    /// A format by its name: "E4M3", "E4M3-ieee", "E3M4-finite", "INT8", "BF16", "FP16"; capitals do not matter.
    public init(named name: String) throws(BadInput) {
        switch name.uppercased() {
        case "BF16": self = .bf16
        case "FP16": self = .fp16
        default:
            guard let format = try Self.parsed(name.uppercased()) else {
                throw BadInput("\(name) is no number format; write E4M3, E5M2-finite, INT8, BF16 or FP16, for example")
            }
            self = format
        }
    }

    private static func parsed(_ name: String) throws(BadInput) -> NumberFormat? {
        if name.hasPrefix("INT"), let bits = Int(name.dropFirst(3)) { return try NumberFormat(integerBits: bits) }
        let parts = name.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count <= 2, parts[0].hasPrefix("E") else { return nil }
        let numbers = parts[0].dropFirst().split(separator: "M", omittingEmptySubsequences: false)
        guard numbers.count == 2, let exponent = Int(numbers[0]), let mantissa = Int(numbers[1]) else { return nil }
        var convention = usualConvention(exponent, mantissa)
        if parts.count == 2 {
            guard let named = Convention(rawValue: parts[1].lowercased()) else { return nil }
            convention = named
        }
        return try NumberFormat(exponentBits: exponent, mantissaBits: mantissa, convention: convention)
    }

    public var description: String {
        if isInteger { return "INT\(bits)" }
        if self == .bf16 { return "BF16" }
        if self == .fp16 { return "FP16" }
        let name = "E\(exponentBits)M\(mantissaBits)"
        return convention == Self.usualConvention(exponentBits, mantissaBits) ? name
            : "\(name)-\(convention.rawValue)"
    }
}
