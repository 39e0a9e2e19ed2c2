import CKernels
import COpenBLAS

/// Single-precision matrix products on OpenBLAS, which is told to use one thread: its own threading changes
/// bits with the number of threads. `Pool` cuts work into tiles instead, by shape alone.
public enum Gemm {
    /// Set once before the first product. OpenBLAS keeps the setting for the process.
    public static let oneThread: Void = openblas_set_num_threads(1)

    /// The kernel family OpenBLAS chose for this CPU, for example "Cooperlake". Speeds depend on it.
    public static var coreName: String { unsafe String(cString: openblas_get_corename()) }

    /// Rows of a token tile: large enough that packing the weights is a small part of the product.
    public static let tileRows = 512

    /// C[m, n] = A[m, k] B[n, k]^T + beta C: activations by weights stored [out, in].
    public static func timesTransposed(_ c: Matrix, _ a: Matrix, _ b: Matrix, accumulate: Bool = false) {
        precondition(c.rows == a.rows && c.columns == b.rows && a.columns == b.columns, "gemm A B^T: shapes differ")
        call(c, a, transposeA: false, b, transposeB: true, depth: a.columns, accumulate)
    }

    /// C[m, n] = A[m, k] B[k, n] + beta C: gradients back through weights stored [out, in].
    public static func times(_ c: Matrix, _ a: Matrix, _ b: Matrix, accumulate: Bool = false) {
        precondition(c.rows == a.rows && c.columns == b.columns && a.columns == b.rows, "gemm A B: shapes differ")
        call(c, a, transposeA: false, b, transposeB: false, depth: a.columns, accumulate)
    }

    /// C[m, n] = A[k, m]^T B[k, n] + beta C: a weight's gradient, summed over k tokens.
    public static func transposedTimes(_ c: Matrix, _ a: Matrix, _ b: Matrix, accumulate: Bool = true) {
        precondition(c.rows == a.columns && c.columns == b.columns && a.rows == b.rows, "gemm A^T B: shapes differ")
        call(c, a, transposeA: true, b, transposeB: false, depth: a.rows, accumulate)
    }

    private static func call(_ c: Matrix, _ a: Matrix, transposeA: Bool, _ b: Matrix, transposeB: Bool,
                             depth: Int, _ accumulate: Bool) {
        guard c.rows > 0, c.columns > 0 else { return }
        _ = oneThread
        unsafe cblas_sgemm(CblasRowMajor, transposeA ? CblasTrans : CblasNoTrans,
                           transposeB ? CblasTrans : CblasNoTrans,
                           blasint(c.rows), blasint(c.columns), blasint(depth), 1,
                           a.all.pointer, blasint(a.stride), b.all.pointer, blasint(b.stride),
                           accumulate ? 1 : 0, c.all.pointer, blasint(c.stride))
    }
}

/// The widest vector unit that this build was compiled to use: part of what a speed or a bit depends on.
public let compiledISA: String = {
    let features = skein_compiled_features
    if features & (1 << 8) != 0 { return "avx512_bf16" }
    if features & (1 << 4) != 0 { return "avx512" }
    if features & (1 << 2) != 0 { return "avx2" }
    #if arch(arm64)
    return "neon"
    #else
    return "sse2"
    #endif
}()

/// One bit for each CPU feature that this build may use; ranks compare it before they train together.
public var compiledFeatures: UInt32 { skein_compiled_features }
