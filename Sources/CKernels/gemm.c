// Matrix products: register tiles for small matrices in cache and, further down, packing for large ones.
//
// Swift can say the arithmetic but not hold 24 accumulators in registers across a loop: arrays of vectors go through
// memory there, and 24 named variables are no code to read. Here a tile's shape is a compile-time constant and the
// compiler unrolls it.
//
// A tile is ROWS x (WIDTH * VECTORS) of C, where WIDTH is the floats of one register. Per step of k it loads VECTORS
// vectors of B, broadcasts ROWS scalars of A, and issues ROWS * VECTORS fused multiply-adds, which have to cover two
// units of latency four, and to leave registers for B and the broadcast: 24 of 32 registers (6x4, 8x3, 12x2), or 12
// of the 16 that AVX2 has (6x2). A tile that does not fit its registers runs at a third of the speed.
#include "lanes.h"

// Rows of A that lie where they may are reached three from one pointer, without and with once and twice the distance
// between rows: a pointer for each would not leave enough registers, and sums of distances cost additions beside the
// multiply-adds. The compiler is kept from seeing that the pointers belong together, or it goes back to the sums.
#if defined(__x86_64__)
#define APART(pointer) __asm__("" : "+r"(pointer))
#else
#define APART(pointer)
#endif

INLINE void tile(const int rows, const int vectors, size_t k,
                 const float *restrict a, size_t a_row, size_t a_column,
                 const float *restrict b, size_t b_row, float *restrict c, size_t c_row, int beta) {
    lanes sum[12][4];
    const float *three[4];
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i += 3) {
        three[i / 3] = a + i * a_row;
        if (!__builtin_constant_p(a_row)) APART(three[i / 3]);
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
        for (int j = 0; j < vectors; j++) sum[i][j] = beta ? load(c + i * c_row + WIDTH * j) : (lanes)0;
    for (size_t p = 0; p < k; p++) {
        lanes right[4];
#pragma clang loop unroll(full)
        for (int j = 0; j < vectors; j++) right[j] = load(b + WIDTH * j);
#pragma clang loop unroll(full)
        for (int i = 0; i < rows; i++) {
            lanes left = three[i / 3][i % 3 * a_row];
#pragma clang loop unroll(full)
            for (int j = 0; j < vectors; j++) sum[i][j] = SKEIN_MULTIPLY_ADD(left, right[j], sum[i][j]);
        }
#pragma clang loop unroll(full)
        for (int i = 0; i < rows; i += 3) three[i / 3] += a_column;
        b += b_row;
    }
#pragma clang loop unroll(full)
    for (int i = 0; i < rows; i++)
#pragma clang loop unroll(full)
        for (int j = 0; j < vectors; j++) store(c + i * c_row + WIDTH * j, sum[i][j]);
}

// All m rows of a column strip of WIDTH * vectors: full tiles of `rows`, then the rest by fours and ones. A single row
// waits for its own multiply-adds, so where two would be left, one full tile less makes the rest two fours.
#define STRIP(rows, vectors)                                                                             \
    static void strip_##vectors(size_t m, size_t k, const float *a, size_t a_row, size_t a_column,       \
                                const float *b, size_t b_row, float *c, size_t c_row, int beta) {        \
        size_t i = 0, full = m / rows;                                                                   \
        if (rows == 6 && m % 6 == 2 && full > 0) full--;                                                 \
        for (; full > 0; full--, i += rows)                                                              \
            tile(rows, vectors, k, a + i * a_row, a_row, a_column, b, b_row, c + i * c_row, c_row, beta); \
        for (; i + 4 <= m; i += 4)                                                                       \
            tile(4, vectors, k, a + i * a_row, a_row, a_column, b, b_row, c + i * c_row, c_row, beta);   \
        for (; i < m; i++)                                                                               \
            tile(1, vectors, k, a + i * a_row, a_row, a_column, b, b_row, c + i * c_row, c_row, beta);   \
    }
STRIP(12, 1)
#if WIDEST == 4
STRIP(6, 4)
STRIP(8, 3)
STRIP(12, 2)
#else
STRIP(6, 2)
#endif

// The same where A was copied into panels (see pack_panels): tiles of PANEL rows, then fours and ones, each with its
// own panel.
#define PANEL 6

static size_t panel_rows(size_t m) { return (m % PANEL == 2 && m > PANEL ? m / PANEL - 1 : m / PANEL) * PANEL; }

#define PANELS(vectors)                                                                                  \
    static void panels_##vectors(size_t m, size_t k, const float *a, const float *b, size_t b_row,       \
                                 float *c, size_t c_row, int beta) {                                     \
        size_t i = 0, whole = panel_rows(m);                                                             \
        for (; i < whole; i += PANEL)                                                                    \
            tile(PANEL, vectors, k, a + i * k, 1, PANEL, b, b_row, c + i * c_row, c_row, beta);          \
        for (; i + 4 <= m; i += 4)                                                                       \
            tile(4, vectors, k, a + i * k, 1, 4, b, b_row, c + i * c_row, c_row, beta);                  \
        for (; i < m; i++) tile(1, vectors, k, a + i * k, 1, 1, b, b_row, c + i * c_row, c_row, beta);   \
    }
PANELS(1)
PANELS(2)
#if WIDEST == 4
PANELS(3)
PANELS(4)
#endif

// Columns past the last full vector, one chain of multiply-adds an element, in the same order.
static void columns_rest(size_t m, size_t n, size_t k, const float *a, size_t a_row, size_t a_column,
                         const float *b, size_t b_row, float *c, size_t c_row, int beta) {
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            float sum = beta ? c[i * c_row + j] : 0;
            for (size_t p = 0; p < k; p++)
                sum = SKEIN_MULTIPLY_ADD(a[i * a_row + p * a_column], b[p * b_row + j], sum);
            c[i * c_row + j] = sum;
        }
}

void skein_tile_gemm(size_t m, size_t n, size_t k,
                     const float *a, size_t a_row, size_t a_column,
                     const float *b, size_t b_row,
                     float *c, size_t c_row, int beta) {
    size_t j = 0;
#define TAKE(vectors) strip_##vectors(m, k, a, a_row, a_column, b + j, b_row, c + j, c_row, beta)
    for (; j + WIDEST * WIDTH <= n; j += WIDEST * WIDTH)
#if WIDEST == 4
        TAKE(4);
    if (j + 3 * WIDTH <= n) { TAKE(3); j += 3 * WIDTH; }
    if (j + 2 * WIDTH <= n) { TAKE(2); j += 2 * WIDTH; }
#else
        TAKE(2);
#endif
    if (j + WIDTH <= n) { TAKE(1); j += WIDTH; }
    if (j < n) columns_rest(m, n - j, k, a, a_row, a_column, b + j, b_row, c + j, c_row, beta);
}

// Large products: the same tiles on copies that lie as the tiles read them (Goto and van de Geijn, "Anatomy of
// High-Performance Matrix Multiplication", 2008). B goes strip by strip: STRIP_DEPTH steps of k for the columns of
// the widest tile, at most 128 KiB, which stay in cache while all rows of A pass by. A's rows are read where they
// lie, for each is contiguous in k. A transposed A, of which a tile wants a few floats of each row, is copied into
// panels, BLOCK_ROWS columns at a time, 192 KiB that stay in the second cache while all strips pass by. Depth by depth
// C is read and added to, which continues each element's chain.
#define STRIP_DEPTH 512
#define BLOCK_ROWS 96

// Rows of a wide matrix lie on pages of their own, so no prefetcher foresees the next one: it is asked for eight rows
// ahead. (Past the end that is a wish for memory which nobody reads; the address goes through an integer, where it may
// be anything.)
INLINE void foresee(const float *x, size_t x_row, size_t columns) {
    for (size_t j = 0; j < columns; j += 16)
        __builtin_prefetch((const void *)((uintptr_t)(x + j) + 8 * x_row * sizeof *x));
}

static void copy_block(size_t rows, size_t columns, const float *x, size_t x_row, float *out, size_t out_row) {
    for (size_t i = 0; i < rows; i++) {
        const float *from = x + i * x_row;
        float *to = out + i * out_row;
        size_t j = 0;
        foresee(from, x_row, columns);
        for (; j + 16 <= columns; j += 16) memcpy(to + j, from + j, 16 * sizeof *to);
        for (; j < columns; j++) to[j] = from[j];
    }
}

// The transpose of x, depth x rows, as panels: for each PANEL of its rows, what a tile broadcasts in one step of k lies
// side by side. (In a plain copy each step would meet a cache line of its own, and 512 of them are the whole first
// cache: 75 of 93 GFLOP/s.)
static void pack_panels(size_t depth, size_t rows, const float *x, size_t x_row, float *out) {
    size_t whole = panel_rows(rows);
    for (size_t p = 0; p < depth; p++) {
        const float *from = x + p * x_row;
        size_t i = 0;
        foresee(from, x_row, rows);
        // Where a few floats lie across two lines, the second would be missed: 40 of 150 us.
        if (rows % 16 != 0) foresee(from + rows - 1, x_row, 1);
        for (; i < whole; i += PANEL) memcpy(out + i * depth + p * PANEL, from + i, PANEL * sizeof *out);
        for (; i + 4 <= rows; i += 4) memcpy(out + i * depth + p * 4, from + i, 4 * sizeof *out);
        for (; i < rows; i++) out[i * depth + p] = from[i];
    }
}

// An A as a product meets it: rows where they lie, or panels.
typedef struct { const float *from; size_t row; int in_panels; } left_operand;

// m rows by `vectors` whole vectors of columns.
static void vectors_product(int vectors, size_t m, size_t k, left_operand a, const float *strip,
                            float *c, size_t c_row, int beta) {
    if (!a.in_panels) {
        skein_tile_gemm(m, (size_t)vectors * WIDTH, k, a.from, a.row, 1, strip, STRIP_WIDTH, c, c_row, beta);
        return;
    }
    switch (vectors) {
    case 1: panels_1(m, k, a.from, strip, STRIP_WIDTH, c, c_row, beta); break;
    case 2: panels_2(m, k, a.from, strip, STRIP_WIDTH, c, c_row, beta); break;
#if WIDEST == 4
    case 3: panels_3(m, k, a.from, strip, STRIP_WIDTH, c, c_row, beta); break;
    case 4: panels_4(m, k, a.from, strip, STRIP_WIDTH, c, c_row, beta); break;
#endif
    }
}

// The columns of C after the last whole vector: the strip is wide enough for whole ones, C is not. Rows go by 48, a
// number of whole panels.
static void narrow_columns(size_t m, size_t n, size_t k, left_operand a, const float *strip,
                           float *c, size_t c_row, int beta) {
    float wide[48 * WIDTH] = {0};
    for (size_t i = 0, rows; i < m; i += rows) {
        rows = smaller(m - i, 48);
        if (beta) copy_block(rows, n, c + i * c_row, c_row, wide, WIDTH);
        left_operand part = {a.from + i * (a.in_panels ? k : a.row), a.row, a.in_panels};
        vectors_product(1, rows, k, part, strip, wide, WIDTH, beta);
        copy_block(rows, n, wide, WIDTH, c + i * c_row, c_row);
    }
}

// C's m rows of one strip, n columns of which are C's; the strip's columns after those are zeros up to a whole vector.
static void strip_product(size_t m, size_t n, size_t k, left_operand a, const float *strip,
                          float *c, size_t c_row, int beta) {
    int whole = (int)(n / WIDTH);
    if (whole > 0) vectors_product(whole, m, k, a, strip, c, c_row, beta);
    if (n % WIDTH) narrow_columns(m, n % WIDTH, k, a, strip + whole * WIDTH, c + whole * WIDTH, c_row, beta);
}

// A strip of op(B): k rows of STRIP_WIDTH columns, of which `columns` are B's.
static void pack_strip(size_t columns, size_t k, const float *b, size_t b_row, int transpose_b, float *strip) {
    if (columns % WIDTH) memset(strip, 0, k * STRIP_WIDTH * sizeof *strip);
    if (transpose_b) skein_transpose(columns, k, b, b_row, strip, STRIP_WIDTH);
    else copy_block(k, columns, b, b_row, strip, STRIP_WIDTH);
}

// Without `packed` each strip of B is made on the stack when it is met, and again for each block of a transposed A.
static void product(size_t m, size_t n, size_t k, const float *a, size_t a_row, int transpose_a,
                    const float *b, size_t b_row, int transpose_b, const float *packed,
                    float *c, size_t c_row, int beta) {
    _Alignas(64) float strip[STRIP_DEPTH * STRIP_WIDTH], panels[STRIP_DEPTH * BLOCK_ROWS];
    if (k == 0 && !beta)
        for (size_t i = 0; i < m; i++) memset(c + i * c_row, 0, n * sizeof *c);
    for (size_t p = 0, depth; p < k; p += depth, beta = 1) {
        depth = smaller(k - p, STRIP_DEPTH);
        for (size_t i = 0, rows; i < m; i += rows) {
            rows = transpose_a ? smaller(m - i, BLOCK_ROWS) : m;
            left_operand left = {transpose_a ? panels : a + p, a_row, transpose_a};
            if (transpose_a) pack_panels(depth, rows, a + p * a_row + i, a_row, panels);
            for (size_t j = 0, columns; j < n; j += columns) {
                columns = smaller(n - j, STRIP_WIDTH);
                if (!packed)
                    pack_strip(columns, depth, transpose_b ? b + j * b_row + p : b + p * b_row + j, b_row,
                               transpose_b, strip);
                strip_product(rows, columns, depth, left, packed ? packed + j * k + p * STRIP_WIDTH : strip,
                              c + i * c_row + j, c_row, beta);
            }
        }
    }
}

void skein_gemm(size_t m, size_t n, size_t k, const float *a, size_t a_row, int transpose_a,
                const float *b, size_t b_row, int transpose_b, float *c, size_t c_row, int beta) {
    product(m, n, k, a, a_row, transpose_a, b, b_row, transpose_b, 0, c, c_row, beta);
}

size_t skein_strip_width(void) { return STRIP_WIDTH; }

// Strips with all of the depth: a product finds its B packed then, however many tiles A is cut into.
void skein_pack(size_t n, size_t k, size_t first, size_t depth, const float *b, size_t b_row, int transpose_b,
                float *out) {
    const float *from = transpose_b ? b + first : b + first * b_row;
    for (size_t j = 0; j < n; j += STRIP_WIDTH)
        pack_strip(smaller(n - j, STRIP_WIDTH), depth, transpose_b ? from + j * b_row : from + j, b_row, transpose_b,
                   out + j * k + first * STRIP_WIDTH);
}

void skein_gemm_packed(size_t m, size_t n, size_t k, const float *a, size_t a_row, int transpose_a,
                       const float *packed, float *c, size_t c_row, int beta) {
    product(m, n, k, a, a_row, transpose_a, 0, 0, 0, packed, c, c_row, beta);
}
