// Rounding to small number formats, by arithmetic on the bits of floats: no logarithm, no power, no branch an element.
//
// Let 2^e be the power of two at or below |y|, but at least the format's smallest normal number. The grid's step there
// is 2^(e-M). Adding 2^(e-M+23) puts y where a float's own step is just that, so the addition rounds it as the CPU
// rounds, to nearest and ties to even; taking it away again is exact. Subnormal numbers need nothing of their own:
// below the smallest normal number the step stays. A format with floats' own exponents (E = 8) would need powers of two
// beyond floats; its grid is floats without the last bits, and those are rounded away as a whole number is. Where there
// is no mantissa, neither of two neighbours is even, and the larger one is taken (IEEE 754-2019, 4.3.1).
//
// Stochastic rounding goes up with the probability that lies in what was cut off: a uniform number below it says so.
// It has 24 bits (E = 8: as many as are cut off), so a chance is exact in the normal range of formats with E < 8, and
// never off by more than 2^-24.
#include "quantize.h"

#define PHILOX_A 0xD2511F53u
#define PHILOX_B 0xCD9E8D57u

typedef uint64_t wide_words __attribute__((ext_vector_type(8)));

// The halves of the products of sixteen words with one: even and odd lanes apart, since that is how vector units
// multiply.
INLINE void full_product(words x, uint32_t factor, words *high, words *low) {
    wide_words pairs = (wide_words)x;
    wide_words even = (pairs & 0xFFFFFFFFu) * factor, odd = (pairs >> 32) * factor;
    *high = __builtin_shufflevector((words)even, (words)odd, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
    *low = x * factor;
}

// Words 0 to 3 of sixteen neighbouring blocks of Philox4x32-10, as Base/CounterRNG.swift has it one by one; and of the
// sixteen behind them. A round waits for the one before it: two groups side by side take two thirds of the time of one
// after the other.
INLINE void random_groups(const int groups, const uint32_t key[2], const uint32_t stream[2], uint32_t row,
                          uint32_t group, uint32_t *out) {
    words c[2][4];
    for (int g = 0; g < groups; g++) {
        c[g][0] = (group + g) * 16 + (words){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        c[g][1] = (words)row;
        c[g][2] = (words)stream[0];
        c[g][3] = (words)stream[1];
    }
    uint32_t k[2] = {key[0], key[1]};
    for (int round = 0; round < 10; round++, k[0] += 0x9E3779B9u, k[1] += 0xBB67AE85u)
        for (int g = 0; g < groups; g++) {
            words a_high, a_low, b_high, b_low;
            full_product(c[g][0], PHILOX_A, &a_high, &a_low);
            full_product(c[g][2], PHILOX_B, &b_high, &b_low);
            c[g][0] = b_high ^ c[g][1] ^ k[0];
            c[g][1] = b_low;
            c[g][2] = a_high ^ c[g][3] ^ k[1];
            c[g][3] = a_low;
        }
    memcpy(out, c, groups * sizeof *c);
}

static void random_group(const uint32_t key[2], const uint32_t stream[2], uint32_t row, uint32_t group,
                         uint32_t *out) {
    random_groups(1, key, stream, row, group, out);
}

static void two_random_groups(const uint32_t key[2], const uint32_t stream[2], uint32_t row, uint32_t group,
                              uint32_t *out) {
    random_groups(2, key, stream, row, group, out);
}

void skein_random_row(const uint32_t key[2], const uint32_t stream[2], size_t row, size_t first, size_t count,
                      uint32_t *out) {
    uint32_t group[64];
    for (size_t j = 0, part; j < count; j += part) {
        size_t from = (first + j) % 64;
        part = smaller(64 - from, count - j);
        random_group(key, stream, (uint32_t)row, (uint32_t)((first + j) / 64), group);
        memcpy(out + j, group + from, part * sizeof *out);
    }
}

INLINE sixteen round_stochastic(const skein_format *f, sixteen y, words noise) {
    words bits = (words)y, magnitude = bits & 0x7FFFFFFFu;
    sixteen m = (sixteen)magnitude;
    m = f->largest < m ? f->largest : m;
    if (f->is_cut_float) {
        uint32_t cut = 23 - f->mantissa, low = (1u << cut) - 1;
        words b = (words)m, up = noise >> (32 - cut) < (b & low) ? (words)(1u << cut) : 0;
        return with_sign_of(m == m ? (b & ~low) + up : b, bits);
    }
    words e = (words)m & 0x7F800000u;
    e = e > f->smallest_normal ? e : f->smallest_normal;
    sixteen steps = m * (sixteen)(((254 + f->mantissa) << 23) - e);
    sixteen whole = __builtin_elementwise_floor(steps);
    sixteen uniform = __builtin_convertvector((ints)(noise >> 8), sixteen) * 0x1p-24f;
    whole += uniform < steps - whole ? (sixteen)1 : (sixteen)0;
    return with_sign_of((words)(whole * (sixteen)(e - (f->mantissa << 23))), bits);
}

INLINE sixteen rounded(const skein_format *f, int is_stochastic, sixteen y, const uint32_t *noise) {
    return is_stochastic ? round_stochastic(f, y, load_words(noise)) : round_nearest(f, y);
}

// `count` neighbours; their scales lie side by side (step 16), or are the same sixteen again and again (step 0).
// Where `count` is no multiple of 16, the last ones go through memory of their own, which reads nothing beyond.
INLINE void run(const skein_format *f, const int is_stochastic, size_t count, const float *x, float *out,
                const float *scales, const float *folds, size_t step, const uint32_t *noise) {
    skein_format format = *f;
    size_t j = 0;
    for (; j + 16 <= count; j += 16, scales += step, folds += step) {
        sixteen y = rounded(&format, is_stochastic, load16(x + j) * load16(scales), noise + j);
        store16(out + j, y * load16(folds));
    }
    if (j == count) return;
    float rest[16] = {0}, rest_scales[16] = {0}, rest_folds[16] = {0};
    uint32_t rest_noise[16] = {0};
    size_t left = (count - j) * sizeof *x;
    memcpy(rest, x + j, left);
    memcpy(rest_scales, scales, left);
    memcpy(rest_folds, folds, left);
    if (is_stochastic) memcpy(rest_noise, noise + j, left);
    store16(rest, rounded(&format, is_stochastic, load16(rest) * load16(rest_scales), rest_noise) * load16(rest_folds));
    memcpy(out + j, rest, left);
}

// Each combination gets a loop of its own, in which the compiler knows what does not change.
static void run_of_its_kind(const skein_quantizer *q, size_t count, const float *x, float *out,
                            const float *scales, const float *folds, size_t step, const uint32_t *noise) {
    skein_format f = q->format;
    if (f.is_cut_float) {
        f.is_cut_float = 1;
        if (q->is_stochastic) run(&f, 1, count, x, out, scales, folds, step, noise);
        else run(&f, 0, count, x, out, scales, folds, step, noise);
    } else {
        f.is_cut_float = 0;
        if (q->is_stochastic) run(&f, 1, count, x, out, scales, folds, step, noise);
        else run(&f, 0, count, x, out, scales, folds, step, noise);
    }
}

static const float ones[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

// Columns by the blocks of the scales; at most 128 where noise is given.
static void columns_of_row(const skein_quantizer *q, const float *scales, const float *folds, size_t column,
                           size_t count, const float *x, float *out, const uint32_t *noise) {
    if (q->block_columns == 1) {
        // Without folds one row of ones would have to be as long as the row: sixteen at a time do.
        if (folds) return run_of_its_kind(q, count, x, out, scales + column, folds + column, 16, noise);
        for (size_t j = 0; j < count; j += 16)
            run_of_its_kind(q, smaller(16, count - j), x + j, out + j, scales + column + j, ones, 16, noise + j);
        return;
    }
    size_t block = column / q->block_columns, end = (block + 1) * q->block_columns;
    for (size_t j = 0, part; j < count; j += part, block++, end += q->block_columns) {
        float same[16], same_fold[16];
        part = smaller(end - (column + j), count - j);
        store16(same, (sixteen)scales[block]);
        store16(same_fold, folds ? (sixteen)folds[block] : (sixteen)1);
        run_of_its_kind(q, part, x + j, out + j, same, same_fold, 0, noise + j);
    }
}

void skein_quantize_row(const skein_quantizer *q, size_t row, size_t column, size_t count,
                        const float *x, float *out) {
    size_t place = row / q->block_rows * q->scale_row;
    const float *scales = q->scales + place, *folds = q->folds ? q->folds + place : 0;
    static const uint32_t silence[16];
    if (!q->is_stochastic) return columns_of_row(q, scales, folds, column, count, x, out, silence);
    uint32_t noise[128];
    for (size_t j = 0, part; j < count; j += part) {
        size_t from = (column + j) % 64;
        part = smaller(128 - from, count - j);
        uint32_t place = (uint32_t)(q->first_row + row), group = (uint32_t)((column + j) / 64);
        if (from + part > 64) two_random_groups(q->key, q->stream, place, group, noise);
        else random_group(q->key, q->stream, place, group, noise);
        columns_of_row(q, scales, folds, column + j, part, x + j, out + j, noise + from);
    }
}
