// A matrix turned over, sixteen by sixteen floats at a time in registers: reading or writing columns one float at
// a time costs a cache line each.
#include "copy.h"
#include <string.h>

typedef float lanes __attribute__((vector_size(64)));

// Where bit S of a lane's number differs from the row's, two rows that lie S apart swap lanes (Eklundh). After S = 1,
// 2, 4 and 8 the tile is transposed.
#define LOW(j, s) ((j) & (s) ? (j) - (s) + 16 : (j))
#define HIGH(j, s) ((j) & (s) ? (j) + 16 : (j) + (s))
#define ALL(f, s) f(0, s), f(1, s), f(2, s), f(3, s), f(4, s), f(5, s), f(6, s), f(7, s), f(8, s), f(9, s), \
    f(10, s), f(11, s), f(12, s), f(13, s), f(14, s), f(15, s)
#define STAGE(s)                                                          \
    _Pragma("clang loop unroll(full)") for (int i = 0; i < 16; i++) {     \
        if (i & (s)) continue;                                            \
        lanes a = r[i], b = r[i + (s)];                                   \
        r[i] = __builtin_shufflevector(a, b, ALL(LOW, s));                \
        r[i + (s)] = __builtin_shufflevector(a, b, ALL(HIGH, s));         \
    }

static void tile(const float *x, size_t x_row, float *out, size_t out_row) {
    lanes r[16];
#pragma clang loop unroll(full)
    for (int i = 0; i < 16; i++) memcpy(&r[i], x + i * x_row, sizeof r[i]);
    STAGE(1)
    STAGE(2)
    STAGE(4)
    STAGE(8)
#pragma clang loop unroll(full)
    for (int i = 0; i < 16; i++) memcpy(out + i * out_row, &r[i], sizeof r[i]);
}

void skein_transpose(size_t rows, size_t columns, const float *x, size_t x_row, float *out, size_t out_row) {
    size_t whole_rows = rows / 16 * 16, whole_columns = columns / 16 * 16;
    for (size_t i = 0; i < whole_rows; i += 16)
        for (size_t j = 0; j < whole_columns; j += 16) tile(x + i * x_row + j, x_row, out + j * out_row + i, out_row);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = i < whole_rows ? whole_columns : 0; j < columns; j++) out[j * out_row + i] = x[i * x_row + j];
}
