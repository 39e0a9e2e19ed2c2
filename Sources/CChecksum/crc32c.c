// CRC-32C with the CPU's instruction, three streams at a time, and a slicing-by-8 table otherwise.
//
// The crc32 instruction has a latency of three cycles and a throughput of one, so one stream runs at a
// third of the unit's speed. Three neighbouring blocks are therefore summed independently and joined:
// the CRC of A|B is shift(crc(A), |B|) xor crc(B), where shift multiplies by x^(8|B|) modulo the
// polynomial. The shift is linear over GF(2), so for one fixed block length it is four 256-entry tables.
#include "CChecksum.h"
#include <pthread.h>
#include <string.h>

#define POLYNOMIAL 0x82F63B78u
#define BLOCK 2048

static uint32_t slice[8][256];
static uint32_t shift_block[4][256];

// a * b modulo the polynomial, bits reflected: bit 31 is x^0.
static uint32_t multiply(uint32_t a, uint32_t b) {
    uint32_t product = 0;
    for (uint32_t bit = 0x80000000u; bit; bit >>= 1) {
        if (a & bit) product ^= b;
        b = (b & 1) ? (b >> 1) ^ POLYNOMIAL : b >> 1;
    }
    return product;
}

static void build_tables(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++) value = (value & 1) ? (value >> 1) ^ POLYNOMIAL : value >> 1;
        slice[0][i] = value;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int k = 1; k < 8; k++)
            slice[k][i] = (slice[k - 1][i] >> 8) ^ slice[0][slice[k - 1][i] & 255];
    uint32_t power = 0x80000000u;                       // x^0
    for (int bit = 0; bit < 8 * BLOCK; bit++) power = (power & 1) ? (power >> 1) ^ POLYNOMIAL : power >> 1;
    for (uint32_t i = 0; i < 256; i++)
        for (int k = 0; k < 4; k++) shift_block[k][i] = multiply(power, i << (8 * k));
}

static pthread_once_t once = PTHREAD_ONCE_INIT;

uint32_t skein_crc32c_portable(uint32_t crc, const void *bytes, size_t count) {
    pthread_once(&once, build_tables);
    const uint8_t *p = bytes;
    crc = ~crc;
    while (count >= 8) {
        uint32_t low, high;
        memcpy(&low, p, 4);
        memcpy(&high, p + 4, 4);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        low = __builtin_bswap32(low);
        high = __builtin_bswap32(high);
#endif
        low ^= crc;
        crc = slice[7][low & 255] ^ slice[6][(low >> 8) & 255] ^ slice[5][(low >> 16) & 255] ^ slice[4][low >> 24]
            ^ slice[3][high & 255] ^ slice[2][(high >> 8) & 255] ^ slice[1][(high >> 16) & 255] ^ slice[0][high >> 24];
        p += 8;
        count -= 8;
    }
    while (count--) crc = (crc >> 8) ^ slice[0][(crc ^ *p++) & 255];
    return ~crc;
}

#if defined(__x86_64__)
#include <nmmintrin.h>
#define HARDWARE __attribute__((target("sse4.2")))
#define STEP8(crc, word) ((uint32_t)_mm_crc32_u64((crc), (word)))
#define STEP1(crc, byte) _mm_crc32_u8((crc), (byte))
static int has_instruction(void) { return __builtin_cpu_supports("sse4.2"); }
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#define HARDWARE
#define STEP8(crc, word) __crc32cd((crc), (word))
#define STEP1(crc, byte) __crc32cb((crc), (byte))
static int has_instruction(void) { return 1; }
#endif

#ifdef HARDWARE
static inline uint32_t shifted(uint32_t crc) {
    return shift_block[0][crc & 255] ^ shift_block[1][(crc >> 8) & 255]
         ^ shift_block[2][(crc >> 16) & 255] ^ shift_block[3][crc >> 24];
}

HARDWARE static uint32_t crc32c_instruction(uint32_t crc, const uint8_t *p, size_t count) {
    crc = ~crc;
    while (count >= 3 * BLOCK) {
        uint32_t a = crc, b = 0, c = 0;
        for (size_t i = 0; i < BLOCK; i += 8) {
            uint64_t x, y, z;
            memcpy(&x, p + i, 8);
            memcpy(&y, p + i + BLOCK, 8);
            memcpy(&z, p + i + 2 * BLOCK, 8);
            a = STEP8(a, x);
            b = STEP8(b, y);
            c = STEP8(c, z);
        }
        crc = shifted(shifted(a) ^ b) ^ c;
        p += 3 * BLOCK;
        count -= 3 * BLOCK;
    }
    while (count >= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        crc = STEP8(crc, word);
        p += 8;
        count -= 8;
    }
    while (count--) crc = STEP1(crc, *p++);
    return ~crc;
}

uint32_t skein_crc32c(uint32_t crc, const void *bytes, size_t count) {
    pthread_once(&once, build_tables);
    if (has_instruction()) return crc32c_instruction(crc, bytes, count);
    return skein_crc32c_portable(crc, bytes, count);
}
#else
uint32_t skein_crc32c(uint32_t crc, const void *bytes, size_t count) {
    return skein_crc32c_portable(crc, bytes, count);
}
#endif
