#ifndef SKEIN_CKERNELS_H
#define SKEIN_CKERNELS_H
#include <stddef.h>
#include <stdint.h>

/// One bit for each CPU feature that this build was compiled to use; the order is cpu_check.c's.
extern const uint32_t skein_compiled_features;

#endif
