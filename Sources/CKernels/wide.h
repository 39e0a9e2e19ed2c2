// Compiles what follows, up to the end of the file that includes this, for AVX-512: what Skylake's servers, Ice Lake,
// and Zen 4 and later have. System headers come first, since theirs are nobody's kernels.
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#define SKEIN_WIDE 1
