#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// How frequencies are lowered, so that positions beyond the first training's are turned no further than those within.
public enum RotaryScaling: Sendable, Equatable {
    case none
    /// Position interpolation (Chen et al., 2306.15595): all of them, over `factor`.
    case linear(factor: Double)
    /// Llama 3.1's (2407.21783): those whose wave is longer than originalLength / low, over `factor`; those whose wave
    /// is shorter than originalLength / high, not at all; a ramp between.
    case llama3(factor: Double, low: Double, high: Double, originalLength: Double)

    /// frequency: in radians a position.
    func scaled(_ frequency: Double) -> Double {
        switch self {
        case .none: return frequency
        case .linear(let factor): return frequency / factor
        case .llama3(let factor, let low, let high, let originalLength):
            // How many waves fit into the original context.
            let waves = originalLength * frequency / (2 * Double.pi)
            if waves > high { return frequency }
            if waves < low { return frequency / factor }
            let share = (waves - low) / (high - low)
            return (1 - share) * frequency / factor + share * frequency
        }
    }
}

/// The rotation angles of rotary position embedding (Su et al., 2104.09864): position p turns pair j of a
/// head by p * theta^(-2j / headDim). cosine and sine: [positions, headDim / 2].
public struct RotaryTable: Sendable {
    public let cosine: Matrix
    public let sine: Matrix

    /// Fills `memory`, which holds `floats(positions:headDim:)` floats. Angles are computed in Double.
    public init(_ memory: Arena, positions: Int, headDim: Int, theta: Double, scaling: RotaryScaling = .none) {
        let half = headDim / 2
        cosine = memory.take(rows: positions, columns: half)
        sine = memory.take(rows: positions, columns: half)
        for pair in 0..<half {
            let frequency = scaling.scaled(pow(theta, -2 * Double(pair) / Double(headDim)))
            for position in 0..<positions {
                cosine.row(position)[pair] = Float(cos(Double(position) * frequency))
                sine.row(position)[pair] = Float(sin(Double(position) * frequency))
            }
        }
    }

    public static func floats(positions: Int, headDim: Int) -> Int {
        2 * Arena.padded(positions * (headDim / 2))
    }
}

/// Turns each of `heads` heads of every row by its position, in place. x: [T, heads * headDim]; a head's pair
/// j is (x[j], x[j + headDim / 2]), Hugging Face's rotate_half. `firstPosition` is the position of row 0;
/// positions count on from there and start again at 0 every `period` rows (rows are whole sequences).
/// `inverse` turns back: since a rotation is orthogonal, that is the backward.
public func rotary(_ x_TH: Matrix, table: RotaryTable, headDim: Int, firstPosition: Int, period: Int,
                   inverse: Bool = false) {
    let half = headDim / 2
    let heads = x_TH.columns / headDim
    precondition(heads * headDim == x_TH.columns && table.cosine.columns == half, "rotary: shapes differ")
    let sign: Float = inverse ? -1 : 1
    for t in 0..<x_TH.rows {
        let position = (firstPosition + t) % period
        let cosine = table.cosine.row(position), sine = table.sine.row(position), x = x_TH.row(t)
        for head in 0..<heads {
            let low = x.slice(head * headDim, half), high = x.slice(head * headDim + half, half)
            for i in laneStarts(half) {
                let a = low[lanes: i], b = high[lanes: i]
                let c = cosine[lanes: i], s = sine[lanes: i] * sign
                low[lanes: i] = (a * c).fma(b, -s)
                high[lanes: i] = (b * c).fma(a, s)
            }
        }
    }
}
