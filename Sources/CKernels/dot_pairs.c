// Products of packed pairs: by the instruction, in one binary with everything else, and by a model of it.
//
// The instruction's functions alone are compiled for AVX512_BF16, and nobody calls them before skein_dot_check has
// found the instruction and seen it agree with the model. The model is what the portable path computes, on the
// instruction's layout: with it, a CPU without the instruction can check all of that path but the instruction.
#include "dot.h"
#include "quantize.h"

// The halves of pairs as floats.
INLINE sixteen even_of(sixteen pairs) { return (sixteen)((words)pairs << 16); }
INLINE sixteen odd_of(sixteen pairs) { return (sixteen)((words)pairs & 0xFFFF0000u); }

INLINE sixteen model_dot(sixteen sum, sixteen a, sixteen b) {
    sum = SKEIN_MULTIPLY_ADD(odd_of(a), odd_of(b), sum);
    return SKEIN_MULTIPLY_ADD(even_of(a), even_of(b), sum);
}

#define NAME(function) model_##function
#define PAIRS
#define DOT model_dot
#include "dot_tile.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define NAME(function) instruction_##function
#define PAIRS __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define DOT(sum, a, b) (sixteen)_mm512_dpbf16_ps((__m512)(sum), (__m512bh)(a), (__m512bh)(b))
#include "dot_tile.h"

static int has_instruction(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vl")
        && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}
#else
#define instruction_strip model_strip
#define instruction_ceiling model_ceiling

static int has_instruction(void) { return 0; }
#endif

void skein_dot_pairs(int path, size_t rows, int vectors, size_t steps, const float *left, size_t left_row,
                     const float *strip, float *sums, int beta, const dot_end *end) {
    if (path == SKEIN_DOT_AVX512) instruction_strip(rows, vectors, steps, left, left_row, strip, sums, beta, end);
    else model_strip(rows, vectors, steps, left, left_row, strip, sums, beta, end);
}

static float exact_ceiling(size_t rounds) {
    lanes sum[WIDTH == 16 ? 24 : 12] = {0}, x = 1e-3f, y = 0.5f, all = 0;
    for (size_t p = 0; p < rounds; p++)
#pragma clang loop unroll(full)
        for (size_t i = 0; i < sizeof sum / sizeof *sum; i++) sum[i] = SKEIN_MULTIPLY_ADD(x, y, sum[i]);
    for (size_t i = 0; i < sizeof sum / sizeof *sum; i++) all += sum[i];
    return all[0];
}

size_t skein_dot_ceiling_flops(int path) {
    return path == SKEIN_DOT_PORTABLE ? (WIDTH == 16 ? 24 : 12) * 2 * WIDTH : 24 * 64;
}

float skein_dot_ceiling(int path, size_t rounds) {
    if (path == SKEIN_DOT_PORTABLE) return exact_ceiling(rounds);
    return path == SKEIN_DOT_AVX512 ? instruction_ceiling(rounds) : model_ceiling(rounds);
}

// Both numbers of each pair, or a float, with exponents from `lowest` on.
INLINE words pairs_about(words x, words spread, uint32_t lowest, uint32_t range) {
    words exponent = lowest + spread % range;
    return (x & 0x807F807Fu) | exponent << 7 | exponent << 23;
}

INLINE words floats_about(words x, words spread, uint32_t lowest, uint32_t range) {
    return (x & 0x807FFFFFu) | (lowest + spread % range) << 23;
}

// Operands where a CPU might go its own way. `kind` 0: any bits. 1: products about the smallest normal number, added to
// one like it. 2: products about the largest number. 3: 2^-126 less a product of some 2^-150, where the rounding of the
// sum decides whether it is denormal. 4: everyday numbers.
static void operands(uint32_t kind, uint32_t round, words *a, words *b, words *before) {
    static const uint32_t key[2] = {0x5CE14, 0xB16}, stream[2] = {0, 0};
    uint32_t random[64];
    skein_random_row(key, stream, round, 0, 64, random);
    *a = load_words(random);
    *b = load_words(random + 16);
    *before = load_words(random + 32);
    words spread = load_words(random + 48);
    static const uint32_t lowest[5] = {0, 60, 188, 0, 124}, lowest_before[5] = {0, 0, 250, 0, 122};
    if (kind == 1 || kind == 2 || kind == 4) {
        *a = pairs_about(*a, spread, lowest[kind], 6);
        *b = pairs_about(*b, spread >> 8, lowest[kind], 6);
        *before = floats_about(*before, spread >> 16, lowest_before[kind], 5);
    } else if (kind == 3) {
        words sign = *before & 0x80000000u;
        *before = sign | 0x00800000u;
        *a = (*a & 0x007F0000u) | (51 + (spread & 1)) << 23;
        *b = (sign ^ 0x80000000u) | (52 + (spread >> 1 & 1)) << 23;
    }
}

skein_dot_report skein_dot_check(void) {
    skein_dot_report report = {.has_instruction = has_instruction()};
    dot_end nowhere = {0};
    for (uint32_t round = 0; report.has_instruction && round < 200000 / 16; round++) {
        words a, b, before;
        operands(round % 5, round, &a, &b, &before);
        // One step of one row: the same pair of A for sixteen columns.
        float left[16], right[PAIR_STRIP] = {0}, got[PAIR_STRIP] = {0}, want[PAIR_STRIP] = {0};
        store16(left, (sixteen)a);
        store16(right, (sixteen)b);
        store16(got, (sixteen)before);
        store16(want, (sixteen)before);
        instruction_strip(1, 1, 1, left, 1, right, got, 1, &nowhere);
        uint32_t mode = skein_flush_denormals();
        model_strip(1, 1, 1, left, 1, right, want, 1, &nowhere);
        skein_restore_denormals(mode);
        for (int i = 0; i < 16; i++) {
            if (memcmp(got + i, want + i, sizeof *got) == 0 || (got[i] != got[i] && want[i] != want[i])) continue;
            if (report.differences++ > 0) continue;
            uint32_t seen[5] = {a[0] << 16, a[0] & 0xFFFF0000u, b[i] << 16, b[i] & 0xFFFF0000u, before[i]};
            memcpy(report.operands, seen, sizeof seen);
            memcpy(&report.instruction, got + i, sizeof *got);
            memcpy(&report.model, want + i, sizeof *want);
        }
    }
    return report;
}
