// What Wire uses of C: libuv's loops, timers, asyncs and TCP streams, and memory without a name.
#include <uv.h>
#include <malloc.h>
#include <unistd.h>
#include <sys/syscall.h>

// memfd_create(2): a file in memory that goes with its last descriptor and mapping, so that nothing is left of it
// whatever ends the process. -1 with errno where it fails. The C library hides it from Swift.
static inline int skein_memory_file(const char *name) {
    return (int)syscall(SYS_memfd_create, name, 1u /* MFD_CLOEXEC */);
}

// Has the allocator keep blocks of up to 4 MiB, and 32 MiB that were given back, for whoever asks next. Cryptography
// asks for a block for each message; handed back to the system every time, its pages are met anew every time, which
// takes twice as long as sealing (malloc(3), M_TRIM_THRESHOLD).
static inline void skein_keep_freed_memory(void) {
#if defined(__GLIBC__)
    mallopt(M_MMAP_THRESHOLD, 4 << 20);
    mallopt(M_TRIM_THRESHOLD, 32 << 20);
#endif
}
