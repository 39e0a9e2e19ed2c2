// Numbers of a small format as bits, so that a tensor can live in 8 of them.
//
// In the normal range a code is the float's own bits with the exponent moved and the mantissa cut; below the smallest
// normal number it is how many steps the value is from zero, for which a float's conversion to a whole number will do.
#include "quantize.h"

// Where the code of a normal number comes from its float: bits >> (23 - M), less this.
INLINE uint32_t moved(const skein_format *f) {
    return ((f->smallest_normal >> 23) - 1) << f->mantissa;
}

// 1 / step and step of the range below the smallest normal number, 2^(emin - M).
INLINE float steps_in_one(const skein_format *f) {
    uint32_t bits = ((254 + f->mantissa) << 23) - f->smallest_normal;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
INLINE float smallest_step(const skein_format *f) {
    uint32_t bits = f->smallest_normal - (f->mantissa << 23);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE words code(const skein_format *f, sixteen x) {
    words bits = (words)x, magnitude = bits & 0x7FFFFFFFu, sign = bits >> 31;
    words coded = magnitude >> (23 - f->mantissa);
    if (!f->is_cut_float) {
        sixteen below = (sixteen)magnitude < (sixteen)f->smallest_normal ? (sixteen)magnitude : (sixteen)0;
        words steps = (words)__builtin_convertvector(below * steps_in_one(f), ints);
        coded = magnitude < f->smallest_normal ? steps : coded - moved(f);
    }
    words special = magnitude > 0x7F800000u ? (words)f->nan_code : (words)f->infinity_code;
    words odd = special != 0 ? special : (words)f->largest_code;
    coded = magnitude >= 0x7F800000u ? odd : coded;
    if (f->is_integer) return (sign != 0 ? -coded : coded) & ((1u << f->bits) - 1);
    return coded | sign << (f->bits - 1);
}

INLINE sixteen value(const skein_format *f, words codes) {
    words sign = codes >> (f->bits - 1) << 31;
    if (f->is_integer) {
        ints whole = (ints)(codes << (32 - f->bits)) >> (int)(32 - f->bits);
        return __builtin_convertvector(whole, sixteen);
    }
    words coded = codes & ((1u << (f->bits - 1)) - 1), magnitude = coded << (23 - f->mantissa);
    if (!f->is_cut_float) {
        sixteen steps = __builtin_convertvector((ints)coded, sixteen) * smallest_step(f);
        magnitude = coded < (1u << f->mantissa) ? (words)steps : (coded + moved(f)) << (23 - f->mantissa);
    }
    words special = coded == f->infinity_code ? (words)0x7F800000u : (words)0x7FC00000u;
    return (sixteen)((coded > f->largest_code ? special : magnitude) | sign);
}

// Codes go between memory and lanes as bytes or as two bytes; the last few through memory of their own.
#define CODEC(name, code_type)                                                                             \
    typedef code_type name##s __attribute__((ext_vector_type(16)));                                        \
    static void encode_##name(const skein_format *f, size_t count, const float *x, code_type *codes) {     \
        skein_format format = *f;                                                                          \
        for (size_t j = 0; j < count; j += 16) {                                                           \
            float rest[16] = {0};                                                                          \
            size_t part = smaller(16, count - j);                                                          \
            if (part < 16) memcpy(rest, x + j, part * sizeof *x);                                          \
            name##s made = __builtin_convertvector(code(&format, load16(part < 16 ? rest : x + j)), name##s); \
            if (part == 16) memcpy(codes + j, &made, sizeof made);                                         \
            else memcpy(codes + j, &made, part * sizeof *codes);                                           \
        }                                                                                                  \
    }                                                                                                      \
    static void decode_##name(const skein_format *f, size_t count, const code_type *codes, float *out) {   \
        skein_format format = *f;                                                                          \
        for (size_t j = 0; j < count; j += 16) {                                                           \
            name##s read = 0;                                                                              \
            size_t part = smaller(16, count - j);                                                          \
            if (part == 16) memcpy(&read, codes + j, sizeof read);                                         \
            else memcpy(&read, codes + j, part * sizeof *codes);                                           \
            sixteen made = value(&format, __builtin_convertvector(read, words));                           \
            if (part == 16) store16(out + j, made);                                                        \
            else memcpy(out + j, &made, part * sizeof *out);                                               \
        }                                                                                                  \
    }
CODEC(byte, uint8_t)
CODEC(pair, uint16_t)

void skein_encode(const skein_format *f, size_t count, const float *x, void *codes) {
    if (f->bits > 8) encode_pair(f, count, x, codes);
    else encode_byte(f, count, x, codes);
}

void skein_decode(const skein_format *f, size_t count, const void *codes, float *out) {
    if (f->bits > 8) decode_pair(f, count, codes, out);
    else decode_byte(f, count, codes, out);
}

void skein_pack_nibbles(size_t count, const uint8_t *codes, uint8_t *packed) {
    for (size_t j = 0; j < count / 2; j++) packed[j] = (uint8_t)((codes[2 * j] & 15) | codes[2 * j + 1] << 4);
    if (count % 2) packed[count / 2] = codes[count - 1] & 15;
}

void skein_unpack_nibbles(size_t count, const uint8_t *packed, uint8_t *codes) {
    for (size_t j = 0; j < count / 2; j++) {
        codes[2 * j] = packed[j] & 15;
        codes[2 * j + 1] = packed[j] >> 4;
    }
    if (count % 2) codes[count - 1] = packed[count / 2] & 15;
}
