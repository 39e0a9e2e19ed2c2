import Base
#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif
import Synchronization

/// Ctrl-C. The first asks the run to save and end after the step at hand; the second ends the process at once,
/// because the first restores the system's own handling. SIGTERM, which schedulers send, counts as the first.
///
/// So do a hangup (the terminal has gone) and SIGUSR1 (Slurm's warning before the time is up); but a terminal that goes
/// may send several, so a second of these is no wish to end at once. Under nohup a hangup stays ignored. SIGUSR2 is
/// ignored from the start (`OwnProcess`), and SIGQUIT ends at once, as everywhere.
public enum Interrupt {
    private static let requested = Atomic<Bool>(false)

    public static var isRequested: Bool { requested.load(ordering: .relaxed) }

    /// A handler may only do what is safe at any moment: it sets a flag, and for the first two the default returns by
    /// itself (SA_RESETHAND).
    public static func install() {
        for number in [SIGINT, SIGTERM, SIGHUP, SIGUSR1] where number != SIGHUP || !isIgnored(number) {
            var action = sigaction()
            unsafe action.__sigaction_handler.sa_handler = { _ in
                Interrupt.requested.store(true, ordering: .relaxed)
            }
            let once = number == SIGINT || number == SIGTERM
            action.sa_flags = SA_RESTART | (once ? Int32(bitPattern: UInt32(SA_RESETHAND)) : 0)
            unsafe sigaction(number, &action, nil)
        }
        // Whoever started this process may have blocked signals (thread pools do), and a blocked mask is inherited.
        var own = sigset_t()
        unsafe sigemptyset(&own)
        for number in [SIGINT, SIGTERM, SIGHUP, SIGUSR1] { unsafe sigaddset(&own, number) }
        unsafe pthread_sigmask(SIG_UNBLOCK, &own, nil)
    }
}
