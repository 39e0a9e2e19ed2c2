import CKernels

/// The scales of one tensor's elements, on a grid: one for all, one for each row or column, or one for each block.
///
/// An element stands for Q(x * factor) * inverse * tensorInverse, where Q rounds to the format; tensorInverse is 1
/// but for scales in two levels (`measureTwoLevels`). Owns no memory.
public struct Scales: Sendable {
    public let granularity: Granularity
    /// The tensor's shape.
    public let rows: Int
    public let columns: Int
    let gridRows: Int
    let gridColumns: Int
    let block: (rows: Int, columns: Int)
    /// What elements are multiplied by, [gridRows, gridColumns].
    let factors: Matrix
    /// What brings them back. Exact for powers of two.
    let inverses: Matrix
    private let tensor: Row
    /// Whether an element with its inverse folded in is a bf16 number: powers of two, or two levels.
    public let isFoldable: Bool

    private static func grid(_ granularity: Granularity, _ rows: Int, _ columns: Int) -> (Int, Int) {
        let block = granularity.block(in: rows, columns)
        // A tensor of nothing has a scale too, which nobody asks for twice.
        return (max((rows + block.rows - 1) / block.rows, 1), max((columns + block.columns - 1) / block.columns, 1))
    }

    /// What the scales of a tensor take of an arena.
    public static func floats(_ granularity: Granularity, rows: Int, columns: Int) -> Int {
        let (gridRows, gridColumns) = grid(granularity, rows, columns)
        return 2 * Arena.padded(gridRows * gridColumns) + Arena.padded(1)
    }

    /// All scales are 1. Uses the first `floats` of `memory`. `foldable`: only powers of two will be set. `keeping`:
    /// scales of such a tensor lie there already, and stay.
    public init(_ granularity: Granularity, rows: Int, columns: Int, foldable: Bool, memory: Row,
                keeping: Bool = false) {
        self.granularity = granularity
        self.rows = rows
        self.columns = columns
        block = granularity.block(in: rows, columns)
        precondition(block.rows > 0 && block.columns > 0, "a block has rows and columns")
        (gridRows, gridColumns) = Self.grid(granularity, rows, columns)
        let count = gridRows * gridColumns, padded = Arena.padded(count)
        factors = Matrix(memory.slice(0, count), rows: gridRows, columns: gridColumns)
        inverses = Matrix(memory.slice(padded, count), rows: gridRows, columns: gridColumns)
        tensor = memory.slice(2 * padded, 1)
        isFoldable = foldable
        guard !keeping else { return }
        factors.fill(1)
        inverses.fill(1)
        tensor[0] = 1
    }

    public var tensorInverse: Float { tensor[0] }

    /// The scale of every element. Nil leaves them as they were (`ScaleRule.factor`).
    public func set(_ factor: Float?) {
        guard let factor else { return }
        factors.fill(factor)
        inverses.fill(1 / factor)
        tensor[0] = 1
    }

    /// The scales that x itself asks for ("current scaling"). Blocks of zeros, or with something infinite, get 1.
    public func measure(_ x: Matrix, _ rule: ScaleRule, format: NumberFormat) {
        for gridRow in 0..<gridRows { measure(x, gridRow: gridRow, rule, format: format) }
    }

    /// The same for some blocks of one row of blocks alone: work that threads can share.
    public func measure(_ x: Matrix, gridRow: Int, blocks: Range<Int>? = nil, _ rule: ScaleRule,
                        format: NumberFormat) {
        precondition(rule.isPowerOfTwo || !isFoldable, "free scales where powers of two were promised")
        let blocks = blocks ?? 0..<gridColumns, largest = format.largest
        largestMagnitudes(x, gridRow, blocks)
        let factors = factors.row(gridRow), inverses = inverses.row(gridRow)
        for index in blocks {
            let factor = rule.factor(amax: factors[index], largest: largest) ?? 1
            factors[index] = factor
            inverses[index] = 1 / factor
        }
    }

    /// NVFP4's scales (NVIDIA, "Pretraining Large Language Models with NVFP4", 2509.25149): a block's is an E4M3
    /// number, and one fp32 number for the tensor brings the largest of those to E4M3's largest. A block so small that
    /// its scale would be zero becomes zeros.
    public func measureTwoLevels(_ x: Matrix, format: NumberFormat) {
        let amax = largestMagnitude(x)
        for gridRow in 0..<gridRows { measureTwoLevels(x, gridRow: gridRow, amax: amax, format: format) }
    }

    /// The same for one row of blocks. `amax`: the whole tensor's largest magnitude.
    public func measureTwoLevels(_ x: Matrix, gridRow: Int, amax: Float, format: NumberFormat) {
        precondition(isFoldable, "two levels of scales where free ones were promised")
        let stored = NumberFormat.e4m3
        let wanted = amax > 0 && amax.isFinite ? stored.largest * format.largest / amax : 1
        let scale = min(max(wanted, 0x1p-62), 0x1p62), share = scale / format.largest
        if gridRow == 0 { tensor[0] = 1 / scale }
        largestMagnitudes(x, gridRow, 0..<gridColumns)
        // A block with something infinite has the largest scale, and that shows; one with a NaN has NaN.
        let factors = factors.row(gridRow), inverses = inverses.row(gridRow)
        for index in 0..<gridColumns { inverses[index] = factors[index] * share }
        stored.round(inverses)
        for index in 0..<gridColumns { factors[index] = inverses[index] == 0 ? 0 : scale / inverses[index] }
    }

    /// Leaves the largest magnitude of each of some blocks of a row of blocks in `factors`.
    private func largestMagnitudes(_ x: Matrix, _ gridRow: Int, _ blocks: Range<Int>) {
        precondition(x.rows == rows && x.columns == columns, "scales of another tensor")
        guard !blocks.isEmpty else { return }
        let start = blocks.lowerBound * block.columns, end = min(blocks.upperBound * block.columns, columns)
        let out = factors.row(gridRow).slice(blocks.lowerBound, blocks.count), first = gridRow * block.rows
        out.fill(0)
        for row in first..<min(first + block.rows, rows) {
            let elements = x.row(row).slice(start, end - start)
            if block.columns == 1 {
                unsafe skein_larger_magnitudes(elements.count, elements.pointer, out.pointer)
                continue
            }
            for index in 0..<out.count {
                let place = index * block.columns
                let part = elements.slice(place, min(block.columns, elements.count - place))
                out[index] = largerMagnitude(out[index], largestMagnitude(part))
            }
        }
    }

    /// Multiplies values in the format's units, elements (row, column) and after, by their inverse scales.
    func bringBack(_ values: Row, row: Int, column: Int) {
        let inverses = inverses.row(row / block.rows), whole = tensorInverse
        if block.columns == 1 {
            let own = inverses.slice(column, values.count)
            for i in laneStarts(values.count) { values[lanes: i] = values[lanes: i] * own[lanes: i] * whole }
            return
        }
        var start = 0
        while start < values.count {
            let index = (column + start) / block.columns
            let part = values.slice(start, min((index + 1) * block.columns - column, values.count) - start)
            let inverse = inverses[index]
            for i in laneStarts(part.count) { part[lanes: i] = part[lanes: i] * inverse * whole }
            start += part.count
        }
    }

    /// What element (row, column) is multiplied by, and what brings it back.
    public func factor(row: Int, column: Int) -> Float { factors.row(row / block.rows)[column / block.columns] }
    public func inverse(row: Int, column: Int) -> Float { inverses.row(row / block.rows)[column / block.columns] }
}

/// The larger of two magnitudes, where infinities and not-a-numbers are larger than anything.
package func largerMagnitude(_ a: Float, _ b: Float) -> Float { a.bitPattern > b.bitPattern ? a : b }

/// The largest magnitude of a row: infinite or not a number where one is. No order, so tiles may be taken in any.
public func largestMagnitude(_ x: Row) -> Float { unsafe skein_largest_magnitude(x.count, x.pointer) }

/// out = the larger of its magnitude and that of x, element by element, likewise.
public func largerMagnitudes(_ out: Row, _ x: Row) {
    precondition(out.count == x.count, "largerMagnitudes: rows of different length")
    unsafe skein_larger_magnitudes(x.count, x.pointer, out.pointer)
}

/// The largest magnitude of a matrix, likewise.
public func largestMagnitude(_ x: Matrix) -> Float {
    var largest: Float = 0
    for index in 0..<x.rows { largest = largerMagnitude(largest, largestMagnitude(x.row(index))) }
    return largest
}
