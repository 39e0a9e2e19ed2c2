// Runs before main, in code compiled for the plainest CPU of the architecture: compares what this CPU
// has with what the rest of the program was compiled for, and says what is missing in one line. Without
// it a binary carried to an older machine dies of an illegal instruction somewhere in the first kernel.
#include <stdint.h>
#include <string.h>
#include <unistd.h>

/// Defined by CKernels, which is compiled with the program's -march (see CKernels/features.c).
/// Weak, so that a test of Base alone links without it.
extern const uint32_t skein_compiled_features __attribute__((weak));

#if defined(__x86_64__)
static const char *const names[] = {"avx", "fma", "avx2", "bmi2", "avx512f", "avx512bw", "avx512vl", "avx512dq",
                                    "avx512bf16", "avx512vnni"};

static uint32_t cpu_features(void) {
    uint32_t bits = 0;
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx")) bits |= 1u << 0;
    if (__builtin_cpu_supports("fma")) bits |= 1u << 1;
    if (__builtin_cpu_supports("avx2")) bits |= 1u << 2;
    if (__builtin_cpu_supports("bmi2")) bits |= 1u << 3;
    if (__builtin_cpu_supports("avx512f")) bits |= 1u << 4;
    if (__builtin_cpu_supports("avx512bw")) bits |= 1u << 5;
    if (__builtin_cpu_supports("avx512vl")) bits |= 1u << 6;
    if (__builtin_cpu_supports("avx512dq")) bits |= 1u << 7;
    if (__builtin_cpu_supports("avx512bf16")) bits |= 1u << 8;
    if (__builtin_cpu_supports("avx512vnni")) bits |= 1u << 9;
    return bits;
}

static void say(const char *text) {
    ssize_t ignored = write(2, text, strlen(text));
    (void)ignored;
}

__attribute__((constructor(101))) static void check_cpu(void) {
    if (!&skein_compiled_features) return;
    uint32_t missing = skein_compiled_features & ~cpu_features();
    if (!missing) return;
    say("skein: this program was built for a CPU with");
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (missing >> i & 1) { say(" "); say(names[i]); }
    say(", which this machine lacks; rebuild here, or with SKEIN_MARCH=x86-64-v3 to carry it around\n");
    _exit(2);
}
#endif
