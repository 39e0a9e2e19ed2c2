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

    /// SwiGLU and its backward, over a range in which exponentials reach both ends.
    @Test(.enabled(if: hasBoth), arguments: [1, 15, 16, 17, 70, 128]) func activations(_ width: Int) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let rows = 3
        let inputs = normals(rows * 2 * width, seed: 8, size: 40)
        let both = memory.matrix(inputs, rows, 2 * width, gap: 3)
        let slopes = memory.matrix(normals(rows * width, seed: 9), rows, width, gap: 1)
        let h = (0..<4).map { _ in memory.matrix(rows, width) }, d = (0..<2).map { _ in memory.matrix(rows, 2 * width) }
        unsafe skein_swiglu_narrow(rows, width, both.all.pointer, both.stride, h[0].all.pointer, h[0].stride)
        unsafe skein_swiglu_wide(rows, width, both.all.pointer, both.stride, h[1].all.pointer, h[1].stride)
        unsafe skein_swiglu_backward_narrow(rows, width, both.all.pointer, both.stride, slopes.all.pointer,
                                            slopes.stride, d[0].all.pointer, d[0].stride, h[2].all.pointer, h[2].stride)
        unsafe skein_swiglu_backward_wide(rows, width, both.all.pointer, both.stride, slopes.all.pointer,
                                          slopes.stride, d[1].all.pointer, d[1].stride, h[3].all.pointer, h[3].stride)
        for other in 1..<4 { #expect(same(h[0], h[other]), "h, form \(other)") }
        #expect(same(d[0], d[1]))
    }

    /// Maxima and exponentials, where lanes are left over too, and where a float is not a number.
    @Test(.enabled(if: hasBoth), arguments: [0, 1, 15, 16, 17, 100, 257]) func exponentials(_ count: Int) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        var values = normals(count, seed: 10, size: 60)
        for (index, odd) in [Float.nan, .infinity, -.infinity, -87.3, 88.5, 1e-42].enumerated()
        where count > 40 { values[index * 7] = odd }
        for finite in [true, false] {
            let x = memory.matrix(finite ? values.map { $0.isFinite ? $0 : 0 } : values, 1, count).all
            let out = (0..<2).map { _ in memory.matrix(1, count) }
            let largest = unsafe skein_maximum_narrow(count, x.pointer)
            #expect(unsafe largest.bitPattern == skein_maximum_wide(count, x.pointer).bitPattern)
            let shift = finite && count > 0 ? largest : 1
            let sums = unsafe [skein_exponentials_narrow(count, x.pointer, shift, out[0].all.pointer),
                               skein_exponentials_wide(count, x.pointer, shift, out[1].all.pointer),
                               skein_exponentials_narrow(count, x.pointer, shift, nil),
                               skein_exponentials_wide(count, x.pointer, shift, nil)]
            for sum in sums { #expect(sum.bitPattern == sums[0].bitPattern) }
            #expect(same(out[0], out[1]))
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
