import CKernels

/// Whose arithmetic products of quantised operands run on. Results have the same bits on each.
public enum DotPath: Sendable, Equatable {
    /// Multiply-adds of 32-bit floats, as all other products.
    case portable
    /// The instruction VDPBF16PS, sixteen pairs of products at once.
    case avx512bf16
    /// The second without its instruction, in its layout: slow, for checks.
    case model

    /// What this CPU is trusted with: the instruction where it has it and gave the portable path's bits for 200,000
    /// elements, denormals among them, when the program first asked.
    public static let best: DotPath =
        report.has_instruction != 0 && report.differences == 0 && compiledArithmetic == "x86-64 with FMA"
        ? .avx512bf16 : .portable

    private static let report = skein_dot_check()

    /// The path in words, and why it is not the other one.
    public static let reason: String = {
        if best == .avx512bf16 { return "bf16 dot products run on AVX512_BF16, which agreed with the portable path" }
        guard report.has_instruction != 0 else {
            return "bf16 dot products run on fp32 multiply-adds: this CPU has no AVX512_BF16"
        }
        guard report.differences > 0 else {
            return "bf16 dot products run on multiply-adds of a build without FMA; build with SKEIN_MARCH=native"
        }
        func hex(_ bits: UInt32) -> String { "0x" + String(bits, radix: 16) }
        let operands = report.operands
        let numbers = [operands.0, operands.1, operands.2, operands.3, operands.4].map(hex).joined(separator: ", ")
        return "bf16 dot products run on fp32 multiply-adds: this CPU's VDPBF16PS differs in \(report.differences) "
            + "of 200000 elements, first for a0, a1, b0, b1, sum = \(numbers): \(hex(report.instruction)) instead of "
            + "\(hex(report.model))"
    }()

    /// Runs about `flops` operations of this path on registers alone: what any product stays below. Returns how many.
    public func runCeiling(flops: Double) -> Double {
        let each = Double(skein_dot_ceiling_flops(number)), rounds = max(1, (flops / each).rounded())
        let sum = skein_dot_ceiling(number, Int(rounds))
        return sum.isNaN ? 0 : rounds * each
    }

    var number: Int32 {
        switch self {
        case .portable: Int32(SKEIN_DOT_PORTABLE)
        case .avx512bf16: Int32(SKEIN_DOT_AVX512)
        case .model: Int32(SKEIN_DOT_MODEL)
        }
    }
}
