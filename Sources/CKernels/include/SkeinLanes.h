// Sixteen lanes of floats: what Swift's element-wise kernels and those of C are written in.
#ifndef SKEIN_LANES_TYPE_H
#define SKEIN_LANES_TYPE_H
#include <stdint.h>

#define SKEIN_LANES static inline __attribute__((always_inline))

/// a * b + c of floats or vectors of them, rounded once where the target has fused multiply-adds. An x86-64 without
/// them would call the C library for each, fifty times slower; there it is rounded twice, and such builds do not
/// train together with others.
#if defined(__x86_64__) && !defined(__FMA__)
#define SKEIN_MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#else
#define SKEIN_MULTIPLY_ADD(a, b, c) __builtin_elementwise_fma(a, b, c)
#endif

/// Sixteen floats; imported by Swift as SIMD16<Float>. The functions below are single instructions that Swift's own
/// vectors turn into dozens: `replacing(with:where:)` moves the lanes through 128-bit registers, `addingProduct` and
/// `squareRoot` go lane by lane.
typedef float skein_lanes __attribute__((ext_vector_type(16)));

/// The larger of each pair of lanes; where one is NaN, b's.
SKEIN_LANES skein_lanes skein_larger(skein_lanes a, skein_lanes b) {
    return a > b ? a : b;
}

/// The smaller of each pair of lanes; where one is NaN, b's.
SKEIN_LANES skein_lanes skein_smaller(skein_lanes a, skein_lanes b) {
    return a < b ? a : b;
}

/// a * b + c, rounded as SKEIN_MULTIPLY_ADD.
SKEIN_LANES skein_lanes skein_fma(skein_lanes a, skein_lanes b, skein_lanes c) {
    return SKEIN_MULTIPLY_ADD(a, b, c);
}

/// Each lane's square root, correctly rounded; NaN of a negative one.
SKEIN_LANES skein_lanes skein_root(skein_lanes x) {
    return __builtin_elementwise_sqrt(x);
}

/// Each lane's nearest whole number, ties to even.
SKEIN_LANES skein_lanes skein_nearest(skein_lanes x) {
    return __builtin_elementwise_roundeven(x);
}

/// x * 2^n for x in [0.7, 1.42] and whole n in [-126, 128], where the result is neither denormal nor infinite. Other
/// lanes receive some number, and NaN where x is NaN.
SKEIN_LANES skein_lanes skein_scaled(skein_lanes x, skein_lanes n) {
#if defined(SKEIN_WIDE) || defined(__AVX512F__)
    return __builtin_ia32_scalefps512_mask(x, n, x, (uint16_t)-1, 4);
#else
    // Adding 1.5 * 2^23 leaves n in the low bits of the mantissa; from there it goes into x's exponent.
    typedef int32_t skein_bits __attribute__((ext_vector_type(16)));
    skein_bits exponent = ((skein_bits)(n + 12582912.0f) - 0x4B400000) << 23;
    return (skein_lanes)((skein_bits)x + exponent);
#endif
}

/// `x` where `key` < `limit`, else `otherwise`, lane by lane.
SKEIN_LANES skein_lanes skein_where_less(skein_lanes key, skein_lanes limit, skein_lanes x, skein_lanes otherwise) {
    return key < limit ? x : otherwise;
}

/// The sum of sixteen lanes, folding halves: (((8 + 8) folded to 4) folded to 2) folded to 1.
SKEIN_LANES float skein_total(skein_lanes x) {
    typedef float eight __attribute__((ext_vector_type(8)));
    typedef float four __attribute__((ext_vector_type(4)));
    eight a = x.lo + x.hi;
    four b = a.lo + a.hi;
    return (b.x + b.z) + (b.y + b.w);
}

/// The largest of sixteen lanes, folding halves.
SKEIN_LANES float skein_largest(skein_lanes x) {
    typedef float eight __attribute__((ext_vector_type(8)));
    typedef float four __attribute__((ext_vector_type(4)));
    eight a = x.lo > x.hi ? x.lo : x.hi;
    four b = a.lo > a.hi ? a.lo : a.hi;
    float even = b.x > b.z ? b.x : b.z, odd = b.y > b.w ? b.y : b.w;
    return even > odd ? even : odd;
}

/// Not 0 where some lane of `a` is above its counterpart in `b`.
SKEIN_LANES int skein_any_greater(skein_lanes a, skein_lanes b) {
    return __builtin_reduce_or(a > b);
}

/// 0, 1, 2, ... 15
SKEIN_LANES skein_lanes skein_positions(void) {
    return (skein_lanes){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
}

/// e to the power of each lane, within 2 ulp on [-87.3, 88]; flushed to zero below, clamped above. NaN gives the value
/// at the upper clamp: whoever feeds NaN in finds it again in the loss or the norm.
///
/// Cody and Waite's reduction: x = n ln 2 + r with |r| <= ln 2 / 2, where ln 2 is split in two so that n times the
/// first part is exact; e^r by the degree-6 minimax polynomial on that interval, times 2^n.
SKEIN_LANES skein_lanes skein_exponential(skein_lanes x) {
    skein_lanes clamped = skein_smaller(x, (skein_lanes)88.37f);
    skein_lanes n = skein_nearest(clamped * 1.44269504f);
    skein_lanes r = skein_fma(n, (skein_lanes)-0.693359375f, clamped);
    r = skein_fma(n, (skein_lanes)2.1219444e-4f, r);
    skein_lanes p = skein_fma(r, (skein_lanes)0.0013847159f, (skein_lanes)0.008374195f);
    p = skein_fma(r, p, (skein_lanes)0.041667938f);
    p = skein_fma(r, p, (skein_lanes)0.1666643f);
    p = skein_fma(r, p, (skein_lanes)0.49999994f);
    p = skein_fma(r, p, (skein_lanes)1.0f);
    p = skein_fma(r, p, (skein_lanes)1.0f);
    return skein_where_less(x, (skein_lanes)-87.3f, (skein_lanes)0.0f, skein_scaled(p, n));
}

/// 1 / (1 + e^-x), within 4 ulp from -88.3 on. Below, it stays at about 4e-39 instead of vanishing.
SKEIN_LANES skein_lanes skein_sigmoid(skein_lanes x) { return 1.0f / (1.0f + skein_exponential(-x)); }

#endif
