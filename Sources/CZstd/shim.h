// What Compression uses of zstd: streams in both directions, and the sizes that frames declare.
#include <zstd.h>
#include <zstd_errors.h>
