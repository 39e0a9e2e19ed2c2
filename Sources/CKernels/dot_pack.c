// Operands of bf16 products: quantised, then laid as the inner loops read them.
//
// A tensor's rows run along the depth, or the depth runs down its columns. In the first case a row's own neighbours
// become pairs; in the second two rows do, element by element. Left operands want the words of a row side by side,
// right ones the words of a step; a block that came the other way is turned over in between.
#include "dot.h"
#include "quantize.h"

#define OUTER 64
#define DEPTH 128

typedef uint64_t wide_words __attribute__((ext_vector_type(8)));
typedef uint32_t half_words __attribute__((ext_vector_type(8)));

// Sixteen quantised neighbours of a row as words: eight pairs, or sixteen floats, each pair turned over.
INLINE void pairs_along(const float *x, float *out) {
    wide_words pairs = (wide_words)load16(x);
    half_words words = __builtin_convertvector((pairs >> 16 & 0xFFFFu) | (pairs >> 32 & 0xFFFF0000u), half_words);
    memcpy(out, &words, sizeof words);
}

INLINE void floats_along(const float *x, float *out) {
    sixteen v = load16(x);
    store16(out, __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14));
}

// The words of one row: `depth` quantised values, and a 0 after them where that is odd. `line` may be read up to a
// multiple of sixteen; `out` is written no further than it must be.
static void words_along(int path, size_t depth, const float *line, float *out) {
    size_t count = words_of(path, depth), j = 0;
    if (path == SKEIN_DOT_PORTABLE) for (; j + 16 <= count; j += 16) floats_along(line + j, out + j);
    else for (; j + 8 <= count; j += 8) pairs_along(line + 2 * j, out + j);
    if (j == count) return;
    float rest[16];
    if (path == SKEIN_DOT_PORTABLE) floats_along(line + j, rest);
    else pairs_along(line + 2 * j, rest);
    memcpy(out + j, rest, (count - j) * sizeof *out);
}

// Rows of a tensor that run along the depth, at most DEPTH of it: words of row o at out + o * out_row.
static void along(int path, size_t outer, size_t depth, const skein_quantizer *q, size_t row, size_t column,
                  const float *x, size_t x_row, float *out, size_t out_row) {
    float line[DEPTH + 16] = {0};
    for (size_t o = 0; o < outer; o++) {
        skein_quantize_row(q, row + o, column, depth, x + o * x_row, line);
        words_along(path, depth, line, out + o * out_row);
    }
}

// The words of two rows, an even step of depth and the odd one after it, for OUTER columns.
INLINE void words_across(int path, const float *even, const float *odd, float *out) {
    for (size_t j = 0; j < OUTER; j += 16) {
        if (path != SKEIN_DOT_PORTABLE) {
            words pair = (words)load16(even + j) >> 16 | ((words)load16(odd + j) & 0xFFFF0000u);
            store16(out + j, (sixteen)pair);
        } else {
            store16(out + j, load16(odd + j));
            store16(out + OUTER + j, load16(even + j));
        }
    }
}

// A tensor whose rows are steps of depth, at most OUTER columns of it: OUTER words for each step, zeros at the end.
static void across(int path, size_t outer, size_t depth, const skein_quantizer *q, size_t row, size_t column,
                   const float *x, size_t x_row, float *out) {
    float even[OUTER] = {0}, odd[OUTER] = {0};
    for (size_t p = 0; p < depth; p += 2) {
        skein_quantize_row(q, row + p, column, outer, x + p * x_row, even);
        if (p + 1 < depth) skein_quantize_row(q, row + p + 1, column, outer, x + (p + 1) * x_row, odd);
        else memset(odd, 0, sizeof odd);
        words_across(path, even, odd, out + words_of(path, p) * OUTER);
    }
}

size_t skein_dot_words(int path, size_t k) { return words_of(path, k); }

size_t skein_dot_left_row(int path, size_t k) { return left_row(words_of(path, k)); }

size_t skein_dot_right_floats(size_t n, size_t k) { return (k + 1) / 2 * 2 * ((n + OUTER - 1) / OUTER * OUTER); }

void skein_dot_pack_left(int path, size_t rows, size_t k, const skein_quantizer *q, size_t row, size_t column,
                         const float *x, size_t x_row, int transposed, float *out) {
    float block[DEPTH * OUTER];
    size_t out_row = left_row(words_of(path, k));
    for (size_t p = 0; p < k; p += DEPTH) {
        size_t depth = smaller(DEPTH, k - p);
        float *to = out + words_of(path, p);
        if (!transposed) {
            along(path, rows, depth, q, row, column + p, x + p, x_row, to, out_row);
            continue;
        }
        for (size_t i = 0; i < rows; i += OUTER) {
            size_t outer = smaller(OUTER, rows - i);
            across(path, outer, depth, q, row + p, column + i, x + p * x_row + i, x_row, block);
            skein_transpose(words_of(path, depth), outer, block, OUTER, to + i * out_row, out_row);
        }
    }
}

// OUTER columns of B, `columns` of which are there, into their strips.
static void pack_columns(int path, size_t columns, size_t k, size_t first, size_t depth, const skein_quantizer *q,
                         size_t row, size_t column, const float *b, size_t b_row, int transposed, float *out) {
    float block[DEPTH * OUTER];
    size_t width = strip_width(path), count = words_of(path, depth);
    if (transposed) {
        along(path, columns, depth, q, row, column + first, b + first, b_row, block, DEPTH);
        memset(block + columns * DEPTH, 0, (OUTER - columns) * DEPTH * sizeof *block);
    } else {
        across(path, columns, depth, q, row + first, column, b + first * b_row, b_row, block);
    }
    for (size_t j = 0; j < columns; j += width) {
        float *strip = out + j * words_of(path, k) + words_of(path, first) * width;
        if (transposed) skein_transpose(width, count, block + j * DEPTH, DEPTH, strip, width);
        else for (size_t p = 0; p < count; p++) memcpy(strip + p * width, block + p * OUTER + j, width * sizeof *strip);
    }
}

void skein_dot_pack_right(int path, size_t n, size_t k, size_t first, size_t depth, const skein_quantizer *q,
                          size_t row, size_t column, const float *b, size_t b_row, int transposed, float *out) {
    for (size_t j = 0; j < n; j += OUTER)
        for (size_t p = first; p < first + depth; p += DEPTH)
            pack_columns(path, smaller(OUTER, n - j), k, p, smaller(DEPTH, first + depth - p), q,
                         transposed ? row + j : row, transposed ? column : column + j,
                         transposed ? b + j * b_row : b + j, b_row, transposed, out + j * words_of(path, k));
}
