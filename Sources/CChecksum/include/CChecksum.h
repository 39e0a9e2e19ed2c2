#ifndef SKEIN_CCHECKSUM_H
#define SKEIN_CCHECKSUM_H
#include <stddef.h>
#include <stdint.h>

/// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78) of `count` bytes, continuing from `crc`
/// (0 to begin). Uses the CPU's CRC instruction where there is one; the same value everywhere.
uint32_t skein_crc32c(uint32_t crc, const void *bytes, size_t count);

/// The table-driven path alone, for comparing the two in tests.
uint32_t skein_crc32c_portable(uint32_t crc, const void *bytes, size_t count);

/// From now on, a mapped file that becomes shorter while it is read ends the process with exit code 1 and one line
/// that names it, and not with a bare SIGBUS.
void skein_name_shortened_files(void);

#endif
