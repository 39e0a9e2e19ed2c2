#if arch(x86_64)
import CKernels
import Tensor
import Testing
import TestSupport

/// The AVX2 and the AVX-512 copy of a kernel give the same bits.
@Suite struct CopiesTests {
    /// Whether this CPU runs both; says so where it does not.
    private static let hasBoth: Bool = {
        let has = skein_isa() == Int32(SKEIN_ISA_AVX512)
        if !has { print("skipped: the AVX-512 copies of kernels, which this CPU cannot run") }
        return has
    }()

    struct Shape: Sendable {
        let m, n, k: Int
    }

    static let shapes = [1, 6, 11, 97].flatMap { m in [1, 15, 17, 64, 130].map { Shape(m: m, n: $0, k: 37) } }
        + [Shape(m: 9, n: 70, k: 1_030), Shape(m: 200, n: 33, k: 513), Shape(m: 2, n: 2, k: 0)]

    private func same(_ narrow: Matrix, _ wide: Matrix) -> Bool { mismatch(narrow.values, wide.values) == nil }

    /// Products whose operands lie where they may, and whose right one is packed.
    @Test(.enabled(if: hasBoth), arguments: shapes) func products(_ shape: Shape) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let (m, n, k) = (shape.m, shape.n, shape.k), wide = (n + 63) / 64 * 64
        let b = memory.matrix(normals(k * n, seed: 2), k, n, gap: 2)
        for turned in [false, true] {
            let a = turned ? memory.matrix(normals(m * k, seed: 1), k, m) : memory.matrix(normals(m * k, seed: 1), m, k)
            let c = (0..<4).map { _ in memory.matrix(normals(m * n, seed: 3), m, n, gap: 5) }
            let packed = (0..<2).map { _ in memory.matrix(max(k, 1), wide) }
            let form: Int32 = turned ? 1 : 0
            unsafe skein_gemm_narrow(m, n, k, a.all.pointer, a.stride, form, b.all.pointer, b.stride, 0,
                                     c[0].all.pointer, c[0].stride, 1)
            unsafe skein_gemm_wide(m, n, k, a.all.pointer, a.stride, form, b.all.pointer, b.stride, 0,
                                   c[1].all.pointer, c[1].stride, 1)
            unsafe skein_pack_narrow(n, k, 0, k, b.all.pointer, b.stride, 0, packed[0].all.pointer)
            unsafe skein_pack_wide(n, k, 0, k, b.all.pointer, b.stride, 0, packed[1].all.pointer)
            unsafe skein_gemm_packed_narrow(m, n, k, a.all.pointer, a.stride, form, packed[0].all.pointer,
                                            c[2].all.pointer, c[2].stride, 1)
            unsafe skein_gemm_packed_wide(m, n, k, a.all.pointer, a.stride, form, packed[1].all.pointer,
                                          c[3].all.pointer, c[3].stride, 1)
            for index in 1..<4 { #expect(same(c[0], c[index]), "\(shape), turned \(turned), form \(index)") }
            let y = (0..<2).map { _ in memory.matrix(1, n) }
            unsafe skein_vector_packed_narrow(n, k, a.all.pointer, packed[0].all.pointer, y[0].all.pointer, 0)
            unsafe skein_vector_packed_wide(n, k, a.all.pointer, packed[1].all.pointer, y[1].all.pointer, 0)
            #expect(same(y[0], y[1]), "\(shape), a vector")
        }
    }

    /// Rounding to a small format, to nearest and stochastically, odd lengths too.
    @Test(.enabled(if: hasBoth), arguments: ["E4M3", "E5M2", "E2M1", "BF16", "INT8"], [false, true])
    func rounding(_ name: String, stochastic: Bool) throws {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let format = try NumberFormat(named: name)
        var quantizer = unsafe skein_quantizer()
        unsafe quantizer.format = format.loops
        let scales = memory.matrix([3], 1, 1)
        unsafe quantizer.scales = UnsafePointer(scales.all.pointer)
        unsafe (quantizer.block_rows, quantizer.block_columns, quantizer.scale_row) = (1 << 20, 1 << 20, 1)
        unsafe quantizer.is_stochastic = stochastic ? 1 : 0
        for count in [1, 15, 64, 100, 333] {
            let x = memory.matrix(normals(count, seed: 5), 1, count)
            let (narrow, wide) = (memory.matrix(1, count), memory.matrix(1, count))
            unsafe skein_quantize_row_narrow(&quantizer, 7, 3, count, x.all.pointer, narrow.all.pointer)
            unsafe skein_quantize_row_wide(&quantizer, 7, 3, count, x.all.pointer, wide.all.pointer)
            #expect(same(narrow, wide), "\(name) x \(count)")
        }
    }
}
#endif
