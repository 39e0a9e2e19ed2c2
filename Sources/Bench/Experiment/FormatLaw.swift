import Recipe

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// What the scaling law for quantised training predicts ("Scaling Laws for Floating-Point Quantization Training",
/// 2501.02423, its joint law): with N parameters, D tokens, a format of E exponent and M mantissa bits, and B elements
/// to a scale, quantising costs
///
///     (D^0.5162 / N^0.2368) log2 B / (11334.5 (E + 0.5)^3.1926 (M + 0.5)^2.9543)     nats a token.
///
/// It was fitted at 41 M to 679 M parameters and 10 to 100 thousand million tokens, with three of a layer's six
/// operands quantised: the weight in both products, and the input in the weight's gradient.
public struct FormatLaw: Sendable, Equatable {
    /// Which elements share a scale.
    public enum Grouping: String, Sendable, CaseIterable {
        /// 32 neighbours along the depth of a product.
        case block
        /// One line of the depth: a channel.
        case channel

        /// log2 B; the channel's is the paper's own fit.
        var logarithm: Double { self == .block ? 5 : 13.1567 }
        /// As an operand's setting has it. The paper divides by the largest magnitude; along the depth only powers of
        /// two fit bf16.
        var setting: String { self == .block ? "1x32" : "row free" }
        var title: String { self == .block ? "blocks of 32" : "by channel" }
    }

    public let exponent: Int
    public let mantissa: Int
    public let grouping: Grouping

    public init(exponent: Int, mantissa: Int, grouping: Grouping) {
        (self.exponent, self.mantissa, self.grouping) = (exponent, mantissa, grouping)
    }

    /// Nats a token above the loss without quantising.
    public func gap(parameters: Double, tokens: Double) -> Double {
        let format = pow(Double(exponent) + 0.5, 3.1926) * pow(Double(mantissa) + 0.5, 2.9543)
        return pow(tokens, 0.5162) / pow(parameters, 0.2368) * grouping.logarithm / (11_334.5197 * format)
    }

    /// The layouts that are compared: the paper's own, without infinities and not-a-numbers.
    static let layouts = [(1, 2), (2, 1), (3, 1), (2, 3), (4, 3)]

    /// What operands the paper quantises.
    static let operands: [Operand] = [.forwardWeight, .inputGradientWeight, .weightGradientInput]

    var format: String { "E\(exponent)M\(mantissa)-finite" }
}

extension FormatsExperiment.Arm {
    /// Products of bf16 operands, with attention in fp32 as in the arms of the law.
    static let lawBaseline = FormatsExperiment.Arm(
        name: "law-bf16", title: "BF16", flags: ["--precision.recipe", "custom"], law: nil)

    init(_ law: FormatLaw, all: Bool) {
        let operands = all ? Operand.allCases : FormatLaw.operands
        let setting = "\(law.format) \(law.grouping.setting)"
        self.init(name: "law-\(all ? "six" : "three")-E\(law.exponent)M\(law.mantissa)-\(law.grouping.rawValue)",
                  title: "\(all ? "six" : "three"): E\(law.exponent)M\(law.mantissa), \(law.grouping.title)",
                  flags: ["--precision.recipe", "custom"]
                      + operands.flatMap { ["--precision.\($0.rawValue)", setting] },
                  law: law)
    }

    /// BF16, then the layouts of the law with each grouping: the three operands of the paper, then all six.
    public static var law: [FormatsExperiment.Arm] {
        [lawBaseline] + [false, true].flatMap { all in
            FormatLaw.Grouping.allCases.flatMap { grouping in
                FormatLaw.layouts.map {
                    FormatsExperiment.Arm(FormatLaw(exponent: $0.0, mantissa: $0.1, grouping: grouping), all: all)
                }
            }
        }
    }
}
