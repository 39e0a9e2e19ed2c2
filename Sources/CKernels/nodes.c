// The one call to the kernel about nodes of memory, which the C library leaves to libnuma.
#include "CKernels.h"
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#define INTERLEAVE 3
#endif

void skein_interleave_memory(void *memory, size_t bytes, const unsigned long *mask, unsigned long bits) {
#if defined(__linux__) && defined(SYS_mbind)
    syscall(SYS_mbind, memory, bytes, INTERLEAVE, mask, bits, 0);
#else
    (void)memory, (void)bytes, (void)mask, (void)bits;
#endif
}
