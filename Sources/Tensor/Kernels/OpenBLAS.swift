import COpenBLAS

/// OpenBLAS on one thread: the yardstick that `skein bench gemm` and the tests hold `Gemm` against. Training does not
/// call it.
public enum OpenBLAS {
    /// Set once before the first product. OpenBLAS keeps the setting for the process.
    private static let oneThread: Void = openblas_set_num_threads(1)

    /// The kernel family it chose for this CPU, for example "Cooperlake"; the environment variable
    /// `OPENBLAS_CORETYPE` overrides it.
    public static var coreName: String { unsafe String(cString: openblas_get_corename()) }

    /// C[m, n] = A[m, k] B[n, k]^T, as `Gemm.timesTransposed`.
    public static func timesTransposed(_ c: Matrix, _ a: Matrix, _ b: Matrix) {
        precondition(c.rows == a.rows && c.columns == b.rows && a.columns == b.columns, "OpenBLAS A B^T: shapes differ")
        guard c.rows > 0, c.columns > 0 else { return }
        _ = oneThread
        unsafe cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans,
                           blasint(c.rows), blasint(c.columns), blasint(a.columns), 1,
                           a.all.pointer, blasint(a.stride), b.all.pointer, blasint(b.stride),
                           0, c.all.pointer, blasint(c.stride))
    }
}
