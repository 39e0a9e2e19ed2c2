import Base
import Recipe
import Tensor

/// How one operand of a product is rounded: a setting whose format has been found.
struct OperandFormat: Sendable {
    let number: NumberFormat
    let setting: OperandSetting

    /// How one level of scales follows from magnitudes.
    var rule: ScaleRule {
        switch setting.rule {
        case .powerOfTwo, .twoLevels: .powerOfTwo
        case .floor: .powerOfTwoClipping
        case .free: .free
        }
    }

    /// Which elements of a tensor share a scale, where the product's depth runs along its columns, or down its rows.
    func granularity(depthAlongColumns: Bool) -> Granularity {
        guard case .current(let outer, let depth) = setting.scaling, outer > 0 else { return .tensor }
        if depth == 0 { return depthAlongColumns ? .row : .column }
        return .block(rows: depthAlongColumns ? outer : depth, columns: depthAlongColumns ? depth : outer)
    }
}

/// The number formats of a model's linear layers: a `PrecisionSetting` whose formats all exist and may be multiplied.
public struct LinearFormats: Sendable {
    public let setting: PrecisionSetting
    let operands: Operands<OperandFormat>
    /// Whose arithmetic products run on. All give the same bits.
    let path: DotPath

    public init(_ setting: PrecisionSetting, path: DotPath = .best) throws(BadInput) {
        self.setting = setting
        self.path = path
        operands = try Operands { (operand: Operand) throws(BadInput) -> OperandFormat in
            let own = setting.operands[operand], key = "precision.\(operand.rawValue)"
            let format: NumberFormat
            do throws(BadInput) {
                format = try NumberFormat(named: own.format)
            } catch {
                throw BadInput("\(key): \(error)")
            }
            guard format.fitsBF16 else {
                throw BadInput("\(key): \(format) has more than bf16's seven bits of mantissa, and products are "
                    + "bf16's; take a format of seven or fewer")
            }
            return OperandFormat(number: format, setting: own)
        }
    }

    /// Those of a recipe; nil for fp32.
    public static func of(_ recipe: Recipe, path: DotPath = .best) throws(BadInput) -> LinearFormats? {
        guard let setting = try recipe.precision.setting() else { return nil }
        return try LinearFormats(setting, path: path)
    }
}
