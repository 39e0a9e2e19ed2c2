import Base
import Foundation

/// How the ranks of a task share its attention.
package enum TaskMode: String, Sendable, Equatable, Codable, CaseIterable {
    /// One rank alone.
    case local
    /// Tokens are exchanged for heads and back (DeepSpeed-Ulysses, 2309.14509).
    case ulysses
    /// Keys and values go round (RingAttention, 2310.01889; zigzag, so that a causal mask loads ranks alike).
    case ring
}

/// What a task takes: seconds, as a function of the lengths of its sequences and of the ranks that do it. Fitted once
/// from measurements (`CostModel(fitting:)`) or reckoned from a recipe (`CostModel(_:_:)`), then frozen: plans repeat
/// only while it does not change. `encoded` and `init(decoding:)` keep every bit.
///
/// A task of degree d whose slowest rank has speed v, and whose slowest link rate u, takes
///
///     taskSeconds / v + sum over its sequences of compute(L) / (d v) + exchange(bytes, d) / u
///
/// where bytes is what each rank sends, for T tokens in the task, forward and backward in all layers:
///
///     Ulysses  T / d x (d - 1) / d x bytesPerToken      a rank keeps the d-th part of what it exchanges
///     ring     T / d x (d - 1)     x bytesPerToken      keys and values pass by every rank
package struct CostModel: Sendable, Equatable, Codable {
    /// One way of sharing attention.
    package struct Exchange: Sendable, Equatable, Codable {
        package var bytesPerToken: Double
        package var table: ExchangeTable

        package init(bytesPerToken: Double, table: ExchangeTable) {
            (self.bytesPerToken, self.table) = (bytesPerToken, table)
        }
    }

    /// Seconds of one sequence, forward and backward, on one rank of speed 1.
    package var compute: PiecewiseQuadratic
    /// What each task takes besides, on a rank of speed 1: every weight is read once, whatever the tokens.
    package var taskSeconds: Double
    package var ulysses: Exchange?
    package var ring: Exchange?
    /// Query and key/value heads: Ulysses can only deal whole heads out.
    package var heads: Int
    package var keyHeads: Int

    package init(compute: PiecewiseQuadratic, taskSeconds: Double, ulysses: Exchange?, ring: Exchange?,
                 heads: Int, keyHeads: Int) {
        (self.compute, self.taskSeconds) = (compute, taskSeconds)
        (self.ulysses, self.ring, self.heads, self.keyHeads) = (ulysses, ring, heads, keyHeads)
    }

    /// Whether `degree` ranks can work on a task together in this mode.
    package func permits(_ mode: TaskMode, degree: Int) -> Bool {
        guard Self.permits(mode, degree: degree, heads: heads, keyHeads: keyHeads) else { return false }
        return switch mode {
        case .local: true
        case .ulysses: ulysses != nil
        case .ring: ring != nil
        }
    }

    static func permits(_ mode: TaskMode, degree: Int, heads: Int, keyHeads: Int) -> Bool {
        switch mode {
        case .local: degree == 1
        case .ulysses: degree > 1 && heads % degree == 0 && (keyHeads % degree == 0 || degree % keyHeads == 0)
        case .ring: degree > 1
        }
    }

    /// The ways to do a task on `degree` ranks, each with the bytes a rank sends for one token of the task and the
    /// curve of the time that these take. None: there is no task of this degree.
    package func ways(degree: Int) -> [(mode: TaskMode, bytesPerToken: Double, curve: ExchangeCurve)] {
        let d = Double(degree)
        var ways: [(mode: TaskMode, bytesPerToken: Double, curve: ExchangeCurve)] = []
        if permits(.ulysses, degree: degree), let ulysses {
            ways.append((.ulysses, ulysses.bytesPerToken * (d - 1) / (d * d), ulysses.table.curve(degree: degree)))
        }
        if permits(.ring, degree: degree), let ring {
            ways.append((.ring, ring.bytesPerToken * (d - 1) / d, ring.table.curve(degree: degree)))
        }
        return ways
    }
}

extension CostModel {
    /// JSON on one line, keys in order; numbers in the shortest form that reads back to the same bits.
    package var encoded: String { jsonLine(self) }

    /// `place` names where the text came from. Throws: what is no cost model.
    package init(decoding text: String, place: String) throws(BadInput) {
        do {
            self = try JSONDecoder().decode(CostModel.self, from: Data(text.utf8))
        } catch {
            throw BadInput("\(place): this is not a cost model; fit it again")
        }
    }
}

/// What ranks differ in, each relative to what the cost model was made for.
package struct RankRates: Sendable, Equatable, Codable {
    /// Compute: a rank of speed 2 takes half the time.
    package var speeds: [Double]
    /// Links, likewise.
    package var links: [Double]

    package init(speeds: [Double], links: [Double]) {
        precondition(speeds.count == links.count && !speeds.isEmpty, "a speed and a link for each rank")
        precondition((speeds + links).allSatisfy { $0 > 0 && $0.isFinite }, "rates are above 0")
        (self.speeds, self.links) = (speeds, links)
    }

    package init(equal count: Int) {
        self.init(speeds: Array(repeating: 1, count: count), links: Array(repeating: 1, count: count))
    }

    package var count: Int { speeds.count }
}

/// JSON on one line, keys in order.
func jsonLine(_ value: some Encodable) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    // Encoding finite numbers and strings cannot fail.
    guard let data = try? encoder.encode(value) else { preconditionFailure("numbers that are not finite") }
    return String(decoding: data, as: UTF8.self)
}
