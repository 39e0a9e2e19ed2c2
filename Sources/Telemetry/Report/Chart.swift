import Base

/// Lines over an axis, as inline SVG: everything is in the text, so that a page shows it without a network, and
/// without scripts. The class names are `PageStyle`'s.
struct Chart {
    struct Series {
        var name: String
        /// Which of the page's colours.
        var color: Int
        var points: [Point]
        /// Points as dots, too: for few and far between.
        var hasDots = false
    }

    var title: String
    /// Of the upright axis.
    var unit: String
    var xTitle = "step"
    var series: [Series]
    /// The upright axis is logarithmic to base 2, for lengths.
    var isBinary = false
    /// The upright axis begins at 0.
    var fromZero = false

    static let width = 640.0, height = 250.0
    private static let left = 58.0, right = 14.0, top = 12.0, bottom = 34.0
    /// A line has at most so many columns with a lowest and a highest point: about as many as the picture has pixels.
    private static let columns = 300

    /// Nil where there is nothing to draw.
    func svg() -> String? {
        let drawn = series.map { Chart.thinned($0.points) }
        let all = drawn.flatMap { $0 }
        guard let first = all.first else { return nil }
        var (x0, x1) = all.reduce((first.x, first.x)) { (min($0.0, $1.x), max($0.1, $1.x)) }
        if x0 == x1 { (x0, x1) = (x0 - 0.5, x1 + 0.5) }
        let scale = Axis(all.map { height($0.y) }, fromZero: fromZero, isBinary: isBinary)
        func place(_ point: Point) -> (Double, Double) {
            (Chart.left + (point.x - x0) / (x1 - x0) * (Chart.width - Chart.left - Chart.right),
             scale.place(height(point.y), from: Chart.height - Chart.bottom, to: Chart.top))
        }
        var parts: [String] = []
        for (value, text) in scale.ticks {
            let y = scale.place(value, from: Chart.height - Chart.bottom, to: Chart.top)
            parts.append(line(Chart.left, y, Chart.width - Chart.right, y, "grid"))
            parts.append(label(Chart.left - 6, y + 4, "end", text))
        }
        for (value, text) in Axis([x0, x1], fromZero: false, isBinary: false).ticks where value >= x0 && value <= x1 {
            let x = place(Point(value, 0)).0
            parts.append(line(x, Chart.height - Chart.bottom, x, Chart.height - Chart.bottom + 4, "tick"))
            parts.append(label(x, Chart.height - Chart.bottom + 17, "middle", text))
        }
        parts.append(line(Chart.left, Chart.height - Chart.bottom, Chart.width - Chart.right,
                          Chart.height - Chart.bottom, "axis"))
        parts.append(label(Chart.width - Chart.right, Chart.height - 4, "end", escaped(xTitle)))
        for (one, points) in zip(series, drawn) where !points.isEmpty {
            let path = points.enumerated().map { index, point in
                let (x, y) = place(point)
                return (index == 0 ? "M" : "L") + "\(short(x)) \(short(y))"
            }
            parts.append("<path class=\"line c\(one.color)\" d=\"\(path.joined())\"/>")
            guard one.hasDots || points.count == 1 else { continue }
            for point in points {
                let (x, y) = place(point)
                parts.append("<circle class=\"dot c\(one.color)\" cx=\"\(short(x))\" cy=\"\(short(y))\" r=\"2.5\"/>")
            }
        }
        let size = "0 0 \(Int(Chart.width)) \(Int(Chart.height))"
        return "<svg viewBox=\"\(size)\" role=\"img\" aria-label=\"\(escaped(title))\" data-x0=\"\(x0)\" "
            + "data-x1=\"\(x1)\" data-left=\"\(Int(Chart.left))\" data-right=\"\(Int(Chart.right))\">\(parts.joined())"
            + "<line class=\"cursor\" y1=\"\(Int(Chart.top))\" y2=\"\(Int(Chart.height - Chart.bottom))\"/></svg>"
    }

    /// The chart with its title, legend, and the values that the page's script shows under the pointer.
    func figure() -> String? {
        guard let svg = svg() else { return nil }
        let shown = series.filter { !$0.points.isEmpty }
        let legend = shown.count < 2 ? "" : "<div class=\"legend\">" + shown.map {
            "<span><i class=\"c\($0.color)\"></i>\(escaped($0.name))</span>"
        }.joined() + "</div>"
        let data = shown.map { one in
            let points = Chart.thinned(one.points)
            func list(_ values: [Double]) -> String { "[\(values.map(number).joined(separator: ","))]" }
            return "{\"n\":\(jsonString(one.name)),\"c\":\(one.color),\"x\":\(list(points.map(\.x))),"
                + "\"y\":\(list(points.map(\.y)))}"
        }
        let unit = unit.isEmpty ? "" : " <small>\(escaped(unit))</small>"
        return "<figure><figcaption>\(escaped(title))\(unit)</figcaption>\(legend)"
            + "<div class=\"plot\">\(svg)<div class=\"tip\"></div></div>"
            + "<script type=\"application/json\">[\(scriptSafe(data.joined(separator: ",")))]</script></figure>"
    }

    private func height(_ y: Double) -> Double { isBinary ? logarithm(max(y, 1e-300)) / 0.693_147_180_559_945_3 : y }

    /// The lowest and the highest of each column, in the order of their x, and the two ends.
    static func thinned(_ points: [Point]) -> [Point] {
        guard points.count > 2 * columns else { return points }
        var kept: [Point] = [points[0]]
        for column in 0..<columns {
            let range = (column * points.count / columns)..<((column + 1) * points.count / columns)
            guard let low = range.min(by: { points[$0].y < points[$1].y }),
                  let high = range.max(by: { points[$0].y < points[$1].y }) else { continue }
            kept += [min(low, high), max(low, high)].map { points[$0] }
        }
        kept.append(points[points.count - 1])
        return kept
    }

    private func line(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, _ kind: String) -> String {
        "<line class=\"\(kind)\" x1=\"\(short(x1))\" y1=\"\(short(y1))\" x2=\"\(short(x2))\" y2=\"\(short(y2))\"/>"
    }

    private func label(_ x: Double, _ y: Double, _ anchor: String, _ text: String) -> String {
        "<text x=\"\(short(x))\" y=\"\(short(y))\" text-anchor=\"\(anchor)\">\(text)</text>"
    }

    private func short(_ value: Double) -> String { Units.fixed(value, 1) }
    /// Six digits are more than a picture shows.
    private func number(_ value: Double) -> String {
        value == value.rounded() && value.magnitude < 1e15 ? "\(Int(value))" : "\(Float(value))"
    }
}

/// A scale with round numbers on it.
struct Axis {
    private(set) var low: Double
    private(set) var high: Double
    private(set) var ticks: [(value: Double, text: String)] = []

    /// isBinary: values are powers of 2, and every whole one gets a tick.
    init(_ values: [Double], fromZero: Bool, isBinary: Bool) {
        low = values.min() ?? 0
        high = values.max() ?? 1
        if fromZero { low = min(low, 0) }
        if low == high { (low, high) = (low - max(low.magnitude, 1) * 0.05, high + max(high.magnitude, 1) * 0.05) }
        if isBinary {
            (low, high) = (low.rounded(.down), high.rounded(.up))
            if high - low > 40 { (low, high) = (high - 40, high) }
            ticks = (Int(low)...Int(high)).map { (Double($0), Axis.text(power(2, $0), step: 1)) }
            return
        }
        let step = Axis.step((high - low) / 5)
        var value = (low / step).rounded(.up) * step
        while value <= high + step * 1e-9 {
            // What should be zero is, and not 1e-17.
            if value.magnitude < step * 1e-9 { value = 0 }
            ticks.append((value, Axis.text(value, step: step)))
            value += step
        }
    }

    /// 1, 2 or 5 times a power of ten, the first that is at least `size`.
    static func step(_ size: Double) -> Double {
        var base = 1.0
        while base > size { base /= 10 }
        while base * 10 <= size { base *= 10 }
        return [1, 2, 5, 10].map { $0 * base }.first { $0 >= size * 0.999_999 } ?? 10 * base
    }

    func place(_ value: Double, from: Double, to: Double) -> Double {
        from + (min(max(value, low), high) - low) / (high - low) * (to - from)
    }

    static func text(_ value: Double, step: Double) -> String {
        if value.magnitude >= 10_000 {
            let text = Units.count(value)
            return text.replacing(".0 ", with: " ")
        }
        if value != 0, value.magnitude < 1e-3 || step < 1e-4 { return scientific(value) }
        var digits = 0, unit = 1.0
        while unit > step * 1.000_001, digits < 6 {
            unit /= 10
            digits += 1
        }
        return Units.fixed(value, digits)
    }
}

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

private func logarithm(_ x: Double) -> Double { log(x) }
private func power(_ base: Double, _ exponent: Int) -> Double { pow(base, Double(exponent)) }

/// Text within a page.
func escaped(_ text: String) -> String {
    text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
        .replacing("\"", with: "&quot;")
}

/// JSON within a script element, which nothing but its own end may end.
func scriptSafe(_ json: String) -> String { json.replacing("<", with: "\\u003c") }
