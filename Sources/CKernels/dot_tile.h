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

PAIRS static inline __attribute__((always_inline))
void NAME(tile)(const int rows, const int vectors, size_t steps, const float *left, size_t left_row,
                const float *strip, float *sums, int beta) {
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
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
        for (int j = 0; j < vectors; j++) memcpy(sums + i * PAIR_STRIP + 16 * j, &sum[i][j], sizeof(sixteen));
}

// All rows of a strip of 16 * vectors columns: by sixes, then twos, then one.
#define TAKE(rows, vectors) \
    NAME(tile)(rows, vectors, steps, left + i * left_row, left_row, strip, sums + i * PAIR_STRIP, beta)
#define ALL_ROWS(vectors)                                                                                         \
    for (; i + 6 <= rows; i += 6) TAKE(6, vectors);                                                               \
    for (; i + 2 <= rows; i += 2) TAKE(2, vectors);                                                               \
    if (i < rows) TAKE(1, vectors)

PAIRS static void NAME(strip)(size_t rows, int vectors, size_t steps, const float *left, size_t left_row,
                              const float *strip, float *sums, int beta) {
    size_t i = 0;
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
