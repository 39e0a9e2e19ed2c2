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

#endif
