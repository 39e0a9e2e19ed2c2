import Base
import Checkpoint
import Foundation

private struct TensorLine: Encodable {
    let tensor: String
    let dtype: String
    /// The tensor that has its scales, where it is stored as codes.
    let scales: String?
    let shape: [Int]
    let bytes: Int
    let count: Int
    let min: Double?
    let max: Double?
    let mean: Double?
    let rms: Double?
    let std: Double?
    let zeros: Int
    let non_finite: Int
    let histogram: [Int]?
}

/// A line for each tensor that `pattern` matches: range, mean, and how its values are spread.
func showTensors(_ archive: TensorArchive, matching pattern: String, json: Bool) throws {
    let tensors = try archive.tensors(matching: pattern), reader = archive.reader()
    var rows = [["tensor", "shape", "dtype", "bytes", "min", "max", "mean", "rms", "zeros", "non-finite", "histogram"]]
    for tensor in tensors {
        let (statistics, histogram) = try archive.statistics(of: tensor, with: reader)
        let scales = try archive.scales(of: tensor, with: reader)
        if json {
            printJSON(line(tensor, scales, statistics, histogram))
            continue
        }
        let type = tensor.dtype.rawValue + (scales == nil ? "" : ", scaled")
        rows.append([tensor.name, shapeText(tensor.shape), type, Units.grouped(tensor.byteCount),
                     short(statistics.minimum), short(statistics.maximum), short(statistics.mean),
                     short(statistics.rootMeanSquare), zeros(statistics), Units.grouped(statistics.nonFinite),
                     histogram?.text ?? ""])
    }
    if json { return }
    let (count, bytes) = (tensors.reduce(0) { $0 + $1.count }, tensors.reduce(0) { $0 + $1.byteCount })
    print("\(archive.path): \(Units.grouped(tensors.count)) tensors, \(Units.grouped(count)) values, "
        + Units.bytes(bytes))
    printAligned(rows, left: [0, 1, 2, 10])
}

private func line(_ tensor: StoredTensor, _ scales: TensorScales?, _ statistics: TensorStatistics,
                  _ histogram: Histogram?) -> TensorLine {
    TensorLine(tensor: tensor.name, dtype: tensor.dtype.rawValue, scales: scales?.name, shape: tensor.shape,
               bytes: tensor.byteCount, count: statistics.count, min: statistics.minimum, max: statistics.maximum,
               mean: statistics.mean, rms: statistics.rootMeanSquare, std: statistics.standardDeviation,
               zeros: statistics.zeros, non_finite: statistics.nonFinite, histogram: histogram?.counts)
}

private func zeros(_ statistics: TensorStatistics) -> String {
    let share = Double(statistics.zeros) / Double(max(statistics.count, 1))
    return statistics.zeros == 0 ? "0" : Units.fixed(share * 100, 1) + "%"
}

/// One tensor: what it is and a larger histogram, or the values of a part of it.
func showTensor(_ archive: TensorArchive, _ name: String, slice: String?, json: Bool) throws {
    let tensor = try archive.tensor(name)
    if let slice { return try showValues(archive, tensor, slice, json: json) }
    let reader = archive.reader(), scales = try archive.scales(of: tensor, with: reader)
    let (statistics, histogram) = try archive.statistics(of: tensor, parts: 24, with: reader)
    if json { return printJSON(line(tensor, scales, statistics, histogram)) }
    print("tensor      \(tensor.name)")
    print("what        \(tensor.dtype.rawValue) \(shapeText(tensor.shape)), \(Units.grouped(tensor.count)) values, "
        + Units.bytes(tensor.byteCount))
    if let scales { print("scales      \(scales.name): values below are those that its codes stand for") }
    for slice in tensor.slices {
        let end = slice.first + slice.byteCount / tensor.dtype.width
        print("stored      elements \(slice.first) to \(end) in \(slice.file), bytes \(slice.begin) to \(slice.end)")
    }
    print("range       \(short(statistics.minimum)) to \(short(statistics.maximum))")
    print("mean        \(short(statistics.mean)), standard deviation \(short(statistics.standardDeviation)), "
        + "rms \(short(statistics.rootMeanSquare))")
    print("zeros       \(zeros(statistics)); not finite \(Units.grouped(statistics.nonFinite))")
    guard let histogram else { return }
    print("")
    let width = (histogram.range.upperBound / 2 - histogram.range.lowerBound / 2) / Double(histogram.counts.count) * 2
    let most = max(histogram.counts.max() ?? 1, 1)
    let rows = histogram.counts.enumerated().map { index, count in
        [short(histogram.range.lowerBound + width * Double(index)), Units.grouped(count),
         String(repeating: "█", count: (count * 50 + most - 1) / most)]
    }
    printAligned(rows, left: [2])
}

private struct SliceLine: Encodable {
    let tensor: String
    let dtype: String
    let shape: [Int]
    let values: [Double]
}

/// More than anybody reads, and far less than would hurt.
private let mostValues = 1 << 20

private func showValues(_ archive: TensorArchive, _ tensor: StoredTensor, _ text: String, json: Bool) throws {
    let part = try SliceExpression(text, of: tensor.shape)
    guard part.count <= mostValues else {
        throw BadInput("--slice \(text) is \(Units.grouped(part.count)) values; ask for at most "
            + Units.grouped(mostValues))
    }
    let values = try archive.values(of: tensor, part, with: archive.reader())
    if json {
        return printJSON(SliceLine(tensor: tensor.name, dtype: tensor.dtype.rawValue, shape: part.ranges.map(\.count),
                                   values: values))
    }
    print("\(tensor.name)[\(part.ranges.map { "\($0.lowerBound):\($0.upperBound)" }.joined(separator: ", "))], "
        + tensor.dtype.rawValue)
    let width = part.ranges.last?.count ?? 1
    guard width > 0 else { return }
    let rows = stride(from: 0, to: values.count, by: width).map { start in
        values[start..<(start + width)].map { digits(of: $0, tensor.dtype) }
    }
    if !rows.isEmpty { printAligned(rows, left: []) }
}

/// The shortest digits that are this value and no other of its type; of an integer all of them.
private func digits(of value: Double, _ type: ElementType) -> String {
    if !type.isFloat { return String(format: "%.0f", value) }
    return type == .float64 ? "\(value)" : "\(Float(value))"
}
