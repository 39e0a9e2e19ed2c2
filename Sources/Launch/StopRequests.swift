#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif
import Base
import Synchronization

/// Ctrl-C, and the signals that schedulers send, for the launcher: counted here, and forwarded to the ranks by the
/// loop that watches over them. The ranks are in a group of their own, which a terminal's Ctrl-C does not reach.
public enum StopRequests {
    private static let count = Atomic<Int>(0)
    private static let latest = Atomic<Int32>(0)

    /// How many have come, and the last one's signal.
    public static func received() -> (count: Int, signal: Int32) {
        (count.load(ordering: .acquiring), latest.load(ordering: .relaxed))
    }

    /// A handler may only do what is safe at any moment: it counts. A hangup, and SIGUSR1 as Slurm's warning, ask for
    /// the same as SIGTERM, but may come several times for one event, so only the first thing asked counts of them.
    /// Under nohup a hangup stays ignored. Ranks in the background group may write to a terminal that stops such
    /// writers (stty tostop).
    public static func install() {
        for number in [SIGINT, SIGTERM] {
            handle(number) { number in
                StopRequests.latest.store(number, ordering: .relaxed)
                StopRequests.count.wrappingAdd(1, ordering: .releasing)
            }
        }
        for number in [SIGHUP, SIGUSR1] where !isIgnored(number) || number == SIGUSR1 {
            handle(number) { _ in
                StopRequests.latest.store(SIGTERM, ordering: .relaxed)
                _ = StopRequests.count.compareExchange(expected: 0, desired: 1, ordering: .releasing)
            }
        }
        _ = signal(SIGTTOU, SIG_IGN)
    }

    private static func handle(_ number: Int32, _ body: @escaping @convention(c) (Int32) -> Void) {
        var action = sigaction()
        unsafe action.__sigaction_handler.sa_handler = body
        action.sa_flags = SA_RESTART
        unsafe sigaction(number, &action, nil)
    }
}
