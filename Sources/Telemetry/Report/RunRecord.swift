import Base

/// A run as its folder tells it afterwards: the numbers of every step, and the config with where each value came from.
public struct RunRecord: Sendable {
    /// A key of the config, as it was written down.
    public struct Setting: Sendable, Equatable {
        public let key: String
        public let value: String
        /// "default", "FILE:LINE" or the flag; empty in folders that were written before this was noted.
        public let origin: String

        package init(key: String, value: String, origin: String) {
            (self.key, self.value, self.origin) = (key, value, origin)
        }
    }

    public let name: String
    public let path: String
    /// By tag, a dictionary for each line of metrics.jsonl.
    public let lines: [[String: Double]]
    public let settings: [Setting]

    package init(name: String, path: String, lines: [[String: Double]], config: String) {
        self.name = name
        self.path = path
        self.lines = lines
        settings = Self.settings(config)
    }

    /// `path`: `outputs/NAME`. config: the text of its config.toml.
    public init(path: String, config: String) throws {
        let lines = try MetricsLog.read(path + "/metrics.jsonl")
        guard !lines.isEmpty else {
            throw BadInput("\(path) has no steps in metrics.jsonl; give the folder of a run (outputs/NAME)")
        }
        let name = path.split(separator: "/").last.map(String.init) ?? path
        self.init(name: name, path: path, lines: lines, config: config)
    }

    private static func settings(_ config: String) -> [Setting] {
        var section = "", found: [Setting] = []
        for line in config.split(separator: "\n") {
            if line.hasPrefix("["), line.hasSuffix("]") {
                section = String(line.dropFirst().dropLast())
            } else if let equals = line.firstRange(of: " = ") {
                let rest = line[equals.upperBound...], mark = rest.ranges(of: "  # ").last
                found.append(Setting(key: "\(section).\(line[..<equals.lowerBound])",
                                     value: String(rest[..<(mark?.lowerBound ?? rest.endIndex)]),
                                     origin: mark.map { String(rest[$0.upperBound...]) } ?? ""))
            }
        }
        return found
    }

    /// The value that a key has in the config, without quotes.
    public func setting(_ key: String) -> String? {
        settings.first { $0.key == key }.map { $0.value.filter { $0 != "\"" } }
    }

    /// A tag's values by their steps, in order; those that are not finite are left out.
    public func series(_ tag: String, by x: String = "step") -> [Point] {
        lines.compactMap { line in
            guard let x = line[x], let y = line[tag], x.isFinite, y.isFinite else { return nil }
            return Point(x, y)
        }
    }

    /// The same of something that is reckoned from a line.
    func series(_ value: ([String: Double]) -> Double?) -> [Point] {
        lines.compactMap { line in
            guard let x = line["step"], let y = value(line), y.isFinite else { return nil }
            return Point(x, y)
        }
    }

    public func last(_ tag: String) -> Double? { series(tag).last?.y }

    /// The middle of a tag's values; nil where there are none.
    public func median(_ tag: String) -> Double? {
        let values = series(tag).map(\.y).sorted()
        return values.isEmpty ? nil : values[values.count / 2]
    }

    /// The mean of the last tenth of a tag's values, which says more than the last one where they are noisy.
    public func settled(_ tag: String) -> Double? {
        let values = series(tag).map(\.y), tail = values.suffix(max(1, values.count / 10))
        return tail.isEmpty ? nil : tail.reduce(0, +) / Double(tail.count)
    }

    /// Wall time of all steps.
    public var seconds: Double { series("time_metrics/end_to_end(s)").reduce(0) { $0 + $1.y } }
}

public struct Point: Sendable, Equatable {
    public var x: Double
    public var y: Double

    public init(_ x: Double, _ y: Double) { (self.x, self.y) = (x, y) }
}
