import Base
import Collectives
import Trainer
import Wire

/// Measures which algorithm is the fastest between these ranks, by kind and size, and makes a table of it that
/// `comm.table` takes. Algorithms go in turn, so that a slow moment meets all of them; another one than the default is
/// taken only where it is faster by more than such a measurement can be wrong.
public struct CollectivesTune {
    public static let kinds: [CollectiveKind] = [.allReduce, .reduceScatter, .allGather, .broadcast, .reduce]
    static let sizes = (0..<8).map { 1024 << (2 * $0) }
    /// How much faster another algorithm must be.
    static let margin = 0.95

    /// What was measured for one kind and size.
    public struct Finding: Sendable {
        public var kind: CollectiveKind
        public var bytes: Int
        /// Median seconds.
        public var seconds: [(algorithm: Algorithm, seconds: Double)]
        public var standard: Algorithm
        public var chosen: Algorithm
    }

    public init() {}

    /// By every rank of `communicator`; the findings are rank 0's.
    public func run(_ bench: CollectivesBench, _ communicator: Communicator) throws -> [Finding] {
        var findings: [Finding] = []
        for kind in Self.kinds {
            for bytes in Self.sizes {
                findings.append(try measure(kind, bytes, bench, communicator))
            }
        }
        return findings
    }

    private func measure(_ kind: CollectiveKind, _ bytes: Int, _ bench: CollectivesBench,
                         _ communicator: Communicator) throws -> Finding {
        let ranks = communicator.worldSize
        let algorithms = Algorithm.allCases.filter { $0.serves(kind, groupSize: ranks) }
        let buffer = UnsafeMutableBufferPointer<Float>.allocate(capacity: bytes / 4)
        defer { unsafe buffer.deallocate() }
        unsafe buffer.update(repeating: 0)
        var times = [[Double]](repeating: [], count: algorithms.count)
        let rounds = bytes <= 1 << 16 ? 101 : (bytes <= 1 << 22 ? 31 : 9)
        for round in 0..<(rounds + 2) {
            for (place, algorithm) in algorithms.enumerated() {
                var one = bench
                one.kind = kind
                one.algorithm = algorithm
                try communicator.barrier()
                let begin = MonotonicClock.seconds()
                try unsafe one.perform(on: buffer, from: UnsafeBufferPointer(start: nil, count: 0), communicator)
                // The slowest rank's time: a root's own part may end early.
                try communicator.barrier()
                if round >= 2 { times[place].append(MonotonicClock.seconds() - begin) }
            }
        }
        let medians = times.map { $0.sorted()[$0.count / 2] }
        let standard = Choice().algorithm(for: kind, bytes: bytes, groupSize: ranks)
        let usual = medians[algorithms.firstIndex(of: standard) ?? 0]
        let best = medians.indices.min { medians[$0] < medians[$1] } ?? 0
        return Finding(kind: kind, bytes: bytes, seconds: Array(zip(algorithms, medians)), standard: standard,
                       chosen: medians[best] < Self.margin * usual ? algorithms[best] : standard)
    }

    /// The table: for each kind, sizes up to twice the measured one, the last for all above.
    public static func table(_ findings: [Finding], ranks: Int) -> Choice {
        var rules: [Choice.Rule] = []
        for (place, finding) in findings.enumerated() {
            let isLast = place + 1 == findings.count || findings[place + 1].kind != finding.kind
            let rule = Choice.Rule(finding.kind, upTo: isLast ? .max : 2 * finding.bytes, ranks: ranks...ranks,
                                   finding.chosen)
            if let last = rules.last, last.kind == rule.kind, last.algorithm == rule.algorithm {
                rules[rules.count - 1] = rule
            } else {
                rules.append(rule)
            }
        }
        return Choice(rules: rules)
    }
}
