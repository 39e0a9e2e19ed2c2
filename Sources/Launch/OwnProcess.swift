import Base

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// What this process inherits from whoever started it, and does not want to depend on.
public enum OwnProcess {
    /// To be called before anything else.
    ///
    ///   - Descriptors 0, 1 and 2 that are closed would be given to the first files that are opened, and then progress
    ///     lines would go into `metrics.jsonl`. They become /dev/null.
    ///   - A reader that goes away (`| head`) must not end a run: SIGPIPE is ignored, and the write says it.
    ///   - With SIGCHLD ignored the kernel would forget how ranks ended.
    ///   - SIGUSR2 means nothing here, and SIGQUIT ends, also where a shell in the background has it ignored.
    ///   - A blocked mask would keep every Ctrl-C away.
    ///   - The soft limit of open files is raised to the hard one: 1,024 are few for hundreds of ranks.
    public static func prepare() {
        var descriptor: Int32 = 0
        repeat { descriptor = unsafe open("/dev/null", O_RDWR) } while (0...2).contains(descriptor)
        if descriptor > 2 { close(descriptor) }
        _ = signal(SIGPIPE, SIG_IGN)
        _ = signal(SIGUSR2, SIG_IGN)
        _ = signal(SIGCHLD, SIG_DFL)
        _ = signal(SIGQUIT, SIG_DFL)
        var none = sigset_t()
        unsafe sigemptyset(&none)
        unsafe pthread_sigmask(SIG_SETMASK, &none, nil)
        var files = rlimit()
        guard unsafe getrlimit(resource, &files) == 0, files.rlim_cur < files.rlim_max else { return }
        files.rlim_cur = files.rlim_max
        _ = unsafe setrlimit(resource, &files)
    }

    private static let resource = __rlimit_resource_t(UInt32(RLIMIT_NOFILE.rawValue))

    /// Refuses a job whose launcher or ranks would run out of file descriptors, before a minute is lost with waiting
    /// for ranks that cannot come.
    static func requireFiles(launching ranks: Int) throws(BadInput) {
        var files = rlimit()
        guard unsafe getrlimit(resource, &files) == 0 else { return }
        let needed = filesNeeded(ranks: ranks)
        guard files.rlim_cur < UInt(needed) else { return }
        throw BadInput("-n \(ranks) needs about \(needed) open files in a process, and the limit here is "
            + "\(files.rlim_cur); raise it (ulimit -n \(max(needed, 4_096)), or its hard limit), or start fewer ranks")
    }

    /// A rank has two connections to each other one (twice that while they greet each other) beside its loops, data
    /// and checkpoint; the launcher two pipes to each rank.
    package static func filesNeeded(ranks: Int) -> Int { ranks == 1 ? 16 : 24 + 4 * (ranks - 1) }
}
