import Base

/// A part of a tensor as `--slice` has it, in the notation of NumPy without steps: "0:2,5" is the first two rows and of
/// each its sixth value, ":3" the first three rows, "-1" the last one. Dimensions that are not named are whole.
public struct SliceExpression: Equatable, Sendable {
    /// The part of each dimension.
    public let ranges: [Range<Int>]

    /// - Throws: one line that names the part that does not fit `shape`.
    public init(_ text: String, of shape: [Int]) throws(BadInput) {
        let parts = text.isEmpty ? [] : text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        guard parts.count <= shape.count else {
            throw BadInput("--slice \(text) has \(parts.count) parts, the tensor has \(shape.count) dimensions")
        }
        var ranges: [Range<Int>] = []
        for (index, size) in shape.enumerated() {
            guard index < parts.count else {
                ranges.append(0..<size)
                continue
            }
            ranges.append(try Self.range(parts[index].trimmed, size, dimension: index))
        }
        self.ranges = ranges
    }

    private static func range(_ part: String, _ size: Int, dimension: Int) throws(BadInput) -> Range<Int> {
        let ends = part.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        func place(_ text: String, _ standard: Int?) -> Int? {
            if text.isEmpty { return standard }
            guard let number = Int(text) else { return nil }
            return number < 0 ? (number >= -size ? number + size : nil) : number
        }
        let begin = place(ends[0], ends.count == 2 ? 0 : nil)
        let end = ends.count == 2 ? place(ends[1], size) : begin.map { $0 + ($0 < .max ? 1 : 0) }
        guard ends.count <= 2, let begin, let end, begin <= end, end <= size else {
            throw BadInput("--slice: \"\(part)\" is no part of dimension \(dimension), which has \(size) elements; "
                + "write BEGIN:END, or one index")
        }
        return begin..<end
    }

    /// How many elements it is.
    public var count: Int { ranges.reduce(1) { $0 * $1.count } }

    /// The runs of neighbouring elements, in row-major order, that it is made of.
    public func runs(in shape: [Int]) -> [Range<Int>] {
        guard count > 0 else { return [] }
        var runs = [0..<1]
        for (range, size) in zip(ranges, shape) {
            // A whole dimension within a run makes it longer; a part of one cuts each of its elements' rows.
            runs = range == 0..<size
                ? runs.map { ($0.lowerBound * size)..<($0.upperBound * size) }
                : runs.flatMap { run in
                    run.map { ($0 * size + range.lowerBound)..<($0 * size + range.upperBound) }
                }
        }
        return runs
    }
}

private extension String {
    var trimmed: String {
        String(drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
    }
}
