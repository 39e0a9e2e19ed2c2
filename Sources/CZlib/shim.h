// What Compression uses of zlib: inflating gzip members.
#include <zlib.h>
