// Element-wise kernels that compute more than they read: an exponential for each element. At AVX2's width they would
// cost 3 % of a small model's step on a CPU with AVX-512, so they are here, where both widths are compiled.
//
// No multiplication and addition are joined by the compiler: a sum has one rounding in every build.
#include "copy.h"
#include <string.h>
#pragma STDC FP_CONTRACT OFF

#define INLINE static inline __attribute__((always_inline))
#define LANES (sizeof(skein_lanes) / sizeof(float))

// `count` lanes, LANES at most. The others read as zero, and are not written.
INLINE skein_lanes load(const float *p, size_t count) {
    skein_lanes v = 0;
    if (count == LANES) memcpy(&v, p, sizeof v);
    else memcpy(&v, p, count * sizeof *p);
    return v;
}

INLINE void store(float *p, skein_lanes v, size_t count) {
    if (count == LANES) memcpy(p, &v, sizeof v);
    else memcpy(p, &v, count * sizeof *p);
}

INLINE void forward(const float *gate, const float *up, float *h, size_t count) {
    skein_lanes g = load(gate, count);
    store(h, g * skein_sigmoid(g) * load(up, count), count);
}

void skein_swiglu(size_t rows, size_t width, const float *gate_up, size_t gate_up_row, float *h, size_t h_row) {
    for (size_t t = 0; t < rows; t++) {
        const float *gate = gate_up + t * gate_up_row, *up = gate + width;
        float *out = h + t * h_row;
        size_t i = 0;
        for (; i + LANES <= width; i += LANES) forward(gate + i, up + i, out + i, LANES);
        if (i < width) forward(gate + i, up + i, out + i, width - i);
    }
}

INLINE void backward(const float *gate, const float *up, const float *d_h, float *d_gate, float *d_up, float *h,
                     size_t count) {
    skein_lanes g = load(gate, count), u = load(up, count), d = load(d_h, count);
    skein_lanes s = skein_sigmoid(g), silu = g * s;
    store(h, silu * u, count);
    store(d_up, d * silu, count);
    store(d_gate, d * u * (s + silu * (1.0f - s)), count);
}

void skein_swiglu_backward(size_t rows, size_t width, const float *gate_up, size_t gate_up_row, const float *d_h,
                           size_t d_h_row, float *d_gate_up, size_t d_gate_up_row, float *h, size_t h_row) {
    for (size_t t = 0; t < rows; t++) {
        const float *gate = gate_up + t * gate_up_row, *up = gate + width, *d = d_h + t * d_h_row;
        float *d_gate = d_gate_up + t * d_gate_up_row, *d_up = d_gate + width, *out = h + t * h_row;
        size_t i = 0;
        for (; i + LANES <= width; i += LANES) backward(gate + i, up + i, d + i, d_gate + i, d_up + i, out + i, LANES);
        if (i < width) backward(gate + i, up + i, d + i, d_gate + i, d_up + i, out + i, width - i);
    }
}

float skein_maximum(size_t count, const float *x) {
    skein_lanes best = -__builtin_inff();
    size_t i = 0;
    for (; i + LANES <= count; i += LANES) best = skein_larger(best, load(x + i, LANES));
    float largest = skein_largest(best);
    for (; i < count; i++) largest = x[i] > largest ? x[i] : largest;
    return largest;
}

float skein_exponentials(size_t count, const float *x, float shift, float *out) {
    skein_lanes sum = 0;
    size_t i = 0;
    if (out) {
        for (; i + LANES <= count; i += LANES) {
            skein_lanes e = skein_exponential(load(x + i, LANES) - shift);
            store(out + i, e, LANES);
            sum += e;
        }
    } else {
        for (; i + LANES <= count; i += LANES) sum += skein_exponential(load(x + i, LANES) - shift);
    }
    if (i == count) return skein_total(sum);
    // Lanes past the end read as zero, and each would add e^(-shift).
    skein_lanes e = skein_exponential(load(x + i, count - i) - shift), rest = 0;
    memcpy(&rest, &e, (count - i) * sizeof *x);
    if (out) memcpy(out + i, &e, (count - i) * sizeof *x);
    return skein_total(sum + rest);
}
