import Base

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// How a process ended.
package enum Ending: Sendable, Equatable {
    case exit(Int32)
    case signal(Int32)

    var isFailure: Bool { self != .exit(0) }

    /// What a shell's own exit code says of the process that it waited for: from 129 on, the signal that killed it. 255
    /// is ssh's own failure.
    var ofShell: Ending {
        guard case .exit(let code) = self, (129...192).contains(code) else { return self }
        return .signal(code - 128)
    }

    /// Of several that ended in the same moment, the one that is likelier the cause: a killed rank makes others
    /// give up, and so does one that refuses its input.
    var weight: Int {
        switch self {
        case .signal: 2
        case .exit(2): 1
        default: 0
        }
    }
}

/// What became of a job: its exit code, and the one line that says why it is not 0.
package struct Outcome: Equatable {
    package let code: Int32
    package let line: String?
    /// Rank 0's port was not free any more; nothing has happened yet, and another one may do.
    package var portWasTaken = false
    /// A rank failed while it ran, and nobody had asked the job to end: it may be started again.
    package var mayComeAgain = false

    /// The one that failed first.
    package var rank: Int?

    package static let done = Outcome(code: 0, line: nil)

    package init(code: Int32, line: String?) {
        self.code = code
        self.line = line
    }

    /// A job whose first failure was `rank`'s.
    ///
    /// lastError: the line in which the rank itself said why; it is on the screen already, so a job of one rank
    /// does not repeat it, nor one whose rank 0 refused the input before any other rank had anything to say.
    /// requested: the signal that the launcher had forwarded, if any. memoryKills: how many
    /// processes the kernel killed for lack of memory while the job ran.
    package init(rank: Int, of ranks: Int, ending: Ending, lastError: String, requested: Int32?, memoryKills: Int) {
        switch ending {
        case .signal(let number):
            let reason: String
            if number == requested {
                reason = " on request, before it could save"
            } else if number == SIGKILL, memoryKills > 0 {
                reason = "; the kernel killed \(memoryKills) process\(memoryKills == 1 ? "" : "es") for lack of memory"
            } else {
                reason = ""
            }
            self.init(code: 1, line: "rank \(rank) was killed by signal \(number) (\(signalName(number)))\(reason)")
        case .exit(let status):
            let text = lastError.isEmpty ? "ended with exit code \(status) and without a word" : lastError
            let isShown = (ranks == 1 || (rank == 0 && status == 2)) && !lastError.isEmpty
            self.init(code: status == 2 ? 2 : 1, line: isShown ? nil : "rank \(rank): \(text)")
        }
    }
}

private func signalName(_ number: Int32) -> String {
    unsafe strsignal(number).map { unsafe String(cString: $0) } ?? "unknown"
}

/// How many processes the kernel has killed for lack of memory since this machine started; 0 where it does not
/// tell. Seen before and after, it explains a SIGKILL that nobody sent.
func memoryKills() -> Int {
    guard let file = unsafe fopen("/proc/vmstat", "r") else { return 0 }
    defer { unsafe fclose(file) }
    var line = [CChar](repeating: 0, count: 256)
    while unsafe fgets(&line, Int32(line.count), file) != nil {
        let words = line.prefix { $0 != 0 && $0 != 10 }.split(separator: 32)
            .map { String(decoding: $0.map(UInt8.init(bitPattern:)), as: UTF8.self) }
        if words.count == 2, words[0] == "oom_kill" { return Int(words[1]) ?? 0 }
    }
    return 0
}
