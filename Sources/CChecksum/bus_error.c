// Reading a mapped file beyond its end, because somebody has shortened it meanwhile or its disk has failed, ends a
// process with SIGBUS and without a word. Here are the words. A handler may neither allocate nor lock, so it finds the
// file's name where the kernel keeps it: in /proc/self/maps, read through one buffer on the stack.
#include "CChecksum.h"
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static void say(const char *text, size_t count) {
    while (count > 0) {
        ssize_t written = write(2, text, count);
        if (written <= 0) return;
        text += written;
        count -= (size_t)written;
    }
}

/// The hexadecimal number at the beginning of `text`, which moves behind it.
static uintptr_t number(const char **text) {
    uintptr_t value = 0;
    for (;; (*text)++) {
        char digit = **text;
        if (digit >= '0' && digit <= '9') value = value << 4 | (uintptr_t)(digit - '0');
        else if (digit >= 'a' && digit <= 'f') value = value << 4 | (uintptr_t)(digit - 'a' + 10);
        else return value;
    }
}

/// The path in a line of /proc/self/maps, "begin-end rights offset device inode path", if `address` lies between its
/// begin and its end and it is a file's.
static const char *path_at(uintptr_t address, const char *line) {
    uintptr_t begin = number(&line);
    if (*line++ != '-') return NULL;
    uintptr_t end = number(&line);
    return begin <= address && address < end ? strchr(line, '/') : NULL;
}

static void on_bus_error(int signal_number, siginfo_t *about, void *context) {
    (void)context;
    char line[4608], part[512];
    size_t length = 0;
    int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    for (ssize_t count; maps >= 0 && (count = read(maps, part, sizeof part)) > 0;) {
        for (ssize_t i = 0; i < count; i++) {
            if (part[i] != '\n') {
                if (length < sizeof line - 1) line[length++] = part[i];
                continue;
            }
            line[length] = 0;
            length = 0;
            const char *path = path_at((uintptr_t)about->si_addr, line);
            if (path == NULL) continue;
            static const char why[] = " became shorter while it was read, or its disk failed; leave the data alone "
                                      "while they are used, then start again\n";
            say("skein: ", 7);
            say(path, strlen(path));
            say(why, sizeof why - 1);
            _exit(1);
        }
    }
    // Not a file's: the system's own handling, when the instruction is tried again.
    signal(signal_number, SIG_DFL);
}

void skein_name_shortened_files(void) {
    struct sigaction action = {0};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGBUS, &action, NULL);
}
