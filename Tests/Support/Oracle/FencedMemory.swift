import Tensor

/// Memory for kernels under test. Each matrix is a window in a wider one, and all around it is a fence of one
/// particular not-a-number: a kernel that reads outside its rows spoils its result, and one that writes there
/// is found by `isIntact`. The window itself begins as not-a-number too, unless values are given.
///
/// Rows do not keep the memory alive. `defer { #expect(memory.isIntact) }` at a test's head does, and looks at
/// the fences.
package final class FencedMemory {
    @safe private struct Field {
        let base: UnsafeMutableBufferPointer<Float>
        let rows, columns, stride, first: Int
    }

    private var fields: [Field] = []
    private static let fence = Float(bitPattern: 0x7FC0_BEEF)
    private static let margin = 37

    package init() {}

    deinit { for field in fields { unsafe field.base.deallocate() } }

    /// rows x columns; `gap` floats of fence between one row and the next.
    package func matrix(_ rows: Int, _ columns: Int, gap: Int = 0) -> Matrix {
        let stride = columns + gap
        let wide = UnsafeMutableBufferPointer<Float>.allocate(capacity: rows * stride + 2 * Self.margin)
        unsafe wide.initialize(repeating: Self.fence)
        unsafe fields.append(Field(base: wide, rows: rows, columns: columns, stride: stride, first: Self.margin))
        let all = unsafe Row(wide.baseAddress! + Self.margin, count: rows * stride)
        let window = Matrix(all, rows: rows, columns: stride).columns(0, columns)
        window.fill(.nan)
        return window
    }

    package func matrix(_ values: [Float], _ rows: Int, _ columns: Int, gap: Int = 0) -> Matrix {
        let made = matrix(rows, columns, gap: gap)
        made.set(values)
        return made
    }

    package func row(_ count: Int) -> Row { matrix(1, count).row(0) }
    package func row(_ values: [Float]) -> Row { matrix(values, 1, values.count).row(0) }

    /// Whether nothing was written outside the windows.
    package var isIntact: Bool {
        fields.allSatisfy { field in
            unsafe field.base.indices.allSatisfy { index in
                let (row, column) = (index - field.first).quotientAndRemainder(dividingBy: max(field.stride, 1))
                let inside = index >= field.first && row < field.rows && column < field.columns
                return unsafe inside || field.base[index].bitPattern == Self.fence.bitPattern
            }
        }
    }
}

extension Matrix {
    package func set(_ values: [Float]) {
        precondition(values.count == rows * columns, "\(values.count) values for \(rows) x \(columns)")
        for index in 0..<rows { row(index).copy(Array(values[(index * columns)..<((index + 1) * columns)])) }
    }

    /// The values, row by row, without the gaps.
    package var values: [Float] { (0..<rows).flatMap { row($0).array } }
}

/// Token ids in memory that is never given back: tests are short.
package func targets(_ ids: [Int]) -> Targets {
    let base = UnsafeMutablePointer<Int32>.allocate(capacity: max(ids.count, 1))
    for (index, id) in ids.enumerated() { unsafe base[index] = Int32(id) }
    return unsafe Targets(base, count: ids.count)
}
