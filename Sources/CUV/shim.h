// What Wire uses of C: libuv's loops, timers, asyncs and TCP streams, and memory without a name.
#define _GNU_SOURCE
#include <uv.h>
#include <unistd.h>
#include <sys/syscall.h>

// memfd_create(2): a file in memory that goes with its last descriptor and mapping, so that nothing is left of it
// whatever ends the process. -1 with errno where it fails. The C library hides it from Swift.
static inline int skein_memory_file(const char *name) {
    return (int)syscall(SYS_memfd_create, name, 1u /* MFD_CLOEXEC */);
}
