// Register-tiled products of small matrices. Swift can say the arithmetic but not hold 24 accumulators in
// registers across a loop: arrays of vectors go through memory there, and 24 named variables are no code
// to read. Here a tile's shape is a compile-time constant and the compiler unrolls it.
//
// A tile is ROWS x (16 * VECTORS) of C. Per step of k it loads VECTORS vectors of B, broadcasts ROWS
// scalars of A, and issues ROWS * VECTORS fused multiply-adds: 24 of them for 6x4, 8x3 and 12x2, which
// covers two units of latency four and leaves registers for B and the broadcast.
#include "CKernels.h"
#include <string.h>

typedef float lanes __attribute__((vector_size(64)));
#define INLINE static inline __attribute__((always_inline))

INLINE lanes load(const float *p) { lanes v; memcpy(&v, p, sizeof v); return v; }
INLINE void store(float *p, lanes v) { memcpy(p, &v, sizeof v); }
INLINE lanes all(float x) { return (lanes){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }

INLINE void tile(const int rows, const int vectors, size_t k,
                 const float *restrict a, size_t a_row, size_t a_column,
                 const float *restrict b, size_t b_row, float *restrict c, size_t c_row, int beta) {
    lanes sum[12][4];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
        for (int j = 0; j < vectors; j++) sum[i][j] = beta ? load(c + i * c_row + 16 * j) : all(0);
    for (size_t p = 0; p < k; p++) {
        lanes right[4];
#pragma clang loop unroll(full)
        for (int j = 0; j < vectors; j++) right[j] = load(b + 16 * j);
#pragma clang loop unroll(full)
        for (int i = 0; i < rows; i++) {
            lanes left = all(a[i * a_row]);
#pragma clang loop unroll(full)
            for (int j = 0; j < vectors; j++) sum[i][j] = __builtin_elementwise_fma(left, right[j], sum[i][j]);
        }
        a += a_column;
        b += b_row;
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
        for (int j = 0; j < vectors; j++) store(c + i * c_row + 16 * j, sum[i][j]);
}

// All m rows of a column strip of 16 * vectors: full tiles of `rows`, then the rest by fours and ones. A single row
// waits for its own multiply-adds, so where two would be left, one full tile less makes the rest two fours.
#define STRIP(rows, vectors)                                                                             \
    static void strip_##vectors(size_t m, size_t k, const float *a, size_t a_row, size_t a_column,       \
                                const float *b, size_t b_row, float *c, size_t c_row, int beta) {        \
        size_t i = 0, full = m / rows;                                                                   \
        if (rows == 6 && m % 6 == 2 && full > 0) full--;                                                 \
        for (; full > 0; full--, i += rows)                                                              \
            tile(rows, vectors, k, a + i * a_row, a_row, a_column, b, b_row, c + i * c_row, c_row, beta); \
        for (; i + 4 <= m; i += 4)                                                                       \
            tile(4, vectors, k, a + i * a_row, a_row, a_column, b, b_row, c + i * c_row, c_row, beta);   \
        for (; i < m; i++)                                                                               \
            tile(1, vectors, k, a + i * a_row, a_row, a_column, b, b_row, c + i * c_row, c_row, beta);   \
    }
STRIP(6, 4)
STRIP(8, 3)
STRIP(12, 2)
STRIP(12, 1)

// Columns past the last full vector, one chain of multiply-adds an element, in the same order.
static void columns_rest(size_t m, size_t n, size_t k, const float *a, size_t a_row, size_t a_column,
                         const float *b, size_t b_row, float *c, size_t c_row, int beta) {
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            float sum = beta ? c[i * c_row + j] : 0;
            for (size_t p = 0; p < k; p++)
                sum = __builtin_fmaf(a[i * a_row + p * a_column], b[p * b_row + j], sum);
            c[i * c_row + j] = sum;
        }
}

void skein_tile_gemm(size_t m, size_t n, size_t k,
                     const float *a, size_t a_row, size_t a_column,
                     const float *b, size_t b_row,
                     float *c, size_t c_row, int beta) {
    size_t j = 0;
    for (; j + 64 <= n; j += 64) strip_4(m, k, a, a_row, a_column, b + j, b_row, c + j, c_row, beta);
    if (j + 48 <= n) { strip_3(m, k, a, a_row, a_column, b + j, b_row, c + j, c_row, beta); j += 48; }
    if (j + 32 <= n) { strip_2(m, k, a, a_row, a_column, b + j, b_row, c + j, c_row, beta); j += 32; }
    if (j + 16 <= n) { strip_1(m, k, a, a_row, a_column, b + j, b_row, c + j, c_row, beta); j += 16; }
    if (j < n) columns_rest(m, n - j, k, a, a_row, a_column, b + j, b_row, c + j, c_row, beta);
}
