#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif
import Synchronization

/// Ctrl-C. The first asks the run to save and end after the step at hand; the second ends the process at once,
/// because the first restores the system's own handling. SIGTERM, which schedulers send, counts as the first.
public enum Interrupt {
    private static let requested = Atomic<Bool>(false)

    public static var isRequested: Bool { requested.load(ordering: .relaxed) }

    /// A handler may only do what is safe at any moment: it sets a flag, and the default returns by itself
    /// (SA_RESETHAND). Whoever started this process may have blocked signals (thread pools do), and a blocked mask
    /// is inherited; so both are unblocked, or no Ctrl-C would ever arrive.
    public static func install() {
        for signal in [SIGINT, SIGTERM] {
            var action = sigaction()
            unsafe action.__sigaction_handler.sa_handler = { _ in
                Interrupt.requested.store(true, ordering: .relaxed)
            }
            action.sa_flags = Int32(bitPattern: UInt32(SA_RESETHAND)) | SA_RESTART
            unsafe sigaction(signal, &action, nil)
        }
        var both = sigset_t()
        unsafe sigemptyset(&both)
        unsafe sigaddset(&both, SIGINT)
        unsafe sigaddset(&both, SIGTERM)
        unsafe pthread_sigmask(SIG_UNBLOCK, &both, nil)
    }
}
