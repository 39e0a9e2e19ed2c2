// Counts calls of the allocator, for `bench step`: a step must not allocate. The program's own definitions of
// these names come before the C library's wherever the dynamic linker looks, so every allocation of every
// library passes here and goes on to the C library under its other name. While nobody counts, that costs a
// jump and the test of a flag. All of the family is here: memory from one allocator must not reach another's
// `free`.
#include "CKernels.h"
#include <errno.h>
#include <stdatomic.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SKEIN_FOREIGN_ALLOCATOR 1
#endif
#endif

#if defined(__GLIBC__) && !defined(SKEIN_FOREIGN_ALLOCATOR)

static atomic_int counting;
static atomic_long calls;

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

static inline void note(void) {
    if (atomic_load_explicit(&counting, memory_order_relaxed))
        atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
}

void *malloc(size_t bytes) { note(); return __libc_malloc(bytes); }
void *calloc(size_t count, size_t bytes) { note(); return __libc_calloc(count, bytes); }
void *realloc(void *old, size_t bytes) { note(); return __libc_realloc(old, bytes); }
void *memalign(size_t alignment, size_t bytes) { note(); return __libc_memalign(alignment, bytes); }
void *aligned_alloc(size_t alignment, size_t bytes) { note(); return __libc_memalign(alignment, bytes); }
void free(void *memory) { __libc_free(memory); }

int posix_memalign(void **memory, size_t alignment, size_t bytes) {
    if (alignment % sizeof(void *) != 0 || (alignment & (alignment - 1)) != 0 || alignment == 0) return EINVAL;
    note();
    void *made = __libc_memalign(alignment, bytes);
    if (!made) return ENOMEM;
    *memory = made;
    return 0;
}

void skein_count_allocations(void) {
    atomic_store(&calls, 0);
    atomic_store(&counting, 1);
}

long skein_allocations(void) {
    atomic_store(&counting, 0);
    return atomic_load(&calls);
}

#else

void skein_count_allocations(void) {}
long skein_allocations(void) { return -1; }

#endif
