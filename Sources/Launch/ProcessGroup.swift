import Base

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// The ranks of a job and what they start, in one process group, which can be signalled and ended as a whole.
///
/// The group's leader is a guard: a shell that waits for the end of a pipe whose other end the launcher holds. When
/// the launcher goes, however it goes (kill -9 included), the pipe ends, and the guard kills the group. So no rank
/// is ever left behind, with no help from the ranks. The guard also keeps the group's number from being given away
/// while ranks come and go.
final class ProcessGroup {
    private let leader: pid_t
    private let lifeline: Int32
    private var hasEnded = false

    /// $1 is the folder with the secret, if any: the guard removes it, too.
    private static let script = """
        read -r line; [ -z "$1" ] || { rm -f "$1/secret"; rmdir "$1"; }; kill -9 0
        """

    init(removing folder: String?) throws(LaunchError) {
        let pipe = try makePipe()
        defer { close(pipe.read) }
        lifeline = pipe.write
        let path = "/usr/local/bin:/usr/bin:/bin"
        do {
            leader = try Launch.spawn(["/bin/sh", "-c", ProcessGroup.script, "skein-guard", folder ?? ""],
                                      environment: ["PATH": path], descriptors: [pipe.read, nil, nil], group: nil,
                                      blocksSignals: true)
        } catch {
            close(pipe.write)
            throw error
        }
    }

    deinit { precondition(hasEnded, "a process group that nobody ended") }

    /// input: /dev/null where there is none.
    func spawn(_ command: [String], environment: [String: String], input: Int32? = nil, output: Int32, errors: Int32)
        throws(LaunchError) -> pid_t {
        try Launch.spawn(command, environment: environment, descriptors: [input, output, errors], group: leader)
    }

    func signal(_ number: Int32) { kill(-leader, number) }

    enum Change { case ended(Ending), stopped, continued }

    /// What has happened to members since the last call. Never waits.
    func changes() -> [(pid: pid_t, change: Change)] {
        var found: [(pid_t, Change)] = []
        while true {
            var status: Int32 = 0
            let pid = unsafe waitpid(-leader, &status, WNOHANG | WUNTRACED | WCONTINUED)
            if pid < 0, errno == EINTR { continue }
            guard pid > 0 else { return found }
            found.append((pid, ProcessGroup.change(status)))
        }
    }

    /// The C macros WIFEXITED and their kin, which Swift does not see.
    private static func change(_ status: Int32) -> Change {
        if status == 0xFFFF { return .continued }
        switch status & 0x7F {
        case 0: return .ended(.exit(status >> 8 & 0xFF))
        case 0x7F: return .stopped
        case let number: return .ended(.signal(number))
        }
    }

    /// Kills every member and waits for them, but no longer than `seconds`: a process that hangs in the kernel
    /// cannot be killed.
    func end(within seconds: Double = 5) {
        signal(SIGKILL)
        hasEnded = true
        close(lifeline)
        let deadline = MonotonicClock.seconds() + seconds
        while MonotonicClock.seconds() < deadline {
            var status: Int32 = 0
            let pid = unsafe waitpid(-leader, &status, WNOHANG)
            if pid < 0, errno == ECHILD { return }
            if pid == 0 { usleep(2_000) }
        }
    }
}
