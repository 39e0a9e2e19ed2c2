// What packing and multiplying share: where the words of packed operands lie.
//
// A word is what one step of a path's inner loop takes: a float on the portable path, a pair of bf16 (the even element
// in the low half) for the instruction and its model.
#ifndef SKEIN_DOT_LAYOUT_H
#define SKEIN_DOT_LAYOUT_H
#include "lanes.h"
#include "SkeinDot.h"

// Columns of a strip for the instruction: four registers.
#define PAIR_STRIP 64

INLINE size_t words_of(int path, size_t depth) {
    size_t pairs = (depth + 1) / 2;
    return path == SKEIN_DOT_PORTABLE ? 2 * pairs : pairs;
}

INLINE size_t strip_width(int path) { return path == SKEIN_DOT_PORTABLE ? STRIP_WIDTH : PAIR_STRIP; }

// Rows do not begin at the same place of a page, where they would drive each other out of the first cache.
INLINE size_t left_row(size_t words) { return (words + 15) / 16 * 16 + 16; }

// Where finished sums go: C, from a strip's first column on, times factors (+ C). `c` null: nowhere yet.
typedef struct {
    float *c;
    size_t c_row;
    float factor;
    const float *row_factors, *column_factors;
    int beta;
} dot_end;

// One strip's share of a product of pairs, rows x (16 * vectors) columns: sums[rows, PAIR_STRIP] = left strip (+ sums);
// with an `end`, sums are only read, and C is written.
void skein_dot_pairs(int path, size_t rows, int vectors, size_t steps, const float *left, size_t left_row,
                     const float *strip, float *sums, int beta, const dot_end *end);

// Denormals are zero, going in and coming out, until the mode is put back.
uint32_t skein_flush_denormals(void);
void skein_restore_denormals(uint32_t mode);

#endif
