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

// Where a quantiser rounds to nearest, and 32 neighbours from `column` on share a scale, rows become pairs of bf16 in
// one pass, without a line of floats in between: most operands of most recipes.
INLINE int shares_scales(const skein_quantizer *q, size_t column, size_t count) {
    if (q->is_stochastic) return 0;
    return column / q->block_columns == (column + count - 1) / q->block_columns
        || (q->block_columns % 32 == 0 && column % 32 == 0);
}

// The upper halves of 32 floats: sixteen words, the even element of each pair below.
INLINE void store_pairs(sixteen low, sixteen high, float *out) {
    typedef uint16_t halves __attribute__((ext_vector_type(32)));
    halves pairs = __builtin_shufflevector((halves)low, (halves)high, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27,
                                           29, 31, 33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63);
    memcpy(out, &pairs, sizeof pairs);
}

INLINE void store_rounded(const skein_format *f, const int is_folded, sixteen scale, sixteen fold, const float *x,
                          float *out) {
    sixteen low = round_nearest(f, load16(x) * scale), high = round_nearest(f, load16(x + 16) * scale);
    if (is_folded) { low *= fold; high *= fold; }
    store_pairs(low, high, out);
}

// `count` neighbours that share a scale.
INLINE void pairs_of_part(const skein_format *f, const int is_folded, float scale, float fold, size_t count,
                          const float *x, float *out) {
    size_t i = 0;
    for (; i + 32 <= count; i += 32)
        store_rounded(f, is_folded, (sixteen)scale, (sixteen)fold, x + i, out + i / 2);
    if (i == count) return;
    float rest[32] = {0};
    memcpy(rest, x + i, (count - i) * sizeof *x);
    store_rounded(f, is_folded, (sixteen)scale, (sixteen)fold, rest, rest);
    memcpy(out + i / 2, rest, (count - i + 1) / 2 * sizeof *out);
}

// Rows of a tensor, `depth` of each. Divisions are dear beside the rounding of some neighbours: places are found anew
// only where blocks end.
INLINE void pairs_of_lines(const int is_cut, const int is_folded, const skein_quantizer *q, size_t outer, size_t depth,
                           size_t row, size_t column, const float *x, size_t x_row, float *out, size_t out_row) {
    skein_format f = q->format;
    f.is_cut_float = is_cut;
    size_t first = column / q->block_columns, first_end = (first + 1) * q->block_columns - column, place = 0, end = row;
    for (size_t o = 0; o < outer; o++, x += x_row, out += out_row) {
        if (row + o >= end) {
            place = (row + o) / q->block_rows * q->scale_row;
            end = ((row + o) / q->block_rows + 1) * q->block_rows;
        }
        const float *scales = q->scales + place + first, *folds = is_folded ? q->folds + place + first : 0;
        for (size_t j = 0, part, stop = first_end; j < depth; j += part, stop += q->block_columns, scales++) {
            part = smaller(stop - j, depth - j);
            pairs_of_part(&f, is_folded, *scales, is_folded ? *folds++ : 1, part, x + j, out + j / 2);
        }
    }
}

static void lines_along(const skein_quantizer *q, size_t outer, size_t depth, size_t row, size_t column,
                        const float *x, size_t x_row, float *out, size_t out_row) {
#define LINES(is_cut, is_folded) pairs_of_lines(is_cut, is_folded, q, outer, depth, row, column, x, x_row, out, out_row)
    if (q->format.is_cut_float && q->folds) LINES(1, 1);
    else if (q->format.is_cut_float) LINES(1, 0);
    else if (q->folds) LINES(0, 1);
    else LINES(0, 0);
#undef LINES
}

// Rows of a tensor that run along the depth, at most DEPTH of it: words of row o at out + o * out_row.
static void along(int path, size_t outer, size_t depth, const skein_quantizer *q, size_t row, size_t column,
                  const float *x, size_t x_row, float *out, size_t out_row) {
    if (path != SKEIN_DOT_PORTABLE && shares_scales(q, column, depth))
        return lines_along(q, outer, depth, row, column, x, x_row, out, out_row);
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

// The scales of OUTER neighbours of a row: one, or as many as there are columns; and the row where they end.
typedef struct {
    const float *scales, *folds;
    sixteen same, same_fold;
    size_t end;
} line_scales;

INLINE void find_scales(line_scales *found, const int is_single, const skein_quantizer *q, size_t row, size_t column) {
    if (row < found->end) return;
    size_t block = row / q->block_rows, place = block * q->scale_row + (is_single ? column : column / q->block_columns);
    found->end = (block + 1) * q->block_rows;
    found->scales = q->scales + place;
    found->folds = q->folds ? q->folds + place : 0;
    found->same = (sixteen)*found->scales;
    found->same_fold = (sixteen)(q->folds ? *found->folds : 1);
}

INLINE words rounded_lane(const skein_format *f, const int is_single, const int is_folded, const float *x,
                          const line_scales *of, size_t j) {
    sixteen y = round_nearest(f, load16(x + j) * (is_single ? load16(of->scales + j) : of->same));
    if (is_folded) y *= is_single ? load16(of->folds + j) : of->same_fold;
    return (words)y;
}

// Pairs of rows of at most OUTER columns, as far as the depth is even. Rows that lie pages apart are asked for ahead of
// time.
INLINE void pairs_of_rows(const int is_cut, const int is_single, const int is_folded, const skein_quantizer *q,
                          size_t outer, size_t depth, size_t row, size_t column, const float *x, size_t x_row,
                          float *out) {
    skein_format f = q->format;
    f.is_cut_float = is_cut;
    line_scales of_even = {.end = 0}, of_odd = {.end = 0};
    for (size_t p = 0; p + 2 <= depth; p += 2, x += 2 * x_row, out += OUTER) {
        find_scales(&of_even, is_single, q, row + p, column);
        find_scales(&of_odd, is_single, q, row + p + 1, column);
        for (size_t j = 0; j < outer; j += 16) {
            __builtin_prefetch((const void *)((uintptr_t)(x + j) + 32 * x_row * sizeof *x));
            __builtin_prefetch((const void *)((uintptr_t)(x + j) + 33 * x_row * sizeof *x));
            words low = rounded_lane(&f, is_single, is_folded, x, &of_even, j);
            words high = rounded_lane(&f, is_single, is_folded, x + x_row, &of_odd, j);
            store16(out + j, (sixteen)(low >> 16 | (high & 0xFFFF0000u)));
        }
    }
}

static void pairs_across(const skein_quantizer *q, size_t outer, size_t depth, size_t row, size_t column,
                         const float *x, size_t x_row, float *out) {
#define ROWS_OF(is_cut, is_single, is_folded) \
    pairs_of_rows(is_cut, is_single, is_folded, q, outer, depth, row, column, x, x_row, out)
    if (q->block_columns == 1) {
        if (q->format.is_cut_float) { if (q->folds) ROWS_OF(1, 1, 1); else ROWS_OF(1, 1, 0); }
        else { if (q->folds) ROWS_OF(0, 1, 1); else ROWS_OF(0, 1, 0); }
    } else {
        if (q->format.is_cut_float) { if (q->folds) ROWS_OF(1, 0, 1); else ROWS_OF(1, 0, 0); }
        else { if (q->folds) ROWS_OF(0, 0, 1); else ROWS_OF(0, 0, 0); }
    }
#undef ROWS_OF
}

// Whether `outer` columns, whole vectors of them, share a scale, or have one each.
INLINE int may_be_pairs(int path, const skein_quantizer *q, size_t column, size_t outer) {
    if (path == SKEIN_DOT_PORTABLE || q->is_stochastic || outer == 0 || outer % 16) return 0;
    return q->block_columns == 1 || column / q->block_columns == (column + outer - 1) / q->block_columns;
}

// A tensor whose rows are steps of depth, at most OUTER columns of it: OUTER words for each step, zeros at the end.
static void across(int path, size_t outer, size_t depth, const skein_quantizer *q, size_t row, size_t column,
                   const float *x, size_t x_row, float *out) {
    float even[OUTER] = {0}, odd[OUTER] = {0};
    size_t p = 0, whole = outer / 16 * 16;
    if (may_be_pairs(path, q, column, whole)) {
        pairs_across(q, whole, depth, row, column, x, x_row, out);
        // The last few columns, and zeros after them.
        for (; p + 2 <= depth; p += 2) {
            if (whole == OUTER) continue;
            const float *from = x + p * x_row + whole;
            float *to = out + p / 2 * OUTER;
            skein_quantize_row(q, row + p, column + whole, outer - whole, from, even + whole);
            skein_quantize_row(q, row + p + 1, column + whole, outer - whole, from + x_row, odd + whole);
            for (size_t j = whole; j < OUTER; j += 16)
                store16(to + j, (sixteen)((words)load16(even + j) >> 16 | ((words)load16(odd + j) & 0xFFFF0000u)));
        }
    }
    for (; p < depth; p += 2) {
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
    // Whole rows where nothing lies in between: memory is read as it lies, which its prefetcher follows.
    if (!transposed && path != SKEIN_DOT_PORTABLE && shares_scales(q, column, k))
        return lines_along(q, rows, k, row, column, x, x_row, out, out_row);
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
        float *strip = out + words_of(path, first) * width;
        // Where a strip is as wide as what is turned into words at once, they are made in their place.
        across(path, columns, depth, q, row + first, column, b + first * b_row, b_row, width == OUTER ? strip : block);
        if (width == OUTER) return;
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
