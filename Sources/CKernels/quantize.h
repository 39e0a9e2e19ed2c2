// Sixteen floats and their bits: what the loops over number formats are written in.
#ifndef SKEIN_QUANTIZE_H
#define SKEIN_QUANTIZE_H
#include "lanes.h"
#include "SkeinFormats.h"

typedef float sixteen __attribute__((ext_vector_type(16)));
typedef uint32_t words __attribute__((ext_vector_type(16)));
typedef int32_t ints __attribute__((ext_vector_type(16)));

INLINE sixteen load16(const float *p) { sixteen v; memcpy(&v, p, sizeof v); return v; }
INLINE void store16(float *p, sixteen v) { memcpy(p, &v, sizeof v); }
INLINE words load_words(const uint32_t *p) { words v; memcpy(&v, p, sizeof v); return v; }

INLINE sixteen with_sign_of(words magnitude, words bits) { return (sixteen)(magnitude | (bits & 0x80000000u)); }

INLINE sixteen round_nearest(const skein_format *f, sixteen y) {
    words bits = (words)y, magnitude = bits & 0x7FFFFFFFu;
    sixteen m = (sixteen)magnitude;
    m = f->largest < m ? f->largest : m;
    if (f->is_cut_float) {
        uint32_t cut = 23 - f->mantissa, low = (1u << cut) - 1;
        words b = (words)m, even = (f->mantissa > 0 ? b >> cut : (words)(b > low)) & 1;
        words rounded = (b + (low >> 1) + even) & ~low;
        return with_sign_of(m == m ? rounded : b, bits);
    }
    words e = (words)m & 0x7F800000u;
    e = e > f->smallest_normal ? e : f->smallest_normal;
    sixteen pusher = (sixteen)(e + ((23 - f->mantissa) << 23));
    return with_sign_of((words)((m + pusher) - pusher), bits);
}

#endif
