// What the matrix kernels share: the floats of one register, and how wide a strip of packed columns is. (The narrow
// copy has the wide registers too where the package is built for a CPU that has them.)
#ifndef SKEIN_LANES_H
#define SKEIN_LANES_H
#include "copy.h"
#include <string.h>

#if defined(SKEIN_WIDE) || defined(__AVX512F__)
#define WIDTH 16
#define WIDEST 4
#elif defined(__x86_64__)
#define WIDTH 8
#define WIDEST 2
#else
#define WIDTH 4
#define WIDEST 4
#endif

// A strip is as wide as the widest tile of registers.
#define STRIP_WIDTH (WIDEST * WIDTH)

typedef float lanes __attribute__((ext_vector_type(WIDTH)));
#define INLINE static inline __attribute__((always_inline))

INLINE lanes load(const float *p) { lanes v; memcpy(&v, p, sizeof v); return v; }
INLINE void store(float *p, lanes v) { memcpy(p, &v, sizeof v); }
INLINE size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

#endif
