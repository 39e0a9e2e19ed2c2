import CKernels

/// C = A B (+ C), or A^T B, on small matrices in cache; see CKernels.h for the contract of one element's sum.
@inline(__always)
package func tileGemm(_ c: Matrix, _ a: Matrix, transposed: Bool = false, _ b: Matrix, accumulate: Bool) {
    let depth = transposed ? a.rows : a.columns
    assert((transposed ? a.columns : a.rows) == c.rows && b.rows == depth && b.columns == c.columns)
    unsafe skein_tile_gemm(c.rows, c.columns, depth,
                           a.all.pointer, transposed ? 1 : a.stride, transposed ? a.stride : 1,
                           b.all.pointer, b.stride, c.all.pointer, c.stride, accumulate ? 1 : 0)
}

/// out = x^T, where out has at least as many columns as x has rows; the columns beyond are set to zero.
package func transpose(_ out: Matrix, _ x: Matrix) {
    precondition(out.rows == x.columns && out.columns >= x.rows, "transpose: shapes differ")
    unsafe skein_transpose(x.rows, x.columns, x.all.pointer, x.stride, out.all.pointer, out.stride)
    guard out.columns > x.rows else { return }
    for row in 0..<out.rows { out.row(row).slice(x.rows, out.columns - x.rows).fill(0) }
}

/// out = x * factor, for narrow blocks of wide rows. The two do not overlap.
func scaleRows(_ out: Matrix, _ x: Matrix, by factor: Float) {
    precondition(out.rows == x.rows && out.columns == x.columns, "scaleRows: shapes differ")
    unsafe skein_scale_rows(x.rows, x.columns, x.all.pointer, x.stride, out.all.pointer, out.stride, factor)
}

/// copy = x, and dots[i] = x[i] . y[i], the sum of sixteen chains as `dot` has it, in one pass.
func copyWithDots(_ copy: Matrix, _ dots: Row, _ x: Matrix, _ y: Matrix) {
    precondition(copy.rows == x.rows && copy.columns == x.columns && y.rows == x.rows && y.columns == x.columns
        && dots.count == x.rows, "copyWithDots: shapes differ")
    unsafe skein_copy_with_dots(x.rows, x.columns, x.all.pointer, x.stride, y.all.pointer, y.stride,
                                copy.all.pointer, copy.stride, dots.pointer)
}

/// Fetches the block of queries that begins at `start`, as far as there is one, while another is computed on.
func prefetch(_ x: Matrix, block start: Int) {
    guard start < x.rows else { return }
    let next = x.rows(start, min(AttentionShape.queryBlock, x.rows - start))
    unsafe skein_prefetch_rows(next.rows, next.columns, next.all.pointer, next.stride)
}
