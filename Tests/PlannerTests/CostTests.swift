import Base
import Foundation
import Planner
import Testing

@Suite struct CostTests {
    /// Two parabolas with a jump in the rate of attention at 4,096 tokens.
    private static let truth = PiecewiseQuadratic(pieces: [
        .init(from: 0, square: 2e-9, linear: 4e-5, constant: 0.01),
        .init(from: 4_096, square: 5e-9, linear: 4.4e-5, constant: 0.005),
    ])
    private static let lengths = (0..<48).map { Int(64 * pow(2, Double($0) / 4.8)) }

    private static func samples(noise: Double, seed: Int) -> [(length: Int, seconds: Double)] {
        var draws = Draws(seed)
        return lengths.map { ($0, truth($0) * (1 + noise * draws.normal())) }
    }

    @Test func anExactCurveIsRecovered() {
        let fit = PiecewiseQuadratic(fitting: Self.samples(noise: 0, seed: 0))
        #expect(fit.pieces.count == 2)
        for length in Self.lengths { #expect(abs(fit(length) / Self.truth(length) - 1) < 1e-6) }
        for (found, right) in zip(fit.pieces, Self.truth.pieces) {
            #expect(abs(found.square / right.square - 1) < 1e-3)
            #expect(abs(found.linear / right.linear - 1) < 1e-3)
        }
    }

    /// Fitted to samples with 3 % of noise, held-out lengths are met within 5 % in the mean: by far, and better than by
    /// one parabola.
    @Test func noisySamplesAreMet() {
        var fitted = 0.0, count = 0.0
        for seed in 0..<20 {
            let fit = PiecewiseQuadratic(fitting: Self.samples(noise: 0.03, seed: seed))
            var draws = Draws(seed, stream: 9)
            for _ in 0..<200 {
                let length = Int(64 * pow(2, draws.uniform(0...9.7)))
                fitted += abs(fit(length) / Self.truth(length) - 1)
                count += 1
            }
        }
        print("cost curve from samples with 3 % noise: mean absolute error \(percent(fitted / count)) on held-out "
            + "lengths")
        #expect(fitted / count <= 0.02)
    }

    /// One parabola stays one: no piece follows the noise.
    @Test func oneParabolaStaysOne() {
        for seed in 0..<20 {
            var draws = Draws(seed)
            let fit = PiecewiseQuadratic(fitting: Self.lengths.map { length in
                let x = Double(length)
                return (length, ((3e-9 * x + 5e-5) * x + 0.002) * (1 + 0.02 * draws.normal()))
            })
            #expect(fit.pieces.count == 1, "seed \(seed)")
        }
    }

    private static let shape = CostShape(heads: 8, keyHeads: 8, ulyssesBytesPerToken: 98_304,
                                         ringBytesPerToken: 147_456)

    /// Measurements of three ranks, the second at half the speed, the third with a third of the link.
    private static func measurements(noise: Double, seed: Int) -> CostMeasurements {
        var draws = Draws(seed), result = CostMeasurements(compute: [], exchange: [])
        func noisy(_ seconds: Double) -> Double { seconds * (1 + noise * draws.normal()) }
        for (rank, speed) in [1, 0.5, 1].enumerated() {
            for length in lengths where rank == 0 || length % 2 == 0 {
                result.compute.append(.init(rank: rank, length: length, seconds: noisy(truth(length) / speed)))
            }
            for degree in [2, 3] {
                for bytes in [1e4, 1e5, 1e6, 1e7, 1e8] where rank != 1 {
                    let seconds = (0.001 * Double(degree - 1) + bytes / 1e9) * (rank == 2 ? 3 : 1)
                    result.exchange.append(.init(mode: .ulysses, slowest: rank, degree: degree, bytes: bytes,
                                                 seconds: noisy(seconds)))
                }
            }
        }
        return result
    }

    @Test func ranksThatDifferAreFound() throws {
        let (model, rates) = try CostModel.fitted(to: Self.measurements(noise: 0.02, seed: 1), ranks: 3,
                                                  shape: Self.shape)
        #expect(abs(rates.speeds[0] - 1) < 0.03 && abs(rates.speeds[1] - 0.5) < 0.03 && abs(rates.speeds[2] - 1) < 0.03)
        #expect(rates.links[1] == 1 && abs(rates.links[2] - 1.0 / 3) < 0.03)
        #expect(model.ring == nil && !model.permits(.ring, degree: 2))
        #expect(model.taskSeconds > 0)
    }

    /// Whole tasks that were in no measurement, as the fitted model and as the truth reckon them.
    @Test func heldOutTasks() throws {
        let (model, rates) = try CostModel.fitted(to: Self.measurements(noise: 0.03, seed: 2), ranks: 3,
                                                  shape: Self.shape)
        let exchange = CostModel.Exchange(bytesPerToken: Self.shape.ulyssesBytesPerToken, table: ExchangeTable(rows: [
            .init(degree: 2, curve: ExchangeCurve(latency: 0.001, secondsPerByte: 1e-9)),
            .init(degree: 3, curve: ExchangeCurve(latency: 0.002, secondsPerByte: 1e-9)),
        ]))
        var curve = Self.truth
        for i in curve.pieces.indices { curve.pieces[i].constant -= 0.01 }
        let right = CostModel(compute: curve, taskSeconds: 0.01, ulysses: exchange, ring: nil, heads: 8, keyHeads: 8)
        var draws = Draws(4), sum = 0.0
        let count = 300
        for _ in 0..<count {
            let lengths = draws.lengths(draws.integer(1...5), median: 3_000)
            func seconds(_ cost: CostModel, _ rates: RankRates, _ ranks: [Int]) throws -> Double {
                let problem = try PlanProblem(lengths: lengths, rates: rates, tokenCap: 1 << 20, cost: cost)
                return problem.seconds(of: PlannerTask(sequences: Array(lengths.indices), ranks: ranks,
                                                       mode: ranks.count == 1 ? .local : .ulysses))
            }
            let ranks = draws.pick([[0], [1], [0, 1], [1, 2], [0, 2]])
            let truth = try seconds(right, RankRates(speeds: [1, 0.5, 1], links: [1, 1, 1.0 / 3]), ranks)
            sum += abs(try seconds(model, rates, ranks) / truth - 1)
        }
        print("cost of held-out tasks: mean absolute error \(percent(sum / Double(count)))")
        #expect(sum / Double(count) <= 0.05)
    }

    @Test func everyBitIsKept() throws {
        let (model, _) = try CostModel.fitted(to: Self.measurements(noise: 0.02, seed: 3), ranks: 3, shape: Self.shape)
        let text = model.encoded
        #expect(!text.contains("\n"))
        let back = try CostModel(decoding: text, place: "manifest")
        #expect(back == model && back.encoded == text)
        #expect(throws: BadInput.self) { try CostModel(decoding: String(text.dropLast()), place: "manifest") }
        #expect(throws: BadInput.self) { try CostModel(decoding: "{}", place: "manifest") }
    }

    @Test func badMeasurementsAreRefused() {
        func refusal(_ change: (inout CostMeasurements) -> Void) -> String? {
            var measurements = Self.measurements(noise: 0, seed: 0)
            change(&measurements)
            do {
                _ = try CostModel.fitted(to: measurements, ranks: 3, shape: Self.shape)
                return nil
            } catch { return error.description }
        }
        #expect(refusal { _ in } == nil)
        #expect(refusal { $0.compute[3].seconds = 0 }?.contains("measures nothing") == true)
        #expect(refusal { $0.compute[3].seconds = .nan }?.contains("measures nothing") == true)
        #expect(refusal { $0.compute[3].rank = 3 }?.contains("below 3") == true)
        #expect(refusal { $0.exchange[0].degree = 1 }?.contains("degree 1") == true)
        #expect(refusal { $0.compute.removeSubrange(2...) }?.contains("3 lengths") == true)
    }

    /// Interpolation in bytes and in degrees, and a line below that is nowhere above.
    @Test func tablesInterpolate() {
        let two = ExchangeCurve(measured: [.init(bytes: 1_000, seconds: 2), .init(bytes: 3_000, seconds: 6),
                                           .init(bytes: 9_000, seconds: 9), .init(bytes: 3_000, seconds: 6.5),
                                           .init(bytes: 3_000, seconds: 5)])
        #expect(two(1_000) == 2 && two(2_000) == 4 && two(0) == 0 && two(6_000) == 7.5 && two(15_000) == 12)
        let eight = ExchangeCurve(latency: 6, secondsPerByte: 0.001)
        let table = ExchangeTable(rows: [.init(degree: 8, curve: eight), .init(degree: 2, curve: two)])
        #expect(table.seconds(bytes: 2_000, degree: 2) == 4 && table.seconds(bytes: 2_000, degree: 8) == 8)
        #expect(abs(table.seconds(bytes: 3_000, degree: 5) - (6 + 9) / 2) < 1e-9)
        #expect(table.seconds(bytes: 3_000, degree: 14) >= eight(3_000))
        let steep = ExchangeCurve(measured: [.init(bytes: 1e3, seconds: 1), .init(bytes: 2e3, seconds: 9)])
        for curve in [two, eight, steep] {
            let (latency, slope) = curve.minorant
            for bytes in stride(from: 0.0, through: 40_000, by: 250) {
                #expect(latency + slope * bytes <= curve(bytes) * (1 + 1e-12))
            }
        }
    }

    @Test func ulyssesDealsWholeHeads() {
        let model = cost(heads: 12, keyHeads: 4)
        #expect([2, 3, 4, 6, 8, 12].filter { model.permits(.ulysses, degree: $0) } == [2, 4, 12])
        #expect(model.permits(.ring, degree: 5) && !model.permits(.ring, degree: 1) && model.permits(.local, degree: 1))
    }
}
