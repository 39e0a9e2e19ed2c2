/// Seconds of one task's exchanges as a function of the bytes that each of its ranks sends, for one degree: linear
/// between measured points, and beyond the last as it was before it. The point at 0 bytes is the latency.
package struct ExchangeCurve: Sendable, Equatable, Codable {
    package struct Point: Sendable, Equatable, Codable {
        package var bytes: Double
        package var seconds: Double

        package init(bytes: Double, seconds: Double) { (self.bytes, self.seconds) = (bytes, seconds) }
    }

    /// By bytes, strictly ascending from 0; seconds never fall. At least two.
    package private(set) var points: [Point]

    /// Measured points, in any order. Where more than one has the same bytes their median counts; noise that would
    /// have more bytes take less time is levelled; what lies before the first point is extended from the first two.
    package init(measured: [Point]) {
        precondition(measured.contains { $0.bytes > 0 }, "an exchange of no bytes tells no rate")
        let groups = Dictionary(grouping: measured, by: \.bytes).sorted { $0.key < $1.key }
        var points = groups.map { bytes, group in
            Point(bytes: bytes, seconds: group.map(\.seconds).sorted()[group.count / 2])
        }
        if points.count == 1 { points.insert(Point(bytes: 0, seconds: 0), at: 0) }
        if points[0].bytes > 0 {
            let slope = (points[1].seconds - points[0].seconds) / (points[1].bytes - points[0].bytes)
            points.insert(Point(bytes: 0, seconds: max(0, points[0].seconds - max(0, slope) * points[0].bytes)), at: 0)
        }
        for i in 1..<points.count { points[i].seconds = max(points[i].seconds, points[i - 1].seconds) }
        self.points = points
    }

    /// Latency and a rate: what a link without surprises has.
    package init(latency: Double, secondsPerByte: Double) {
        points = [Point(bytes: 0, seconds: latency), Point(bytes: 1e6, seconds: latency + 1e6 * secondsPerByte)]
    }

    package func callAsFunction(_ bytes: Double) -> Double {
        // Curves have a handful of points, so a walk is quicker than a bisection.
        var i = 1
        while i + 1 < points.count, points[i].bytes < bytes { i += 1 }
        let (low, high) = (points[i - 1], points[i])
        return low.seconds + (high.seconds - low.seconds) * ((bytes - low.bytes) / (high.bytes - low.bytes))
    }

    /// A line that is nowhere above the curve: what bounds from below may reckon with.
    package var minorant: (latency: Double, secondsPerByte: Double) {
        let (low, high) = (points[points.count - 2], points[points.count - 1])
        let slope = (high.seconds - low.seconds) / (high.bytes - low.bytes)
        let latency = points.map { $0.seconds - slope * $0.bytes }.min() ?? 0
        if latency >= 0 { return (latency, slope) }
        // The last piece is steep: a line through the origin under all points.
        return (0, points.dropFirst().map { $0.seconds / $0.bytes }.min() ?? 0)
    }
}

/// The table over (bytes, degree): a curve for each degree that was measured, and straight lines between degrees.
package struct ExchangeTable: Sendable, Equatable, Codable {
    package struct Row: Sendable, Equatable, Codable {
        package var degree: Int
        package var curve: ExchangeCurve

        package init(degree: Int, curve: ExchangeCurve) { (self.degree, self.curve) = (degree, curve) }
    }

    /// By degree, strictly ascending, from 2. At least one.
    package var rows: [Row]

    package init(rows: [Row]) {
        precondition(!rows.isEmpty && rows.allSatisfy { $0.degree >= 2 }, "an exchange has at least two ranks")
        self.rows = rows.sorted { $0.degree < $1.degree }
    }

    package func seconds(bytes: Double, degree: Int) -> Double { curve(degree: degree)(bytes) }

    /// The curve of one degree. Below the table's first degree it is the first's; beyond the last the line of the
    /// last two goes on, but never down.
    package func curve(degree: Int) -> ExchangeCurve {
        if let row = rows.first(where: { $0.degree == degree }) { return row.curve }
        // The only row is for all degrees, and the first for all below.
        guard rows.count > 1, degree > rows[0].degree else { return rows[0].curve }
        let high = rows.dropFirst().first { $0.degree > degree } ?? rows[rows.count - 1]
        let low = rows.last { $0.degree < high.degree } ?? rows[0]
        let share = Double(degree - low.degree) / Double(high.degree - low.degree)
        let bytes = Set(low.curve.points.map(\.bytes) + high.curve.points.map(\.bytes)).sorted()
        return ExchangeCurve(measured: bytes.map { bytes in
            let (a, b) = (low.curve(bytes), high.curve(bytes))
            return ExchangeCurve.Point(bytes: bytes, seconds: max(a + (b - a) * share, share > 1 ? b : 0))
        })
    }
}
