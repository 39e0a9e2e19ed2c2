// One row by a packed matrix: what writing text, token by token, is made of.
//
// Every weight is read once and used once, so memory sets the pace, and the one thing to do is to read it in order,
// from several places at a time. The matrix lies in skein_pack's strips, each contiguous over the depth: four narrow
// strips side by side are four streams, and their eight registers of sums hide the latency of a multiply-add (22 GB/s
// from one strip, 30 from four, on a core that adds up floats at 24). An element's sum is one chain over the depth, as
// in skein_gemm: which columns are taken together changes nothing.
#include "lanes.h"

// Strips that are taken together.
#define TOGETHER (64 / STRIP_WIDTH)

INLINE void strips(const int count, size_t k, const float *restrict x, const float *restrict packed,
                   float *restrict sums, int beta) {
    lanes sum[TOGETHER][WIDEST];
#pragma clang loop unroll(full)
    for (int s = 0; s < count; s++)
#pragma clang loop unroll(full)
        for (int j = 0; j < WIDEST; j++)
            sum[s][j] = beta ? load(sums + s * STRIP_WIDTH + j * WIDTH) : (lanes)0;
    for (size_t p = 0; p < k; p++) {
        lanes left = x[p];
#pragma clang loop unroll(full)
        for (int s = 0; s < count; s++)
#pragma clang loop unroll(full)
            for (int j = 0; j < WIDEST; j++)
                sum[s][j] = SKEIN_MULTIPLY_ADD(left, load(packed + s * k * STRIP_WIDTH + p * STRIP_WIDTH + j * WIDTH),
                                               sum[s][j]);
    }
#pragma clang loop unroll(full)
    for (int s = 0; s < count; s++)
#pragma clang loop unroll(full)
        for (int j = 0; j < WIDEST; j++) store(sums + s * STRIP_WIDTH + j * WIDTH, sum[s][j]);
}

void skein_vector_packed(size_t n, size_t k, const float *x, const float *packed, float *y, int beta) {
    size_t j = 0;
    for (; j + TOGETHER * STRIP_WIDTH <= n; j += TOGETHER * STRIP_WIDTH)
        strips(TOGETHER, k, x, packed + j * k, y + j, beta);
    for (; j < n; j += STRIP_WIDTH) {
        // The last strip may be wider than what is left of y.
        float wide[STRIP_WIDTH] = {0};
        size_t columns = smaller(n - j, STRIP_WIDTH);
        if (beta) memcpy(wide, y + j, columns * sizeof *y);
        strips(1, k, x, packed + j * k, wide, beta);
        memcpy(y + j, wide, columns * sizeof *y);
    }
}
