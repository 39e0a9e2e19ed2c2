import Base

/// What was measured of one rank, or of one group: the input of a fit. A pure function makes the model of it, so the
/// same measurements give the same model on every rank.
package struct CostMeasurements: Sendable, Equatable {
    /// A task of `count` sequences of one length on one rank.
    package struct Compute: Sendable, Equatable {
        package var rank: Int
        package var length: Int
        package var count: Int
        package var seconds: Double

        package init(rank: Int, length: Int, count: Int = 1, seconds: Double) {
            (self.rank, self.length, self.count, self.seconds) = (rank, length, count, seconds)
        }
    }

    /// The exchanges of one task among `degree` ranks: `bytes` are what each of them sends. `slowest` is the rank
    /// with the slowest link of the group.
    package struct Exchange: Sendable, Equatable {
        package var mode: TaskMode
        package var slowest: Int
        package var degree: Int
        package var bytes: Double
        package var seconds: Double

        package init(mode: TaskMode, slowest: Int, degree: Int, bytes: Double, seconds: Double) {
            (self.mode, self.slowest, self.degree) = (mode, slowest, degree)
            (self.bytes, self.seconds) = (bytes, seconds)
        }
    }

    package var compute: [Compute]
    package var exchange: [Exchange]

    package init(compute: [Compute], exchange: [Exchange]) { (self.compute, self.exchange) = (compute, exchange) }
}

/// What no measurement says: the model's shape.
package struct CostShape: Sendable, Equatable {
    package var heads: Int
    package var keyHeads: Int
    /// Of `CostModel.Exchange`, for each mode.
    package var ulyssesBytesPerToken: Double
    package var ringBytesPerToken: Double

    package init(heads: Int, keyHeads: Int, ulyssesBytesPerToken: Double, ringBytesPerToken: Double) {
        (self.heads, self.keyHeads) = (heads, keyHeads)
        (self.ulyssesBytesPerToken, self.ringBytesPerToken) = (ulyssesBytesPerToken, ringBytesPerToken)
    }
}

extension CostModel {
    /// The model that measurements of `ranks` ranks give, and what the ranks differ in.
    ///
    /// Speed 1 is the rank with the most samples of compute (the first of them): its samples make the curve. Another
    /// rank's speed is the median of curve over sample; so is a link's, against the curve of its degree. A rank
    /// without a sample counts as speed 1. What a task costs whatever is in it is told apart from what each sequence
    /// costs by tasks of several sequences. Where there are none, the constant of the curve for the shortest sequences
    /// is taken for it.
    ///
    /// Throws where samples cannot determine the curve: fewer than three lengths, or a time or length of nothing.
    package static func fitted(to measurements: CostMeasurements, ranks: Int, shape: CostShape) throws(BadInput)
        -> (model: CostModel, rates: RankRates) {
        try check(measurements, ranks: ranks)
        let byRank = Dictionary(grouping: measurements.compute, by: \.rank)
        let reference = byRank.keys.sorted().max { byRank[$0]!.count < byRank[$1]!.count } ?? 0
        let samples = byRank[reference] ?? []
        guard Set(samples.map(\.length)).count >= 3 else {
            throw BadInput("a cost model needs compute times of at least 3 lengths on one rank, and rank \(reference) "
                + "has \(Set(samples.map(\.length)).count); measure more lengths")
        }
        let (compute, taskSeconds) = samples.contains { $0.count > 1 } ? joint(samples) : single(samples)
        let speeds = (0..<ranks).map { rank in
            median(byRank[rank, default: []].map {
                (taskSeconds + Double($0.count) * compute($0.length)) / $0.seconds
            })
        }
        let tables = [TaskMode.ulysses, .ring].map { mode in
            table(measurements.exchange.filter { $0.mode == mode })
        }
        let links = (0..<ranks).map { rank in
            median(measurements.exchange.filter { $0.slowest == rank }.compactMap { sample in
                tables[sample.mode == .ulysses ? 0 : 1].map {
                    $0.seconds(bytes: sample.bytes, degree: sample.degree) / sample.seconds
                }
            })
        }
        let model = CostModel(compute: compute, taskSeconds: taskSeconds,
                              ulysses: tables[0].map { Exchange(bytesPerToken: shape.ulyssesBytesPerToken, table: $0) },
                              ring: tables[1].map { Exchange(bytesPerToken: shape.ringBytesPerToken, table: $0) },
                              heads: shape.heads, keyHeads: shape.keyHeads)
        return (model, RankRates(speeds: speeds, links: links))
    }

    private static func single(_ samples: [CostMeasurements.Compute]) -> (PiecewiseQuadratic, Double) {
        var compute = PiecewiseQuadratic(fitting: samples.map { ($0.length, $0.seconds) })
        let taskSeconds = max(0, compute.pieces[0].constant)
        for i in compute.pieces.indices { compute.pieces[i].constant -= taskSeconds }
        return (compute, taskSeconds)
    }

    /// The curve for a given cost of a task is a fit of parabolas, and that cost the one with the best of these fits,
    /// looked for on a grid and then on a finer one about the best of its points.
    private static func joint(_ samples: [CostMeasurements.Compute]) -> (PiecewiseQuadratic, Double) {
        func fit(_ taskSeconds: Double) -> (curve: PiecewiseQuadratic, criterion: Double) {
            PiecewiseQuadratic.best(samples.map { sample in
                let count = Double(sample.count)
                return .init(length: sample.length, seconds: (sample.seconds - taskSeconds) / count,
                             scale: sample.seconds / count)
            })
        }
        let most = 0.98 * (samples.map(\.seconds).min() ?? 0), points = 24
        var (best, step) = (0.0, most / Double(points)), found = fit(0)
        for pass in 0..<3 {
            let middle = best
            for point in (pass == 0 ? 1 : -points / 2)...(pass == 0 ? points : points / 2) {
                let candidate = middle + Double(point) * step
                guard candidate >= 0, candidate <= most, case let curve = fit(candidate),
                      curve.criterion < found.criterion else { continue }
                (best, found) = (candidate, curve)
            }
            step = step * 2 / Double(points)
        }
        // Beyond what was measured the last parabola goes on; one that falls would promise long sequences for nothing.
        var curve = found.curve
        let last = curve.pieces.count - 1, longest = samples.map(\.length).max() ?? 1
        let piece = curve.pieces[last]
        if piece.square < 0, longest > piece.from {
            let linear = (curve(longest) - curve(piece.from)) / Double(longest - piece.from)
            curve.pieces[last] = .init(from: piece.from, square: 0, linear: linear,
                                       constant: curve(longest) - linear * Double(longest))
        }
        return (curve, best)
    }

    private static func check(_ measurements: CostMeasurements, ranks: Int) throws(BadInput) {
        for sample in measurements.compute
        where sample.length < 1 || sample.count < 1 || !(sample.seconds > 0) || !(0..<ranks).contains(sample.rank) {
            throw BadInput("a compute sample of rank \(sample.rank), \(sample.length) tokens and \(sample.seconds) s "
                + "measures nothing; lengths and times must be above 0, and ranks below \(ranks)")
        }
        for sample in measurements.exchange
        where sample.mode == .local || sample.degree < 2 || sample.bytes < 0 || !(sample.seconds > 0)
            || !(0..<ranks).contains(sample.slowest) {
            throw BadInput("an exchange sample (\(sample.mode.rawValue), degree \(sample.degree), \(sample.bytes) "
                + "bytes, \(sample.seconds) s, rank \(sample.slowest)) measures nothing; degrees are at least 2, times "
                + "above 0, and ranks below \(ranks)")
        }
    }

    /// The reference of links is the group with the most samples of its degree; a degree that only saw zero bytes
    /// tells no rate and is left out.
    private static func table(_ samples: [CostMeasurements.Exchange]) -> ExchangeTable? {
        let counts = Dictionary(grouping: samples, by: \.slowest).mapValues(\.count)
        guard let reference = counts.keys.sorted().max(by: { counts[$0]! < counts[$1]! }) else { return nil }
        let degrees = Dictionary(grouping: samples.filter { $0.slowest == reference }, by: \.degree)
        let rows = degrees.keys.sorted().compactMap { degree -> ExchangeTable.Row? in
            let points = degrees[degree]!.map { ExchangeCurve.Point(bytes: $0.bytes, seconds: $0.seconds) }
            guard points.contains(where: { $0.bytes > 0 }) else { return nil }
            return ExchangeTable.Row(degree: degree, curve: ExchangeCurve(measured: points))
        }
        return rows.isEmpty ? nil : ExchangeTable(rows: rows)
    }

    /// Of ratios; 1 where there is none.
    private static func median(_ ratios: [Double]) -> Double {
        ratios.isEmpty ? 1 : ratios.sorted()[ratios.count / 2]
    }
}
