import Base
import Model
import Recipe
import Tensor
import TestSupport

/// Rounds the operands of a Double model as a recipe says, from the formats' definitions: plain loops over Doubles,
/// nothing of `Tensor/Formats` but what a format's numbers are and the random words.
final class QuantisedOracle {
    let setting: PrecisionSetting
    let seed: UInt64
    var step = 0
    /// Largest magnitudes of (layer, kind, tensor) in the steps before, the newest last.
    private var history: [[Int]: [Double]] = [:]
    private var seen: [[Int]: Double] = [:]
    /// The linear branch of each layer, [T, F].
    var ups: [Int: [Double]] = [:]

    init(_ setting: PrecisionSetting, seed: UInt64 = 0) {
        self.setting = setting
        self.seed = seed
    }

    /// Ends a step: what was seen in it is what delayed scales look back on.
    func finish() {
        for (key, amax) in seen { history[key, default: []].append(amax) }
        seen = [:]
        step += 1
    }

    /// 2^floor(log2(largest / amax)), by trying.
    private func power(_ amax: Double, _ largest: Double) -> Double {
        guard amax > 0 else { return 1 }
        var factor = 1.0
        while amax * factor * 2 <= largest { factor *= 2 }
        while amax * factor > largest { factor /= 2 }
        return factor
    }

    func round(_ layer: Int, _ kind: Int, _ number: Int, _ x: [Double], _ rows: Int, _ columns: Int) -> [Double] {
        let operand = Operand.allCases[number], own = setting.operands[operand]
        guard let format = try? NumberFormat(named: own.format) else { preconditionFailure("no format") }
        let tensor = [0, 1, 2, 1, 2, 0][number], key = [layer, kind, tensor]
        let amax = x.reduce(0) { max($0, $1.magnitude) }, largest = Double(format.largest)
        seen[key] = amax
        let isSmoothed = kind == 3 && tensor == 0 && setting.smoothing != .none
        let factors: (Int, Int) -> Double
        if isSmoothed {
            factors = smoothed(layer, x, rows, columns, largest)
        } else {
            factors = scales(own, key, x, rows, columns, amax, largest, depthAlongColumns: number <= 2)
        }
        let random = RoundingKey(seed: seed, step: step, tensor: 4 * layer + kind, operand: number)
        return x.indices.map { index in
            let (row, column) = (index / columns, index % columns), factor = factors(row, column)
            let uniform = own.isStochastic ? Double(random.word(row: row, column: column) >> 8) * 0x1p-24 : nil
            return factor == 0 ? 0 : Self.rounded(x[index] * factor, format, uniform) / factor
        }
    }

    /// To the grid of a format, beyond its largest number to that: to nearest even, or up where `uniform` is below what
    /// is cut off.
    static func rounded(_ y: Double, _ format: NumberFormat, _ uniform: Double?) -> Double {
        let magnitude = min(y.magnitude, Double(format.largest))
        let exponent = magnitude == 0 ? format.smallestExponent
            : max(Int(magnitude.exponent), format.smallestExponent)
        let step = Double(sign: .plus, exponent: exponent - format.mantissaBits, significand: 1)
        let steps = magnitude / step, below = steps.rounded(.down)
        let whole = uniform.map { $0 < steps - below ? below + 1 : below } ?? steps.rounded(.toNearestOrEven)
        return (y < 0 ? -1 : 1) * whole * step
    }

    private func scales(_ own: OperandSetting, _ key: [Int], _ x: [Double], _ rows: Int, _ columns: Int, _ amax: Double,
                        _ largest: Double, depthAlongColumns: Bool) -> (Int, Int) -> Double {
        switch own.scaling {
        case .none: return { _, _ in 1 }
        case .delayed:
            let past = (history[key] ?? []).suffix(setting.history)
            let factor = factor(own.rule, past.max() ?? amax, amax, largest)
            return { _, _ in factor }
        case .current(let outer, let depth):
            // The weight of the input's gradient has its depth down its rows.
            let turned = depthAlongColumns
            let tall = (turned ? outer : depth) == 0 ? rows : (turned ? outer : depth)
            let wide = (turned ? depth : outer) == 0 ? columns : (turned ? depth : outer)
            var blocks: [[Int]: Double] = [:]
            for index in x.indices {
                let place = [index / columns / tall, index % columns / wide]
                blocks[place] = max(blocks[place] ?? 0, x[index].magnitude)
            }
            let factors = blocks.mapValues { factor(own.rule, $0, amax, largest) }
            return { row, column in factors[[row / tall, column / wide]] ?? 1 }
        }
    }

    /// The scale of elements of magnitudes up to `block`, in a tensor of magnitudes up to `amax`.
    private func factor(_ rule: OperandSetting.Rule, _ block: Double, _ amax: Double, _ largest: Double) -> Double {
        guard block > 0 else { return 1 }
        return switch rule {
        case .powerOfTwo: power(block, largest)
        case .free: largest / block
        case .floor: Double(sign: .plus, exponent: Int(largest.exponent) - Int(block.exponent), significand: 1)
        case .twoLevels: twoLevels(block, amax, largest)
        }
    }

    /// NVFP4: the block's scale as an E4M3 number of the tensor's scale, which brings the largest of them to 448.
    private func twoLevels(_ block: Double, _ amax: Double, _ largest: Double) -> Double {
        let tensor = amax > 0 ? Double(Float(448 * largest) / Float(amax)) : 1
        let stored = Self.rounded(Double(Float(block) * (Float(tensor) / Float(largest))), .e4m3, nil)
        return stored > 0 ? tensor / stored : 0
    }

    private func smoothed(_ layer: Int, _ hidden: [Double], _ rows: Int, _ columns: Int, _ largest: Double)
        -> (Int, Int) -> Double {
        let up = ups[layer] ?? [], isChannel = setting.smoothing == .channel
        var most = [Double](repeating: 0, count: isChannel ? columns : rows)
        for index in up.indices {
            let place = isChannel ? index % columns : index / columns
            most[place] = max(most[place], up[index].magnitude)
        }
        let own = most.map { power($0, 1) }
        let peak = hidden.indices.reduce(0.0) { peak, index in
            max(peak, hidden[index].magnitude * own[isChannel ? index % columns : index / columns])
        }
        let whole = power(peak, largest)
        return { row, column in own[isChannel ? column : row] * whole }
    }
}
