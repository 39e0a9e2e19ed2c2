// What Wire uses of libuv: loops, timers, asyncs and TCP streams.
#include <uv.h>
