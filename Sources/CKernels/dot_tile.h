// The register tile of products of bf16 pairs, made twice by dot_pairs.c: from the instruction, and from a model of it
// that runs anywhere. DOT(sum, pair, right) is sixteen elements' step; PAIRS is how a function is compiled for it; NAME
// gives functions their names.
//
// A tile is 6 x 64 of C: 24 of 32 registers hold sums, four a step's words of B. Each step broadcasts a pair of each
// row of A. Rows are reached from two pointers, which the compiler must not see through (as in gemm.c).
#if defined(__x86_64__)
#define APART(pointer) __asm__("" : "+r"(pointer))
#else
#define APART(pointer)
#endif

// Finished sums go to C out of their registers.
PAIRS static inline __attribute__((always_inline))
void NAME(put)(const int rows, const int vectors, sixteen sum[6][4], const dot_end *end, size_t first) {
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++) {
        float factor = end->row_factors ? end->factor * end->row_factors[first + i] : end->factor;
        float *c = end->c + (first + i) * end->c_row;
#pragma clang loop unroll(full)
        for (int j = 0; j < vectors; j++) {
            sixteen x = sum[i][j] * factor, other;
            if (end->column_factors) {
                memcpy(&other, end->column_factors + 16 * j, sizeof other);
                x *= other;
            }
            if (end->beta) {
                memcpy(&other, c + 16 * j, sizeof other);
                x = other + x;
            }
            memcpy(c + 16 * j, &x, sizeof x);
        }
    }
}

PAIRS static inline __attribute__((always_inline))
void NAME(tile)(const int rows, const int vectors, size_t steps, const float *left, size_t left_row,
                const float *strip, float *sums, int beta, const dot_end *end, size_t first) {
    sixteen sum[6][4];
    const float *three[2] = {left, left + 3 * left_row};
    APART(three[0]);
    APART(three[1]);
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
        for (int j = 0; j < vectors; j++) {
            sum[i][j] = 0;
            if (beta) memcpy(&sum[i][j], sums + i * PAIR_STRIP + 16 * j, sizeof(sixteen));
        }
    for (size_t p = 0; p < steps; p++) {
        sixteen right[4];
#pragma clang loop unroll(full)
        for (int j = 0; j < vectors; j++) memcpy(&right[j], strip + 16 * j, sizeof(sixteen));
#pragma clang loop unroll(full)
        for (int i = 0; i < rows; i++) {
            sixteen pair = three[i / 3][i % 3 * left_row];
#pragma clang loop unroll(full)
            for (int j = 0; j < vectors; j++) sum[i][j] = DOT(sum[i][j], pair, right[j]);
        }
        three[0]++;
        three[1]++;
        strip += PAIR_STRIP;
    }
    if (end->c) return NAME(put)(rows, vectors, sum, end, first);
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
        for (int j = 0; j < vectors; j++) memcpy(sums + i * PAIR_STRIP + 16 * j, &sum[i][j], sizeof(sixteen));
}

// So many times 24 elements' steps that wait for nothing but their own: what the unit can do without memory.
PAIRS static float NAME(ceiling)(size_t rounds) {
    sixteen sum[24] = {0}, pair = 1e-3f, right = 0.5f, all = 0;
    for (size_t p = 0; p < rounds; p++)
#pragma clang loop unroll(full)
        for (int i = 0; i < 24; i++) sum[i] = DOT(sum[i], pair, right);
    for (int i = 0; i < 24; i++) all += sum[i];
    return all[0];
}

// All rows of a strip of 16 * vectors columns: by sixes, then fours, then one. Few rows wait for their own sums, so
// where two would be left, one six less makes the rest two fours.
#define TAKE(rows, vectors) \
    NAME(tile)(rows, vectors, steps, left + i * left_row, left_row, strip, sums + i * PAIR_STRIP, beta, end, i)
#define ALL_ROWS(vectors)                                                                                         \
    for (; sixes > 0; sixes--, i += 6) TAKE(6, vectors);                                                          \
    for (; i + 4 <= rows; i += 4) TAKE(4, vectors);                                                               \
    for (; i < rows; i++) TAKE(1, vectors)

PAIRS static void NAME(strip)(size_t rows, int vectors, size_t steps, const float *left, size_t left_row,
                              const float *strip, float *sums, int beta, const dot_end *end) {
    size_t i = 0, sixes = rows % 6 == 2 && rows > 6 ? rows / 6 - 1 : rows / 6;
    switch (vectors) {
    case 1: ALL_ROWS(1); break;
    case 2: ALL_ROWS(2); break;
    case 3: ALL_ROWS(3); break;
    case 4: ALL_ROWS(4); break;
    }
}

#undef APART
#undef TAKE
#undef ALL_ROWS
#undef NAME
#undef PAIRS
#undef DOT
