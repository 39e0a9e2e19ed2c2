import COpenBLAS

/// OpenBLAS on the calling thread: the yardstick that `skein bench gemm` and the tests hold `Gemm` against, and what
/// computes the linear layers where a recipe says so. The shapes are those of `Gemm`'s functions of the same names.
///
/// How it adds depends on its kernel for this CPU (`coreName`), on the library's version and on the product's shape:
/// results are those of `Gemm` up to rounding, and the same from run to run on one machine alone.
public enum OpenBLAS {
    /// Set once before the first product. OpenBLAS keeps the setting for the process: threads are the pool's matter.
    private static let oneThread: Void = openblas_set_num_threads(1)

    /// The kernel family it chose for this CPU, for example "Cooperlake"; the environment variable
    /// `OPENBLAS_CORETYPE` overrides it.
    public static var coreName: String { unsafe String(cString: openblas_get_corename()) }

    /// What its bits depend on: library, version and kernel family, for example "OpenBLAS 0.3.21 for Zen".
    public static var arithmetic: String {
        let words = unsafe String(cString: openblas_get_config()).split(separator: " ").prefix(2)
        return "\(words.joined(separator: " ")) for \(coreName)"
    }

    /// C[m, n] = A[m, k] B[n, k]^T + beta C.
    public static func timesTransposed(_ c: Matrix, _ a: Matrix, _ b: Matrix, accumulate: Bool = false) {
        precondition(c.rows == a.rows && c.columns == b.rows && a.columns == b.columns, "OpenBLAS A B^T: shapes differ")
        call(c, a, CblasNoTrans, b, CblasTrans, depth: a.columns, accumulate)
    }

    /// C[m, n] = A[m, k] B[k, n] + beta C.
    public static func times(_ c: Matrix, _ a: Matrix, _ b: Matrix, accumulate: Bool = false) {
        precondition(c.rows == a.rows && c.columns == b.columns && a.columns == b.rows, "OpenBLAS A B: shapes differ")
        call(c, a, CblasNoTrans, b, CblasNoTrans, depth: a.columns, accumulate)
    }

    /// C[m, n] = A[k, m]^T B[k, n] + beta C.
    public static func transposedTimes(_ c: Matrix, _ a: Matrix, _ b: Matrix, accumulate: Bool = true) {
        precondition(c.rows == a.columns && c.columns == b.columns && a.rows == b.rows, "OpenBLAS A^T B: shapes differ")
        call(c, a, CblasTrans, b, CblasNoTrans, depth: a.rows, accumulate)
    }

    private static func call(_ c: Matrix, _ a: Matrix, _ turnA: CBLAS_TRANSPOSE, _ b: Matrix,
                             _ turnB: CBLAS_TRANSPOSE, depth: Int, _ accumulate: Bool) {
        guard c.rows > 0, c.columns > 0 else { return }
        _ = oneThread
        // A leading dimension has to be at least 1, also of what has no columns.
        unsafe cblas_sgemm(CblasRowMajor, turnA, turnB, blasint(c.rows), blasint(c.columns), blasint(depth), 1,
                           a.all.pointer, blasint(max(a.stride, 1)), b.all.pointer, blasint(max(b.stride, 1)),
                           accumulate ? 1 : 0, c.all.pointer, blasint(c.stride))
    }
}
