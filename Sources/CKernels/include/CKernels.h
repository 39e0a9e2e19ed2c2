#ifndef SKEIN_CKERNELS_H
#define SKEIN_CKERNELS_H
#include <stddef.h>
#include <stdint.h>
#include "SkeinLanes.h"
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

/// h = silu(gate) * up with silu(x) = x sigmoid(x): rows x width; gate is the first width columns of gate_up and up the
/// next. h overlaps nothing.
void skein_swiglu(size_t rows, size_t width, const float *gate_up, size_t gate_up_row, float *h, size_t h_row);

/// Its backward, and h once more: with s = sigmoid(gate) and silu = gate s,
///
///     h = silu up       d_up = d_h silu       d_gate = d_h up (s + silu (1 - s))
///
/// d_gate_up may be the memory of gate_up, and h that of d_h.
void skein_swiglu_backward(size_t rows, size_t width, const float *gate_up, size_t gate_up_row, const float *d_h,
                           size_t d_h_row, float *d_gate_up, size_t d_gate_up_row, float *h, size_t h_row);

/// The largest of `count` floats; negative infinity of none. What is not a number need not win.
float skein_maximum(size_t count, const float *x);

/// The sum of e^(x[i] - shift) over sixteen chains, folded as skein_total does. Where `out` is not null it receives the
/// summands; it may be x.
float skein_exponentials(size_t count, const float *x, float shift, float *out);

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
