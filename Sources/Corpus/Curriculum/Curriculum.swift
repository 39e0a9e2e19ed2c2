import Base

/// In which order the buckets of a decomposition are read: Algorithm 1 of 2405.13226. An epoch is `cycles`
/// parts of equal size. Within a part, each step draws its bucket with probability in proportion to the
/// odds of the buckets that still have rows in it. So lengths grow, where odds favour short ones, because
/// short buckets run out first.
public struct Curriculum: Sendable, Equatable {
    public enum Odds: Sendable, Equatable {
        case uniform
        case growLinear, growP2, growP100, shrinkP100
        /// In proportion to what the buckets hold: the mixture stays the same from begin to end.
        case natural
        /// One number for each bucket, the shortest first.
        case free([Double])
    }

    public var odds: Odds
    public var cycles: Int

    public init(_ odds: Odds, cycles: Int = 1) {
        precondition(cycles > 0, "a curriculum has at least one cycle")
        self.odds = odds
        self.cycles = cycles
    }

    /// The weight of bucket `index` of `count`, which holds so many steps. The paper's odds are for buckets
    /// of equal size; as in the authors' code they are multiplied by the size, except for `uniform`.
    package func weight(_ index: Int, of count: Int, steps: Double) -> Double {
        switch odds {
        case .uniform: return 1
        case .growLinear: return Double(count - index) * steps
        case .growP2: return power(2, count - 1 - index) * steps
        case .growP100: return power(100, count - 1 - index) * steps
        case .shrinkP100: return power(100, index) * steps
        case .natural: return steps
        case .free(let numbers): return numbers[index] * steps
        }
    }

    private func power(_ base: Double, _ exponent: Int) -> Double {
        var product = 1.0
        for _ in 0..<exponent { product *= base }
        return product
    }
}

/// Where a run is in its data: all that a checkpoint has to keep, in 64 bytes. It counts the rows taken
/// from each bucket, so odds, cycles and the size of steps may change in the middle of a run without
/// repeating a row or losing one, and it does not know how many ranks there are.
public struct DataPosition: Sendable, Equatable {
    /// The most buckets that fit.
    public static let mostBuckets = 11

    /// Of the data that the counts are of.
    public let fingerprint: UInt32
    public let seed: UInt64
    /// Steps taken.
    public internal(set) var step: UInt64 = 0
    /// Rows taken from each bucket since the run began.
    public internal(set) var rows = [UInt32](repeating: 0, count: mostBuckets)

    public init(fingerprint: UInt32, seed: UInt64) {
        self.fingerprint = fingerprint
        self.seed = seed
    }

    /// 64 bytes, little-endian: fingerprint, seed, step, eleven counts.
    public var bytes: [UInt8] {
        var writer = ByteWriter(capacity: 64)
        writer.append(fingerprint)
        writer.append(seed)
        writer.append(step)
        for count in rows { writer.append(count) }
        return writer.bytes
    }

    /// Reads what `bytes` wrote. Throws when it is not 64 bytes.
    public init(bytes: [UInt8]) throws(BadInput) {
        var reader = ByteReader(bytes)
        guard bytes.count == 64, let fingerprint = reader.read(UInt32.self),
              let seed = reader.read(UInt64.self), let step = reader.read(UInt64.self) else {
            throw BadInput("a data position of \(bytes.count) bytes: it has 64; the checkpoint is damaged")
        }
        // Each step takes a row, and rows are counted in 32 bits.
        guard step <= UInt32.max else {
            throw BadInput("a data position at step \(step), beyond all that can be trained; the checkpoint is damaged")
        }
        self.init(fingerprint: fingerprint, seed: seed)
        self.step = step
        for index in rows.indices { rows[index] = reader.read() ?? 0 }
    }
}

/// The rows of one step: `rows` of bucket `bucket`, numbered over the whole run, `sequence` inputs each. A
/// rank fills its part of `rows`.
public struct StepRows: Sendable, Equatable {
    public var bucket: Int
    public var sequence: Int
    public var rows: Range<Int>
}

extension DataPosition {
    /// The next step's rows, with the position moved behind them. `tables` are the buckets, the shortest
    /// first; a step takes `tokens` inputs, a multiple of every length.
    package mutating func next(_ tables: [RowTable], tokens: Int, _ curriculum: Curriculum) -> StepRows {
        next(tables.count, tokens: tokens, curriculum, count: { tables[$0].count },
             sequence: { tables[$0].sequence }, before: { _ in 0 })
    }

    /// The same for buckets that hold `count` rows of `sequence` inputs each, reckoned from where `before` rows had
    /// been taken.
    ///
    /// Bucket i has given floor(m rows / cycles) rows at the end of part m, counted over all epochs; what
    /// does not fill a step is carried into the next part. So in the long run every bucket is read at the
    /// same rate, and each of its own epochs takes each of its rows once.
    mutating func next(_ buckets: Int, tokens: Int, _ curriculum: Curriculum, count: (Int) -> Int,
                       sequence: (Int) -> Int, before: (Int) -> Int) -> StepRows {
        precondition(buckets <= Self.mostBuckets, "more buckets than a position counts")
        // The part that a bucket's next step ends in; the run is in the earliest of them, and the buckets
        // whose step ends there still have rows in it.
        func part(_ index: Int) -> Int {
            guard count(index) > 0 else { return Int.max }
            let after = Int(rows[index]) - before(index) + tokens / sequence(index)
            return (after * curriculum.cycles + count(index) - 1) / count(index)
        }
        // A resumed run may go through many steps, so each bucket's part is reckoned once.
        var parts = InlineArray<11, Int>(repeating: .max), current = Int.max
        for index in 0..<buckets {
            parts[index] = part(index)
            current = min(current, parts[index])
        }
        precondition(current < Int.max, "there are no rows")
        func weight(_ index: Int) -> Double {
            let steps = Double(count(index)) * Double(sequence(index)) / Double(tokens)
            return parts[index] == current ? curriculum.weight(index, of: buckets, steps: steps) : 0
        }
        var sum = 0.0
        for index in 0..<buckets { sum += weight(index) }
        // Where all open buckets have odds of zero, the shortest of them goes on.
        var rest = CounterRNG(seed: seed, stream: bucketStream).uniform(at: step) * sum, chosen = -1
        for index in 0..<buckets where chosen < 0 || rest >= 0 {
            guard parts[index] == current, sum == 0 ? chosen < 0 : weight(index) > 0 else { continue }
            chosen = index
            rest -= weight(index)
        }
        let begin = Int(rows[chosen]), taken = tokens / sequence(chosen)
        rows[chosen] += UInt32(taken)
        step += 1
        return StepRows(bucket: chosen, sequence: sequence(chosen), rows: begin..<(begin + taken))
    }
}

/// "buckets", for the draws of Algorithm 1.
private let bucketStream: UInt64 = 0x6275_636B_0000_0000
