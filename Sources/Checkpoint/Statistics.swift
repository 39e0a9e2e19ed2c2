import Base
import Storage

/// What `skein inspect` says about a tensor's values. Non-finite ones are counted and else left out.
public struct TensorStatistics: Equatable, Sendable {
    /// All elements.
    public private(set) var count = 0
    /// Not-a-number and infinities.
    public private(set) var nonFinite = 0
    /// Those that are 0, of either sign.
    public private(set) var zeros = 0
    /// Nil if there is no finite value; so are the mean, the standard deviation and the root mean square.
    public private(set) var minimum: Double?
    public private(set) var maximum: Double?

    public var mean: Double? { finite == 0 ? nil : center }
    /// Over the population: the square root of the mean square distance from the mean.
    public var standardDeviation: Double? { finite == 0 ? nil : (squares / Double(finite)).squareRoot() }
    public var rootMeanSquare: Double? {
        finite == 0 ? nil : (squares / Double(finite) + center * center).squareRoot()
    }

    private var finite: Int { count - nonFinite }
    private var center = 0.0
    /// The sum of squared distances from `center`.
    private var squares = 0.0

    package init() {}

    /// Takes in a block of values: its own mean and squares in two passes, then joined to what is there by
    /// the formula of Chan, Golub and LeVeque (1979). A sum of squares minus a square of sums would
    /// lose all digits where the mean is far from 0.
    package mutating func add(_ values: [Double]) {
        let before = Double(finite)
        var sum = 0.0, lowest = Double.infinity, highest = -Double.infinity, bad = 0, none = 0
        for value in values {
            guard value.isFinite else { bad += 1; continue }
            sum += value
            lowest = min(lowest, value)
            highest = max(highest, value)
            if value == 0 { none += 1 }
        }
        count += values.count
        nonFinite += bad
        zeros += none
        guard values.count > bad else { return }
        let added = Double(values.count - bad), average = sum / added
        var spread = 0.0
        for value in values where value.isFinite { spread += (value - average) * (value - average) }
        let gap = average - center, total = before + added
        center += gap * (added / total)
        squares += spread + gap * gap * (before * added / total)
        minimum = min(minimum ?? lowest, lowest)
        maximum = max(maximum ?? highest, highest)
    }
}

/// How many finite values lie in each of some equal parts of the range from the lowest to the highest.
public struct Histogram: Equatable, Sendable {
    public let range: ClosedRange<Double>
    public private(set) var counts: [Int]

    /// `parts` at least 1.
    package init(_ range: ClosedRange<Double>, parts: Int) {
        self.range = range
        counts = [Int](repeating: 0, count: parts)
    }

    package mutating func add(_ values: [Double]) {
        // By halves: the width of the widest range of doubles is no double.
        let low = range.lowerBound / 2, width = range.upperBound / 2 - low, parts = Double(counts.count)
        for value in values where value.isFinite {
            let place = width > 0 ? (value / 2 - low) / width * parts : 0
            counts[min(max(Int(place), 0), counts.count - 1)] += 1
        }
    }

    /// One character for each part, as high as its share of the largest; a blank where nothing is.
    public var text: String {
        let heights: [Character] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"], most = max(counts.max() ?? 0, 1)
        return String(counts.map { count in
            count == 0 ? " " : heights[min(count * heights.count / most, heights.count - 1)]
        })
    }
}

extension TensorArchive {
    /// Reads the tensor twice, in blocks, each checked on the way; the second time for the histogram, which is nil if
    /// there is no finite value. Of codes with scales, what they stand for.
    public func statistics(of tensor: StoredTensor, parts: Int = 16, with reader: TensorReader)
        throws(CheckpointError) -> (TensorStatistics, Histogram?) {
        var statistics = TensorStatistics()
        try forEachBlock(of: tensor, reader) { statistics.add($0) }
        guard let lowest = statistics.minimum, let highest = statistics.maximum else { return (statistics, nil) }
        var histogram = Histogram(lowest...highest, parts: parts)
        try forEachBlock(of: tensor, reader) { histogram.add($0) }
        return (statistics, histogram)
    }

    private func forEachBlock(of tensor: StoredTensor, _ reader: TensorReader, _ body: ([Double]) -> Void)
        throws(CheckpointError) {
        var values: [Double] = []
        if let scales = try scales(of: tensor, with: reader) {
            for first in stride(from: 0, to: tensor.count, by: blockSize / 8) {
                try reader.read(tensor, first..<min(first + blockSize / 8, tensor.count), into: &values)
                scales.apply(to: &values, first: first)
                body(values)
            }
            return
        }
        try unsafe reader.forEachPiece(of: tensor) { bytes in
            unsafe tensor.dtype.decode(bytes, into: &values)
            body(values)
        }
    }
}
