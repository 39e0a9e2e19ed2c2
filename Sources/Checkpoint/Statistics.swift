import Base
import Storage

/// What `skein inspect` says about a tensor's values. Non-finite ones are counted and else left out.
public struct TensorStatistics: Equatable, Sendable {
    /// All elements.
    public private(set) var count = 0
    /// Not-a-number and infinities.
    public private(set) var nonFinite = 0
    /// Nil if there is no finite value; so are the mean and the standard deviation.
    public private(set) var minimum: Double?
    public private(set) var maximum: Double?

    public var mean: Double? { finite == 0 ? nil : center }
    /// Over the population: the square root of the mean square distance from the mean.
    public var standardDeviation: Double? { finite == 0 ? nil : (squares / Double(finite)).squareRoot() }

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
        var sum = 0.0, lowest = Double.infinity, highest = -Double.infinity, bad = 0
        for value in values {
            guard value.isFinite else { bad += 1; continue }
            sum += value
            lowest = min(lowest, value)
            highest = max(highest, value)
        }
        count += values.count
        nonFinite += bad
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

extension Checkpoint {
    /// Reads the tensor once, in blocks, checking its CRC-32C on the way.
    public func statistics(of name: String) throws(CheckpointError) -> TensorStatistics {
        guard let entry = manifest.tensors.first(where: { $0.name == name }) else {
            let near = nearestName(to: name, in: manifest.tensors.map(\.name))
            throw .notFound("\(path) has no tensor \(name)" + (near.map { "; did you mean \($0)?" } ?? ""))
        }
        var statistics = TensorStatistics(), crc: UInt32 = 0, values: [Double] = []
        let path = joined(self.path, entry.file)
        try onDisk { () throws(DiskError) in
            try unsafe forEachBlock(of: path, entry.begin..<entry.end, disk) { block, _ in
                crc = unsafe CRC32C.checksum(block, from: crc)
                unsafe entry.dtype.decode(block, into: &values)
                statistics.add(values)
            }
        }
        if let damage = entry.damage(path, found: crc) { throw .damaged([damage]) }
        return statistics
    }
}
