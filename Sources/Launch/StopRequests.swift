#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif
import Synchronization

/// Ctrl-C, and SIGTERM as schedulers send it, for the launcher: counted here, and forwarded to the ranks by the
/// loop that watches over them. The ranks are in a group of their own, which a terminal's Ctrl-C does not reach.
public enum StopRequests {
    private static let count = Atomic<Int>(0)
    private static let latest = Atomic<Int32>(0)

    /// How many have come, and the last one's signal.
    public static func received() -> (count: Int, signal: Int32) {
        (count.load(ordering: .acquiring), latest.load(ordering: .relaxed))
    }

    /// A handler may only do what is safe at any moment: it counts. A blocked mask is inherited, so both are
    /// unblocked. A reader that closes the pipe (`| head`) must not end the launcher, and ranks in the background
    /// group may write to a terminal that stops such writers (stty tostop).
    public static func install() {
        for number in [SIGINT, SIGTERM] {
            var action = sigaction()
            unsafe action.__sigaction_handler.sa_handler = { number in
                StopRequests.latest.store(number, ordering: .relaxed)
                StopRequests.count.wrappingAdd(1, ordering: .releasing)
            }
            action.sa_flags = SA_RESTART
            unsafe sigaction(number, &action, nil)
        }
        for number in [SIGPIPE, SIGTTOU] { _ = signal(number, SIG_IGN) }
        var both = sigset_t()
        unsafe sigemptyset(&both)
        unsafe sigaddset(&both, SIGINT)
        unsafe sigaddset(&both, SIGTERM)
        unsafe pthread_sigmask(SIG_UNBLOCK, &both, nil)
    }
}
