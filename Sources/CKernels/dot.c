// Products of packed operands: the portable path, and what both paths share. The contract is in SkeinDot.h.
#include "dot.h"
#include "quantize.h"

// Rows of the left operand that are multiplied by all strips in turn, and the depth that one strip's loop goes before
// the next rows take it: together they stay in the second cache.
#define ROWS 96
#define STEPS 512

#if defined(__x86_64__)
#define FLUSH (0x8000u | 0x0040u)

uint32_t skein_flush_denormals(void) {
    uint32_t mode = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(mode | FLUSH);
    return mode;
}

// Of the mode that was, the bits that flush; the flags that arithmetic raised meanwhile stay, as they do elsewhere.
void skein_restore_denormals(uint32_t mode) {
    __builtin_ia32_ldmxcsr((__builtin_ia32_stmxcsr() & ~FLUSH) | (mode & FLUSH));
}
#elif defined(__aarch64__)
#define FLUSH (1ull << 24)

uint32_t skein_flush_denormals(void) {
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" ::"r"(mode | FLUSH));
    return (uint32_t)mode;
}

void skein_restore_denormals(uint32_t mode) { __asm__ volatile("msr fpcr, %0" ::"r"((uint64_t)mode)); }
#else
uint32_t skein_flush_denormals(void) { return 0; }
void skein_restore_denormals(uint32_t mode) { (void)mode; }
#endif

// C = sums * factors (+ C), where a row of sums has the width of a strip.
INLINE void finish_row(size_t n, const float *sums, float factor, const float *columns, float *c, int beta) {
    size_t j = 0;
    for (; j + WIDTH <= n; j += WIDTH) {
        lanes x = load(sums + j) * factor;
        if (columns) x *= load(columns + j);
        store(c + j, beta ? load(c + j) + x : x);
    }
    for (; j < n; j++) {
        float x = sums[j] * factor;
        if (columns) x *= columns[j];
        c[j] = beta ? c[j] + x : x;
    }
}

// Sums of a strip for `rows` rows, of which the columns go to C out of registers as far as they fill whole ones.
static void strip_sums(int path, size_t rows, size_t n, size_t words, const float *left, size_t left_row,
                       const float *strip, float *sums, dot_end end) {
    size_t width = strip_width(path), lane = path == SKEIN_DOT_PORTABLE ? WIDTH : 16;
    size_t vectors = (n + lane - 1) / lane;
    dot_end nowhere = {0};
    int is_direct = path != SKEIN_DOT_PORTABLE && n % lane == 0 && words > 0;
    if (words == 0) memset(sums, 0, rows * width * sizeof *sums);
    for (size_t p = 0, steps; p < words; p += steps) {
        steps = smaller(STEPS, words - p);
        if (path == SKEIN_DOT_PORTABLE)
            skein_tile_gemm(rows, vectors * lane, steps, left + p, left_row, 1, strip + p * width, width, sums, width,
                            p > 0);
        else
            skein_dot_pairs(path, rows, (int)vectors, steps, left + p, left_row, strip + p * width, sums, p > 0,
                            is_direct && p + steps == words ? &end : &nowhere);
    }
    if (is_direct) return;
    for (size_t r = 0; r < rows; r++)
        finish_row(n, sums + r * width, end.row_factors ? end.factor * end.row_factors[r] : end.factor,
                   end.column_factors, end.c + r * end.c_row, end.beta);
}

// `left_words`, `right_words`: what one row, one column has of the depth that was packed; the product takes `words` of
// them, of the right operand those from `strip` on.
static void product(int path, size_t m, size_t n, size_t words, const float *left, size_t left_words,
                    const float *right, size_t right_words, dot_end all) {
    _Alignas(64) float sums[ROWS * PAIR_STRIP];
    size_t stride = left_row(left_words), width = strip_width(path);
    uint32_t mode = skein_flush_denormals();
    for (size_t i = 0; i < m; i += ROWS)
        for (size_t j = 0; j < n; j += width) {
            dot_end end = all;
            end.c += i * all.c_row + j;
            if (all.row_factors) end.row_factors += i;
            if (all.column_factors) end.column_factors += j;
            strip_sums(path, smaller(ROWS, m - i), smaller(width, n - j), words, left + i * stride, stride,
                       right + j * right_words, sums, end);
        }
    skein_restore_denormals(mode);
}

void skein_dot_gemm(int path, size_t m, size_t n, size_t k, const float *left, const float *right, float factor,
                    const float *row_factors, const float *column_factors, float *c, size_t c_row, int beta) {
    size_t words = words_of(path, k);
    dot_end end = {c, c_row, factor, row_factors, column_factors, beta};
    product(path, m, n, words, left, words, right, words, end);
}

void skein_dot_part(int path, size_t m, size_t n, size_t k, const float *left, size_t left_depth, const float *right,
                    size_t right_depth, size_t first, float *c, size_t c_row, int beta) {
    dot_end end = {c, c_row, 1, 0, 0, beta};
    product(path, m, n, words_of(path, k), left, words_of(path, left_depth),
            right + words_of(path, first) * strip_width(path), words_of(path, right_depth), end);
}
