/// `rows` x `columns` floats, row-major, `stride` floats from one row to the next (stride >= columns).
/// Owns nothing.
@safe public struct Matrix: Sendable {
    public let all: Row
    public let rows: Int
    public let columns: Int
    public let stride: Int

    /// The first rows x columns floats of `row`, densely packed.
    @inlinable public init(_ row: Row, rows: Int, columns: Int) {
        precondition(rows >= 0 && columns >= 0 && rows * columns <= row.count, "matrix outside its memory")
        self.init(row, rows: rows, columns: columns, stride: columns)
    }

    @inlinable init(_ row: Row, rows: Int, columns: Int, stride: Int) {
        self.all = row
        self.rows = rows
        self.columns = columns
        self.stride = stride
    }

    @inlinable public func row(_ index: Int) -> Row {
        precondition(index >= 0 && index < rows, "row outside the matrix")
        return all.slice(index * stride, columns)
    }

    /// `count` rows from `start` on.
    @inlinable public func rows(_ start: Int, _ count: Int) -> Matrix {
        precondition(start >= 0 && count >= 0 && start + count <= rows, "rows outside the matrix")
        let length = count == 0 ? 0 : (count - 1) * stride + columns
        return Matrix(all.slice(count == 0 ? 0 : start * stride, length), rows: count, columns: columns, stride: stride)
    }

    /// `count` columns from `start` on, all rows.
    @inlinable public func columns(_ start: Int, _ count: Int) -> Matrix {
        precondition(start >= 0 && count >= 0 && start + count <= columns, "columns outside the matrix")
        let length = rows == 0 ? 0 : (rows - 1) * stride + count
        return Matrix(all.slice(rows == 0 ? 0 : start, length), rows: rows, columns: count, stride: stride)
    }

    public func fill(_ value: Float) { for index in 0..<rows { row(index).fill(value) } }

    public func copy(_ other: Matrix) { for index in 0..<rows { row(index).copy(other.row(index)) } }
}
