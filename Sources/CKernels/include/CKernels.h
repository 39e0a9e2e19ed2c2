#ifndef SKEIN_CKERNELS_H
#define SKEIN_CKERNELS_H
#include <stddef.h>
#include <stdint.h>
#include "SkeinFormats.h"
#include "SkeinDot.h"

/// One bit for each CPU feature that this build was compiled to use; the order is cpu_check.c's. The AVX-512 copies of
/// the kernels are not among them: they are used where the CPU has what they need.
extern const uint32_t skein_compiled_features;

/// The vector units that kernels were compiled for. The build's own is AVX2 on x86-64, unless SKEIN_MARCH says more.
enum { SKEIN_ISA_BUILD = 0, SKEIN_ISA_AVX512 = 1 };

/// The one that kernels use from here on. Both give the same bits, but a packed matrix belongs to the one that packed
/// it, so it is chosen before anything is packed: when the program starts, the best that this CPU has, or what the
/// environment's SKEIN_ISA says (avx2 or avx512).
int skein_isa(void);

/// Chooses it. Returns 0, and changes nothing, where the CPU lacks it.
int skein_use_isa(int isa);

/// a * b + c of floats or vectors of them, rounded once where the target has fused multiply-adds. An x86-64 without
/// them would call the C library for each, fifty times slower; there it is rounded twice, and such builds do not
/// train together with others.
#if defined(__x86_64__) && !defined(__FMA__)
#define SKEIN_MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#else
#define SKEIN_MULTIPLY_ADD(a, b, c) __builtin_elementwise_fma(a, b, c)
#endif

/// A small matrix product on operands that are in cache, without packing: the inner tile of attention.
///
///     C[m, n] = beta * C[m, n] + A[m, k] B[k, n]         beta is 0 or 1
///
/// A[i, p] is a[i * a_row + p * a_column], so a transposed A costs nothing; B and C are row-major with n
/// contiguous floats a row. Any m, n, k >= 0. Each element is one chain of fused multiply-adds over k in
/// ascending order (starting from C when beta is 1), whatever the shape of the registers' tiling: the
/// result does not depend on m, n or the instruction set, as long as it has FMA.
void skein_tile_gemm(size_t m, size_t n, size_t k,
                     const float *a, size_t a_row, size_t a_column,
                     const float *b, size_t b_row,
                     float *c, size_t c_row, int beta);

/// A matrix product of any size, packed for the caches.
///
///     C[m, n] = beta * C[m, n] + op(A)[m, k] op(B)[k, n]      beta is 0 or 1
///
/// A is stored [m, k], or [k, m] where transpose_a is set; B [k, n], or [n, k] where transpose_b is set; rows begin
/// a_row, b_row and c_row floats apart. Any m, n, k >= 0. C overlaps neither A nor B; with beta 0 it is not read. The
/// sums are skein_tile_gemm's: one chain over k for each element, so k = 0 gives 0 or C as it was.
/// Takes at most 384 KiB of the caller's stack and no other memory.
void skein_gemm(size_t m, size_t n, size_t k, const float *a, size_t a_row, int transpose_a,
                const float *b, size_t b_row, int transpose_b, float *c, size_t c_row, int beta);

/// Columns of a packed strip: what the widest tile of registers takes. A divisor of 64.
size_t skein_strip_width(void);

/// Packs op(B)[k, n] for skein_gemm_packed, op as in skein_gemm: strips of skein_strip_width() columns one after the
/// other, k rows each, the last one filled up with zeros to whole vectors at least. Packs `depth` of the k rows, from
/// row `first` on, and writes nothing else, within k * n floats, n rounded up to whole strips: so several threads may
/// pack one B, each some strips, or some rows of them.
void skein_pack(size_t n, size_t k, size_t first, size_t depth, const float *b, size_t b_row, int transpose_b,
                float *out);

/// skein_gemm with a B that skein_pack has packed: the same sums, bit for bit, and as much of the stack.
void skein_gemm_packed(size_t m, size_t n, size_t k, const float *a, size_t a_row, int transpose_a,
                       const float *packed, float *c, size_t c_row, int beta);

/// y[n] = x[k] B (+ y), with B[k, n] as skein_pack has packed it: the bits of skein_gemm_packed with one row.
void skein_vector_packed(size_t n, size_t k, const float *x, const float *packed, float *y, int beta);

/// out[j, i] = x[i, j] for rows x columns of x; rows of x and out begin x_row and out_row floats apart.
void skein_transpose(size_t rows, size_t columns, const float *x, size_t x_row, float *out, size_t out_row);

/// out[i, j] = x[i, j] * factor; the two do not overlap.
void skein_scale_rows(size_t rows, size_t columns, const float *x, size_t x_row, float *out, size_t out_row,
                      float factor);

/// Sixteen floats; imported by Swift as SIMD16<Float>. The functions below are single instructions that Swift's own
/// vectors turn into dozens: `replacing(with:where:)` moves the lanes through 128-bit registers, `addingProduct` and
/// `squareRoot` go lane by lane.
typedef float skein_lanes __attribute__((ext_vector_type(16)));

/// The larger of each pair of lanes; where one is NaN, b's.
static inline __attribute__((always_inline)) skein_lanes skein_larger(skein_lanes a, skein_lanes b) {
    return a > b ? a : b;
}

/// The smaller of each pair of lanes; where one is NaN, b's.
static inline __attribute__((always_inline)) skein_lanes skein_smaller(skein_lanes a, skein_lanes b) {
    return a < b ? a : b;
}

/// a * b + c, rounded as SKEIN_MULTIPLY_ADD.
static inline __attribute__((always_inline)) skein_lanes skein_fma(skein_lanes a, skein_lanes b, skein_lanes c) {
    return SKEIN_MULTIPLY_ADD(a, b, c);
}

/// Each lane's square root, correctly rounded; NaN of a negative one.
static inline __attribute__((always_inline)) skein_lanes skein_root(skein_lanes x) {
    return __builtin_elementwise_sqrt(x);
}

/// Each lane's nearest whole number, ties to even.
static inline __attribute__((always_inline)) skein_lanes skein_nearest(skein_lanes x) {
    return __builtin_elementwise_roundeven(x);
}

/// x * 2^n for x in [0.7, 1.42] and whole n in [-126, 128], where the result is neither denormal nor infinite. Other
/// lanes receive some number, and NaN where x is NaN.
static inline __attribute__((always_inline)) skein_lanes skein_scaled(skein_lanes x, skein_lanes n) {
#if defined(SKEIN_WIDE) || defined(__AVX512F__)
    return __builtin_ia32_scalefps512_mask(x, n, x, (uint16_t)-1, 4);
#else
    // Adding 1.5 * 2^23 leaves n in the low bits of the mantissa; from there it goes into x's exponent.
    typedef int32_t skein_bits __attribute__((ext_vector_type(16)));
    skein_bits exponent = ((skein_bits)(n + 12582912.0f) - 0x4B400000) << 23;
    return (skein_lanes)((skein_bits)x + exponent);
#endif
}

/// `x` where `key` < `limit`, else `otherwise`, lane by lane.
static inline __attribute__((always_inline)) skein_lanes
skein_where_less(skein_lanes key, skein_lanes limit, skein_lanes x, skein_lanes otherwise) {
    return key < limit ? x : otherwise;
}

/// The sum of sixteen lanes, folding halves: (((8 + 8) folded to 4) folded to 2) folded to 1.
static inline __attribute__((always_inline)) float skein_total(skein_lanes x) {
    typedef float eight __attribute__((ext_vector_type(8)));
    typedef float four __attribute__((ext_vector_type(4)));
    eight a = x.lo + x.hi;
    four b = a.lo + a.hi;
    return (b.x + b.z) + (b.y + b.w);
}

/// The largest of sixteen lanes, folding halves.
static inline __attribute__((always_inline)) float skein_largest(skein_lanes x) {
    typedef float eight __attribute__((ext_vector_type(8)));
    typedef float four __attribute__((ext_vector_type(4)));
    eight a = x.lo > x.hi ? x.lo : x.hi;
    four b = a.lo > a.hi ? a.lo : a.hi;
    float even = b.x > b.z ? b.x : b.z, odd = b.y > b.w ? b.y : b.w;
    return even > odd ? even : odd;
}

/// Not 0 where some lane of `a` is above its counterpart in `b`.
static inline __attribute__((always_inline)) int skein_any_greater(skein_lanes a, skein_lanes b) {
    return __builtin_reduce_or(a > b);
}

/// 0, 1, 2, ... 15
static inline __attribute__((always_inline)) skein_lanes skein_positions(void) {
    return (skein_lanes){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
}

/// From now on, calls of malloc and its family are counted, on all threads and in all libraries.
void skein_count_allocations(void);

/// Ends counting and returns the calls; -1 where the C library gives no way to count.
long skein_allocations(void);

/// A closure (tile, worker) of Swift's that its owner lends to other threads for the time of a call. Swift itself
/// would copy it to the heap first. As an argument, a closure is its code and its context; the code takes the
/// context in the register that clang knows as swift_context.
typedef struct { void *code; void *context; } skein_closure;

/// Calls a lent closure.
void skein_call_closure(skein_closure lent, long tile, long worker);

/// copy = x, and dots[i] = x[i] . y[i] over sixteen chains, folded as skein_total does.
void skein_copy_with_dots(size_t rows, size_t columns, const float *x, size_t x_row, const float *y, size_t y_row,
                          float *copy, size_t copy_row, float *dots);

/// Asks for rows that will be read soon. Results do not depend on it.
void skein_prefetch_rows(size_t rows, size_t columns, const float *x, size_t x_row);

/// Pages of memory that nobody has touched yet shall come from the nodes in `mask`, `bits` bits, in turn. Nothing
/// happens where the kernel knows no nodes.
void skein_interleave_memory(void *memory, size_t bytes, const unsigned long *mask, unsigned long bits);

/// Tells the CPU that this is a spin loop, so that it leaves the core's resources to the other thread.
static inline void skein_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#include "SkeinCopies.h"

#endif
