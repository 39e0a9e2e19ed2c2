// What a tensor's numbers look like, and what quantising does to them: one pass over each row.
#include "quantize.h"

// As whole numbers, magnitudes have the order of what they stand for, with not-a-numbers above infinity: so none is
// lost, as it would be in a comparison of floats.
float skein_largest_magnitude(size_t count, const float *x) {
    ints largest = 0;
    size_t j = 0;
    for (; j + 16 <= count; j += 16) {
        ints magnitude = (ints)load16(x + j) & 0x7FFFFFFF;
        largest = magnitude > largest ? magnitude : largest;
    }
    int32_t all = __builtin_reduce_max(largest);
    for (; j < count; j++) {
        int32_t bits;
        memcpy(&bits, x + j, sizeof bits);
        all = (bits & 0x7FFFFFFF) > all ? bits & 0x7FFFFFFF : all;
    }
    float value;
    memcpy(&value, &all, sizeof value);
    return value;
}

void skein_larger_magnitudes(size_t count, const float *x, float *out) {
    int32_t a, b;
    for (size_t j = 0; j < count; j++) {
        memcpy(&a, x + j, sizeof a);
        memcpy(&b, out + j, sizeof b);
        a &= 0x7FFFFFFF;
        b &= 0x7FFFFFFF;
        b = a > b ? a : b;
        memcpy(out + j, &b, sizeof b);
    }
}

typedef double eight __attribute__((ext_vector_type(8)));

// Scales of `count` columns from `column` on, one for each.
static void scales_of(const skein_quantizer *q, size_t row, size_t column, size_t count, float *out) {
    const float *scales = q->scales + row / q->block_rows * q->scale_row;
    for (size_t j = 0; j < count; j++) out[j] = scales[(column + j) / q->block_columns];
}

// At most 64 columns, as many as one group of random words serves.
static void columns_health(const skein_quantizer *q, size_t row, size_t column, size_t count, const float *x,
                           skein_health *health) {
    float before[64] = {0}, after[64] = {0}, scales[64] = {0};
    memcpy(before, x, count * sizeof *x);
    skein_quantize_row(q, row, column, count, before, after);
    scales_of(q, row, column, count, scales);
    eight signal = 0, noise = 0;
    ints saturated = 0, flushed = 0, odd = 0;
    sixteen largest = 0;
    for (size_t j = 0; j < 64; j += 16) {
        sixteen was = load16(before + j), is = load16(after + j), scale = load16(scales + j);
        ints finite = ((words)was & 0x7FFFFFFFu) < 0x7F800000u;
        was = finite ? was : (sixteen)0;
        is = finite ? is : (sixteen)0;
        sixteen size = (sixteen)((words)was & 0x7FFFFFFFu);
        odd += 1 + finite;
        saturated -= size * scale > q->format.largest;
        flushed -= (is == 0) & (was != 0);
        largest = size > largest ? size : largest;
        scale = scale != 0 ? scale : (sixteen)1;
        eight low = __builtin_convertvector(was.lo, eight), high = __builtin_convertvector(was.hi, eight);
        signal += low * low + high * high;
        low -= __builtin_convertvector(is.lo, eight) / __builtin_convertvector(scale.lo, eight);
        high -= __builtin_convertvector(is.hi, eight) / __builtin_convertvector(scale.hi, eight);
        noise += low * low + high * high;
    }
    for (int i = 0; i < 8; i++) {
        health->signal += signal[i];
        health->noise += noise[i];
    }
    health->saturated += (double)__builtin_reduce_add(saturated);
    health->flushed += (double)__builtin_reduce_add(flushed);
    health->not_finite += (double)__builtin_reduce_add(odd);
    for (int i = 0; i < 16; i++) health->largest = largest[i] > health->largest ? largest[i] : health->largest;
}

void skein_quantize_health(const skein_quantizer *q, size_t row, size_t column, size_t count,
                           const float *x, skein_health *health) {
    skein_quantizer unfolded = *q;
    unfolded.folds = 0;
    for (size_t j = 0, part; j < count; j += part) {
        part = smaller(64 - (column + j) % 64, count - j);
        columns_health(&unfolded, row, column + j, part, x + j, health);
    }
}
