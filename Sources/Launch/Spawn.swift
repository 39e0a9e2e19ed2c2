import Base

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Starts a process. Descriptors 0, 1 and 2 are those given, /dev/null where there is none; all others must be
/// marked close-on-exec. group: the process group to join; nil makes a new one. blocksSignals: nothing but
/// SIGKILL and SIGSTOP reaches the process.
///
/// posix_spawn and not Foundation's Process, which hands down whatever signals the calling thread has blocked, and
/// knows no groups.
func spawn(_ command: [String], environment: [String: String], descriptors: [Int32?], group: pid_t?,
           blocksSignals: Bool = false) throws(LaunchError) -> pid_t {
    var actions = unsafe posix_spawn_file_actions_t()
    unsafe posix_spawn_file_actions_init(&actions)
    defer { unsafe posix_spawn_file_actions_destroy(&actions) }
    for (place, descriptor) in descriptors.enumerated() {
        if let descriptor {
            unsafe posix_spawn_file_actions_adddup2(&actions, descriptor, Int32(place))
        } else {
            unsafe posix_spawn_file_actions_addopen(&actions, Int32(place), "/dev/null", O_RDWR, 0)
        }
    }
    var attributes = posix_spawnattr_t()
    unsafe posix_spawnattr_init(&attributes)
    defer { unsafe posix_spawnattr_destroy(&attributes) }
    unsafe posix_spawnattr_setpgroup(&attributes, group ?? 0)
    var mask = sigset_t()
    _ = unsafe blocksSignals ? sigfillset(&mask) : sigemptyset(&mask)
    unsafe posix_spawnattr_setsigmask(&attributes, &mask)
    // A shell starts background jobs with SIGINT ignored, and this program ignores SIGPIPE. SIGHUP stays as it is:
    // under nohup it is ignored on purpose.
    var standard = sigset_t()
    unsafe sigemptyset(&standard)
    for number in [SIGINT, SIGTERM, SIGPIPE, SIGCHLD] { unsafe sigaddset(&standard, number) }
    unsafe posix_spawnattr_setsigdefault(&attributes, &standard)
    let flags = POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF
    unsafe posix_spawnattr_setflags(&attributes, Int16(flags))

    var pid: pid_t = 0
    let failure = unsafe withCStrings(command) { arguments in
        unsafe withCStrings(environment.map { "\($0.key)=\($0.value)" }) { variables in
            unsafe posix_spawn(&pid, command[0], &actions, &attributes, arguments, variables)
        }
    }
    guard failure == 0 else { throw .refused(what: "start \(command[0])", problem: errorText(failure)) }
    return pid
}

/// The strings as C has them: an array of pointers with a null at its end.
private func withCStrings<Result>(
    _ strings: [String], _ body: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> Result
) -> Result {
    var pointers = unsafe strings.map { unsafe strdup($0) } + [nil]
    defer { for unsafe pointer in unsafe pointers { unsafe free(pointer) } }
    return unsafe pointers.withUnsafeMutableBufferPointer { unsafe body($0.baseAddress!) }
}

/// A pipe whose ends no child inherits unless it is given one.
func makePipe() throws(LaunchError) -> (read: Int32, write: Int32) {
    var ends: [Int32] = [-1, -1]
    guard unsafe pipe(&ends) == 0 else { throw .refused(what: "make a pipe", problem: errorText(errno)) }
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
    return (ends[0], ends[1])
}
