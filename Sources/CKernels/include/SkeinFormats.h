#ifndef SKEIN_FORMATS_H
#define SKEIN_FORMATS_H
#include <stddef.h>
#include <stdint.h>

/// The values of a number format of E exponent bits and M mantissa bits, as the loops need them. `Tensor/Formats` makes
/// one from a name.
///
/// E from 1 to 8, M from 0 to 10: sign, exponent, mantissa, with subnormals. Or E = 0: whole numbers up to 2^M - 1,
/// which are the grid of a format that is subnormal everywhere.
typedef struct {
    /// The largest magnitude. Everything beyond becomes it, infinities as well (OCP's saturating conversion).
    float largest;
    /// Bits of the smallest normal number, as a float; of 2^M for whole numbers.
    uint32_t smallest_normal;
    /// M.
    uint32_t mantissa;
    /// Whether E is 8: then the format is a float that lost its last bits, and has floats' subnormals.
    uint32_t is_cut_float;
    /// The code of `largest` without its sign, and those of infinity and of not-a-number. A format that lacks one has
    /// 0 there, which is no such code in any format.
    uint32_t largest_code, infinity_code, nan_code;
    /// All bits of a code, sign included.
    uint32_t bits;
    /// Whether codes are two's complement (E = 0) and not sign and magnitude.
    uint32_t is_integer;
} skein_format;

/// How the elements of one tensor are quantised: element (r, c) is rounded to `format` after it was multiplied by
/// scales[r / block_rows * scale_row + c / block_columns], and then multiplied by `folds` at the same place, or left
/// as it is where that is null.
typedef struct {
    skein_format format;
    const float *scales, *folds;
    size_t block_rows, block_columns, scale_row;
    /// 0: round to nearest, ties to even. Else stochastic: the word of (key, stream, first_row + r, c).
    int is_stochastic;
    uint32_t key[2], stream[2];
    size_t first_row;
} skein_quantizer;

/// out[j] = element (row, column + j), quantised, for j below `count`. `x` is where element (row, column) lies.
/// NaN stays NaN. x and out may be the same.
void skein_quantize_row(const skein_quantizer *quantizer, size_t row, size_t column, size_t count,
                        const float *x, float *out);

/// The random words of a row, one for each of `count` columns from `first` on: word (c / 16) % 4 of Philox4x32-10's
/// block (c / 64 * 16 + c % 16, row, stream), under `key`. It is CounterRNG's block at counter row * 2^32 + that.
void skein_random_row(const uint32_t key[2], const uint32_t stream[2], size_t row, size_t first, size_t count,
                      uint32_t *out);

/// Codes of `count` values that lie on the format's grid, one in each byte, or in each two bytes where the format has
/// more than eight bits. A NaN becomes the format's; where it has none, the largest number.
void skein_encode(const skein_format *format, size_t count, const float *x, void *codes);

/// The values of `count` codes: what skein_encode was given, bit for bit (whole numbers lose the sign of a zero).
void skein_decode(const skein_format *format, size_t count, const void *codes, float *out);

/// Codes of four bits, two in a byte, the even one in the low half. An odd count leaves the last byte's high half 0.
void skein_pack_nibbles(size_t count, const uint8_t *codes, uint8_t *packed);
void skein_unpack_nibbles(size_t count, const uint8_t *packed, uint8_t *codes);

/// The largest magnitude of `count` floats; infinity or NaN where there is one.
float skein_largest_magnitude(size_t count, const float *x);

/// out[j] = the largest magnitude of out[j] and x[j], likewise.
void skein_larger_magnitudes(size_t count, const float *x, float *out);

/// What quantising did to a row: sums over its elements. All counts are exact up to 2^53 elements.
typedef struct {
    /// Sums of squares of what went in and of what is lost, in Double.
    double signal, noise;
    /// Magnitudes above the format's largest; what became 0 and was not; infinities and not-a-numbers (which are in
    /// none of the other sums).
    double saturated, flushed, not_finite;
    /// The largest finite magnitude that went in.
    float largest;
} skein_health;

/// Adds a row to `health`: element (row, column + j) for j below `count`, before and after quantising. What is lost is
/// measured at the input's own scale. `folds` are ignored.
void skein_quantize_health(const skein_quantizer *quantizer, size_t row, size_t column, size_t count,
                           const float *x, skein_health *health);

#endif
