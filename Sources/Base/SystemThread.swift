#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// A thread of the system's, with a stack of its own size: the pool's needs more than some systems give by default.
///
/// `body` need not be `Sendable`, since the objects that have threads guard their state by other means than the
/// compiler knows; each of them proves, where it declares that state, which of its parts which thread touches. What
/// this function promises for its part: `body` and all that it holds are handed over whole before the thread begins
/// (`pthread_create` orders memory), and are let go of by it.
///
/// Where the system has no thread to give, nothing can go on, and it is no fault of the program: the process ends with
/// one line and exit code 1.
package func startThread(stackBytes: Int? = nil, _ body: @escaping () -> Void) -> pthread_t {
    var thread = pthread_t()
    var attributes = pthread_attr_t()
    unsafe pthread_attr_init(&attributes)
    defer { unsafe pthread_attr_destroy(&attributes) }
    if let stackBytes { unsafe pthread_attr_setstacksize(&attributes, stackBytes) }
    let start = unsafe Unmanaged.passRetained(Start(body: body))
    let status = unsafe pthread_create(&thread, &attributes, { argument in
        guard let argument = unsafe argument else { return nil }
        let start = unsafe Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
        start.body()
        return nil
    }, start.toOpaque())
    if status == 0 { return thread }
    let line = "skein: the system refused a thread (\(errorText(status))): lower training.threads, or raise the limit "
        + "of processes (ulimit -u, or the cgroup's pids.max)\n"
    _ = unsafe write(2, line, line.utf8.count)
    _exit(1)
}

private final class Start {
    let body: () -> Void

    init(body: @escaping () -> Void) { self.body = body }
}
