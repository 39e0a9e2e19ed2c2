// Narrow blocks of wide matrices: a head's 64 columns out of a row of thousands. Each row is four cache lines on a
// page of its own, so no prefetcher foresees the next one, and a call for each row costs as much as its copy.
#include "copy.h"
#include <string.h>

void skein_scale_rows(size_t rows, size_t columns, const float *x, size_t x_row, float *restrict out, size_t out_row,
                      float factor) {
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++) out[i * out_row + j] = x[i * x_row + j] * factor;
}

void skein_copy_with_dots(size_t rows, size_t columns, const float *x, size_t x_row, const float *y, size_t y_row,
                          float *restrict copy, size_t copy_row, float *restrict dots) {
    for (size_t i = 0; i < rows; i++) {
        skein_lanes chains = 0;
        size_t j = 0;
        for (; j + 16 <= columns; j += 16) {
            skein_lanes a, b;
            memcpy(&a, x + i * x_row + j, sizeof a);
            memcpy(&b, y + i * y_row + j, sizeof b);
            memcpy(copy + i * copy_row + j, &a, sizeof a);
            chains = SKEIN_MULTIPLY_ADD(a, b, chains);
        }
        for (size_t lane = 0; j + lane < columns; lane++) {
            float a = copy[i * copy_row + j + lane] = x[i * x_row + j + lane];
            chains[lane] = SKEIN_MULTIPLY_ADD(a, y[i * y_row + j + lane], chains[lane]);
        }
        dots[i] = skein_total(chains);
    }
}

void skein_prefetch_rows(size_t rows, size_t columns, const float *x, size_t x_row) {
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j += 16) __builtin_prefetch(x + i * x_row + j, 0, 3);
}
