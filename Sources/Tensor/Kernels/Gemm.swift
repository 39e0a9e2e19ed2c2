import CKernels

/// Single-precision matrix products on the calling thread; `Pool` cuts work into tiles, by shape alone.
///
/// Each element of C is one chain of fused multiply-adds over the depth in ascending order, starting from 0 or from
/// what C holds. So its bits depend on its own row of A and column of B (and on C, when adding) and on nothing else:
/// not on the matrix it lies in, on where work is cut, or on which vector unit the build uses.
///
/// C overlaps neither A nor B. Where it is not added to, it is not read.
public enum Gemm {
    /// A product packs its operands into at most this much of the caller's stack.
    static let stackBytes = 384 << 10

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

    /// C[m, n] = A[m, k] B + beta C, with B[k, n] as it was packed: the same bits as without packing.
    public static func times(_ c: Matrix, _ a: Matrix, _ b: PackedMatrix, accumulate: Bool = false) {
        precondition(c.rows == a.rows && c.columns == b.columns && a.columns == b.rows, "gemm A B: shapes differ")
        call(c, a, transposeA: false, b, accumulate)
    }

    /// C[m, n] = A[k, m]^T B + beta C, with B[k, n] as it was packed.
    public static func transposedTimes(_ c: Matrix, _ a: Matrix, _ b: PackedMatrix, accumulate: Bool = true) {
        precondition(c.rows == a.columns && c.columns == b.columns && a.rows == b.rows, "gemm A^T B: shapes differ")
        call(c, a, transposeA: true, b, accumulate)
    }

    private static func call(_ c: Matrix, _ a: Matrix, transposeA: Bool, _ b: PackedMatrix, _ accumulate: Bool) {
        guard c.rows > 0, c.columns > 0 else { return }
        unsafe skein_gemm_packed(c.rows, c.columns, b.rows, a.all.pointer, a.stride, transposeA ? 1 : 0,
                                 b.memory.pointer, c.all.pointer, c.stride, accumulate ? 1 : 0)
    }

    private static func call(_ c: Matrix, _ a: Matrix, transposeA: Bool, _ b: Matrix, transposeB: Bool,
                             depth: Int, _ accumulate: Bool) {
        guard c.rows > 0, c.columns > 0 else { return }
        unsafe skein_gemm(c.rows, c.columns, depth, a.all.pointer, a.stride, transposeA ? 1 : 0,
                          b.all.pointer, b.stride, transposeB ? 1 : 0, c.all.pointer, c.stride, accumulate ? 1 : 0)
    }
}

/// The vector unit that kernels use: part of what a speed depends on. One binary has kernels for AVX2 and for AVX-512,
/// and takes what the CPU has, unless the environment's `SKEIN_ISA` or `useISA` says otherwise.
public var usedISA: String {
    let features = skein_compiled_features
    if skein_isa() == Int32(SKEIN_ISA_AVX512) || features & (1 << 4) != 0 { return "avx512" }
    if features & (1 << 2) != 0 { return "avx2" }
    #if arch(arm64)
    return "neon"
    #else
    return "sse2"
    #endif
}

/// Has kernels use `name`, avx2 or avx512, from here on; nothing may be packed yet. Returns whether this CPU has it.
public func useISA(_ name: String) -> Bool {
    switch name {
    case "avx2": skein_use_isa(Int32(SKEIN_ISA_BUILD)) != 0 && usedISA == name
    case "avx512": skein_use_isa(Int32(SKEIN_ISA_AVX512)) != 0
    default: false
    }
}

/// What ranks compare before they train together. Sums have one order on every vector unit, and AVX2 and AVX-512 were
/// found to give the same bits; other architectures were not tried, and without fused multiply-adds in the CPU each is
/// rounded twice.
public let compiledArithmetic: String = {
    #if arch(x86_64)
    return skein_compiled_features & (1 << 1) != 0 ? "x86-64 with FMA" : "x86-64 without FMA"
    #elseif arch(arm64)
    return "arm64"
    #else
    return "another architecture"
    #endif
}()
