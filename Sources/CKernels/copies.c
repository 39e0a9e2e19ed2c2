// Which copy of the kernels is used, and a door to it for each. The kernels' names here are those of no copy.
#include "CKernels.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__x86_64__)
static int chosen = SKEIN_ISA_BUILD;

static int has_avx512(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

int skein_isa(void) { return chosen; }

int skein_use_isa(int isa) {
    if (isa == SKEIN_ISA_AVX512 && !has_avx512()) return 0;
    chosen = isa;
    return 1;
}

static void refuse(const char *text) {
    ssize_t ignored = write(2, text, strlen(text));
    (void)ignored;
    _exit(2);
}

// After CChecksum has looked whether this CPU has what the rest needs, and before main.
__attribute__((constructor(102))) static void choose(void) {
    const char *wanted = getenv("SKEIN_ISA");
    if (!wanted || !*wanted) skein_use_isa(SKEIN_ISA_AVX512);
    else if (strcmp(wanted, "avx512") == 0) {
        if (!skein_use_isa(SKEIN_ISA_AVX512))
            refuse("skein: SKEIN_ISA is avx512, which this CPU lacks; leave it out\n");
    } else if (strcmp(wanted, "avx2") != 0) refuse("skein: SKEIN_ISA is neither avx2 nor avx512; leave it out\n");
}

#define PICK(name) (chosen == SKEIN_ISA_AVX512 ? name##_wide : name##_narrow)
#else
int skein_isa(void) { return SKEIN_ISA_BUILD; }
int skein_use_isa(int isa) { return isa == SKEIN_ISA_BUILD; }
#define PICK(name) name##_narrow
#endif

// Both copies have the type of the public declaration; the compiler holds each door's parameters against it too.
#define DOOR(result, name, parameters, arguments)     \
    __typeof__(name) name##_narrow, name##_wide;       \
    result name parameters { return PICK(name) arguments; }

DOOR(size_t, skein_strip_width, (void), ())
DOOR(void, skein_tile_gemm, (size_t m, size_t n, size_t k, const float *a, size_t a_row, size_t a_column,
                             const float *b, size_t b_row, float *c, size_t c_row, int beta),
     (m, n, k, a, a_row, a_column, b, b_row, c, c_row, beta))
DOOR(void, skein_gemm, (size_t m, size_t n, size_t k, const float *a, size_t a_row, int transpose_a,
                        const float *b, size_t b_row, int transpose_b, float *c, size_t c_row, int beta),
     (m, n, k, a, a_row, transpose_a, b, b_row, transpose_b, c, c_row, beta))
DOOR(void, skein_pack, (size_t n, size_t k, size_t first, size_t depth, const float *b, size_t b_row,
                        int transpose_b, float *out),
     (n, k, first, depth, b, b_row, transpose_b, out))
DOOR(void, skein_gemm_packed, (size_t m, size_t n, size_t k, const float *a, size_t a_row, int transpose_a,
                               const float *packed, float *c, size_t c_row, int beta),
     (m, n, k, a, a_row, transpose_a, packed, c, c_row, beta))
DOOR(void, skein_vector_packed, (size_t n, size_t k, const float *x, const float *packed, float *y, int beta),
     (n, k, x, packed, y, beta))
DOOR(void, skein_transpose, (size_t rows, size_t columns, const float *x, size_t x_row, float *out,
                             size_t out_row),
     (rows, columns, x, x_row, out, out_row))
DOOR(void, skein_scale_rows, (size_t rows, size_t columns, const float *x, size_t x_row, float *out, size_t out_row,
                              float factor),
     (rows, columns, x, x_row, out, out_row, factor))
DOOR(void, skein_copy_with_dots, (size_t rows, size_t columns, const float *x, size_t x_row, const float *y,
                                  size_t y_row, float *copy, size_t copy_row, float *dots),
     (rows, columns, x, x_row, y, y_row, copy, copy_row, dots))
DOOR(void, skein_prefetch_rows, (size_t rows, size_t columns, const float *x, size_t x_row), (rows, columns, x, x_row))

DOOR(void, skein_swiglu, (size_t rows, size_t width, const float *gate_up, size_t gate_up_row, float *h, size_t h_row),
     (rows, width, gate_up, gate_up_row, h, h_row))
DOOR(void, skein_swiglu_backward, (size_t rows, size_t width, const float *gate_up, size_t gate_up_row,
                                   const float *d_h, size_t d_h_row, float *d_gate_up, size_t d_gate_up_row, float *h,
                                   size_t h_row),
     (rows, width, gate_up, gate_up_row, d_h, d_h_row, d_gate_up, d_gate_up_row, h, h_row))
DOOR(float, skein_maximum, (size_t count, const float *x), (count, x))
DOOR(float, skein_exponentials, (size_t count, const float *x, float shift, float *out), (count, x, shift, out))

DOOR(void, skein_quantize_row, (const skein_quantizer *quantizer, size_t row, size_t column, size_t count,
                                const float *x, float *out),
     (quantizer, row, column, count, x, out))
DOOR(void, skein_random_row, (const uint32_t key[2], const uint32_t stream[2], size_t row, size_t first,
                              size_t count, uint32_t *out),
     (key, stream, row, first, count, out))
DOOR(void, skein_encode, (const skein_format *format, size_t count, const float *x, void *codes),
     (format, count, x, codes))
DOOR(void, skein_decode, (const skein_format *format, size_t count, const void *codes, float *out),
     (format, count, codes, out))
DOOR(void, skein_pack_nibbles, (size_t count, const uint8_t *codes, uint8_t *packed), (count, codes, packed))
DOOR(void, skein_unpack_nibbles, (size_t count, const uint8_t *packed, uint8_t *codes), (count, packed, codes))
DOOR(float, skein_largest_magnitude, (size_t count, const float *x), (count, x))
DOOR(void, skein_larger_magnitudes, (size_t count, const float *x, float *out), (count, x, out))
DOOR(void, skein_quantize_health, (const skein_quantizer *quantizer, size_t row, size_t column, size_t count,
                                   const float *x, skein_health *health),
     (quantizer, row, column, count, x, health))

DOOR(skein_dot_report, skein_dot_check, (void), ())
DOOR(size_t, skein_dot_words, (int path, size_t k), (path, k))
DOOR(size_t, skein_dot_left_row, (int path, size_t k), (path, k))
DOOR(size_t, skein_dot_right_floats, (size_t n, size_t k), (n, k))
DOOR(void, skein_dot_pack_left, (int path, size_t rows, size_t k, const skein_quantizer *quantizer, size_t row,
                                 size_t column, const float *x, size_t x_row, int transposed, float *out),
     (path, rows, k, quantizer, row, column, x, x_row, transposed, out))
DOOR(void, skein_dot_pack_right, (int path, size_t n, size_t k, size_t first, size_t depth,
                                  const skein_quantizer *quantizer, size_t row, size_t column, const float *b,
                                  size_t b_row, int transposed, float *out),
     (path, n, k, first, depth, quantizer, row, column, b, b_row, transposed, out))
DOOR(void, skein_dot_gemm, (int path, size_t m, size_t n, size_t k, const float *left, const float *right,
                            float factor, const float *row_factors, const float *column_factors, float *c,
                            size_t c_row, int beta),
     (path, m, n, k, left, right, factor, row_factors, column_factors, c, c_row, beta))
DOOR(void, skein_dot_part, (int path, size_t m, size_t n, size_t k, const float *left, size_t left_depth,
                            const float *right, size_t right_depth, size_t first, float *c, size_t c_row, int beta),
     (path, m, n, k, left, left_depth, right, right_depth, first, c, c_row, beta))
DOOR(float, skein_dot_ceiling, (int path, size_t rounds), (path, rounds))
DOOR(size_t, skein_dot_ceiling_flops, (int path), (path))

static const float one = 1;
const skein_quantizer skein_to_bf16 = {
    .format = {.largest = 0x1.FEp127f, .smallest_normal = 1u << 23, .mantissa = 7, .is_cut_float = 1},
    .scales = &one, .block_rows = SIZE_MAX, .block_columns = SIZE_MAX, .scale_row = 1,
};
