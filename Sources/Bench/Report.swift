import Base
import Tensor

/// A line of a bench's output: what was measured, and what the figure depends on. As JSON it is one object on
/// one line; as text, `name value` pairs.
public struct BenchLine: Sendable {
    public enum Value: Sendable {
        case text(String)
        case integer(Int)
        case number(Double)
    }

    public private(set) var fields: [(name: String, value: Value)]
    /// What a person may want to read beside the line.
    public var note: String?

    /// `seconds` is the median of the timed rounds.
    public init(bench: String, threads: Int, ranks: Int = 1, seconds: Double) {
        fields = [("bench", .text(bench)), ("threads", .integer(threads)), ("ranks", .integer(ranks)),
                  ("core", .text(OpenBLAS.coreName)), ("isa", .text(usedISA)), ("seconds", .number(seconds))]
    }

    public mutating func add(_ name: String, _ value: Int) { fields.append((name, .integer(value))) }
    public mutating func add(_ name: String, _ value: Double) { fields.append((name, .number(value))) }
    public mutating func add(_ name: String, _ value: String) { fields.append((name, .text(value))) }

    public var json: String {
        let parts = fields.map { field in
            switch field.value {
            case .text(let text): "\"\(field.name)\":" + jsonString(text)
            case .integer(let number): "\"\(field.name)\":\(number)"
            case .number(let number): "\"\(field.name)\":\(number.isFinite ? "\(number)" : "null")"
            }
        }
        return "{" + parts.joined(separator: ",") + "}"
    }

    public var text: String {
        fields.map { field in
            switch field.value {
            case .text(let text): "\(field.name) \(text)"
            case .integer(let number): "\(field.name) \(number)"
            case .number(let number): "\(field.name) \(number >= 100 ? Units.fixed(number, 1) : Units.fixed(number, 5))"
            }
        }.joined(separator: "  ")
    }
}

/// The median of `rounds` timings of `body`, after one that is not counted. `body` gets the round's number.
public func medianSeconds(rounds: Int, _ body: (Int) throws -> Void) rethrows -> Double {
    var times: [Double] = []
    for round in 0...rounds {
        let start = MonotonicClock.seconds()
        try body(round)
        if round > 0 { times.append(MonotonicClock.seconds() - start) }
    }
    return median(times)
}

/// How much longer than `subject` each of `others` takes. All are timed in turn, A B C A B C, and each figure is the
/// median over the rounds of one round's ratio: a machine that changes its speed changes neighbours alike.
func medianRatios(rounds: Int, to subject: @escaping () -> Void, _ others: [() -> Void]) -> [Double] {
    let runs = [subject] + others
    var times: [[Double]] = []
    for round in 0...rounds {
        let taken = runs.map { run in
            let start = MonotonicClock.seconds()
            run()
            return MonotonicClock.seconds() - start
        }
        if round > 0 { times.append(taken) }
    }
    return others.indices.map { other in median(times.map { $0[other + 1] / $0[0] }) }
}

func median(_ times: [Double]) -> Double {
    let times = times.sorted(), middle = times.count / 2
    return times.count % 2 == 1 ? times[middle] : (times[middle - 1] + times[middle]) / 2
}
