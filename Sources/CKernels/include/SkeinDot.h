#ifndef SKEIN_DOT_H
#define SKEIN_DOT_H
#include "SkeinFormats.h"

/// Matrix products of quantised operands on bf16 dot products.
///
///     C[m, n] = A[m, k] B[k, n] * factor * row_factors[i] * column_factors[j]   (+ C)
///
/// Operands are quantised while they are packed, to values that bf16 holds exactly; so products are exact in fp32, and
/// only sums are rounded. The sum of an element is one chain from +0 over the depth: pairs (0, 1), (2, 3), ... in
/// ascending order, within a pair the odd element first, each a multiply-add rounded once, to nearest even; denormals
/// are zero, going in and coming out (a sum is denormal if it is below 2^-126 once it is rounded to 24 bits, whatever
/// its exponent: x86 finds tiny results after rounding). An odd depth is filled up with +0. So the bits of an element
/// depend on its row of A and its column of B alone, and they are the same on every path:
///
/// - The instruction VDPBF16PS does one pair for each of sixteen elements, just so: "Round to nearest even" for each
///   accumulation, denormals in and out are zero, MXCSR is neither consulted nor updated (Intel, Software Developer's
///   Manual, volume 2, VDPBF16PS; its operation adds the pair's high half before the low one).
/// - The portable path has the operands as floats, in that order, and runs the multiply-adds of skein_tile_gemm over
///   them, with denormals flushed by MXCSR.
///
/// Which not-a-number comes out of several is the one thing that may differ.
///
/// SKEIN_DOT_MODEL is the second path without its instruction: slow, for checks.
enum { SKEIN_DOT_PORTABLE = 0, SKEIN_DOT_AVX512 = 1, SKEIN_DOT_MODEL = 2 };

/// What skein_dot_check found out about this CPU.
typedef struct {
    /// Whether it has the instruction.
    int has_instruction;
    /// How many of the checked elements came out otherwise than on the portable path; 0 where all agree.
    uint32_t differences;
    /// The first such element: a0, a1, b0, b1 and what was there before, then both results. Bits of floats.
    uint32_t operands[5], instruction, model;
} skein_dot_report;

/// Runs the instruction and the portable arithmetic on 200,000 elements, denormal, huge and near to both among them.
skein_dot_report skein_dot_check(void);

/// Words of memory, of a float's size, that one row or column of a packed operand takes for its depth.
size_t skein_dot_words(int path, size_t k);

/// Floats from one row of a packed left operand to the next.
size_t skein_dot_left_row(int path, size_t k);

/// Floats that a packed right operand takes: enough for every path.
size_t skein_dot_right_floats(size_t n, size_t k);

/// Quantises and packs A[rows, k], stored [rows, k], or [k, rows] where `transposed`. The element that `x` points to
/// is (row, column) of the tensor that `quantizer` speaks of. Writes rows * skein_dot_left_row(path, k) floats.
void skein_dot_pack_left(int path, size_t rows, size_t k, const skein_quantizer *quantizer, size_t row, size_t column,
                         const float *x, size_t x_row, int transposed, float *out);

/// Quantises and packs `depth` steps from `first` on of B[k, n], stored [k, n], or [n, k] where `transposed`; `b` and
/// (row, column) are those of step 0. `first` is even, and `depth` too but for the last steps. Writes nothing that
/// belongs to other steps, so several threads may pack one B; n counts from a multiple of 64 columns of the whole.
void skein_dot_pack_right(int path, size_t n, size_t k, size_t first, size_t depth, const skein_quantizer *quantizer,
                          size_t row, size_t column, const float *b, size_t b_row, int transposed, float *out);

/// The product of two operands packed for the same path. Factors are multiplied in the order above, each rounded;
/// null stands for ones. C overlaps nothing; without `beta` it is not read.
void skein_dot_gemm(int path, size_t m, size_t n, size_t k, const float *left, const float *right, float factor,
                    const float *row_factors, const float *column_factors, float *c, size_t c_row, int beta);

/// The same without factors for a part of the depth: k steps, of A the first ones of `left_depth` that were packed, of
/// B those from `first`, an even number, on of `right_depth`.
void skein_dot_part(int path, size_t m, size_t n, size_t k, const float *left, size_t left_depth, const float *right,
                    size_t right_depth, size_t first, float *c, size_t c_row, int beta);

/// A path's multiply-adds on registers alone, `rounds` times as many operations as the function below says: the ceiling
/// of what a product may reach. Returns what keeps a compiler from leaving it out. The portable path's is fp32's.
float skein_dot_ceiling(int path, size_t rounds);
size_t skein_dot_ceiling_flops(int path);

/// Rounds to bf16 without a scale: operands that are nothing else.
extern const skein_quantizer skein_to_bf16;

#endif
