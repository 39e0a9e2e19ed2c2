import Base
import Telemetry

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// What the ranks of a job print, a file for each, and after a failure one that begins with the first of them.
final class RankLogs {
    private let folder: String
    private let ranks: Int
    private var files: [Int32] = []
    /// The end of what each has printed, for `tell`.
    private var tails: [[[UInt8]]]
    private static let tail = 20

    /// Makes the folder where it is missing. What earlier jobs have left in the files stays above.
    init(_ folder: String, ranks: Int) throws(BadInput) {
        self.folder = folder
        self.ranks = ranks
        tails = Array(repeating: [], count: ranks)
        if unsafe mkdir(folder, 0o777) != 0, errno != EEXIST { throw RankLogs.refused(folder) }
        for rank in 0..<ranks {
            let path = "\(folder)/rank-\(rank).log"
            let file = unsafe open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o666)
            guard file >= 0 else { throw RankLogs.refused(path) }
            files.append(file)
        }
        _ = unsafe unlink(failure)
    }

    deinit { for file in files { close(file) } }

    private static func refused(_ path: String) -> BadInput {
        BadInput("--logs: cannot write \(path): \(errorText(errno))")
    }

    private var failure: String { "\(folder)/failure.txt" }

    func add(_ lines: [[UInt8]], of rank: Int) {
        while files.count <= rank {
            // Of a process that waited for a rank's place. Without a file what it says is on the screen all the same.
            let path = "\(folder)/spare-\(files.count - ranks).log"
            files.append(unsafe open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o666))
            tails.append([])
        }
        writeAll(lines.flatMap { $0 + [UInt8(ascii: "\n")] }, to: files[rank])
        tails[rank] = (tails[rank] + lines).suffix(RankLogs.tail)
    }

    /// A line of the launcher's own, in all files.
    func note(_ line: String) {
        for file in files { writeAll(Array("skein launch: \(line)\n".utf8), to: file) }
    }

    /// Leaves `failure.txt`: the first failure, what that rank said before it, then the others.
    func tell(_ line: String, failed: Int?) {
        var text = Array("\(line)\n".utf8)
        let order = tails.indices.sorted { ($0 == failed ? 0 : 1, $0) < ($1 == failed ? 0 : 1, $1) }
        for rank in order where !tails[rank].isEmpty {
            let (kind, number) = rank < ranks ? ("rank", rank) : ("spare", rank - ranks)
            text += Array("\n\(kind) \(number), its last lines (\(kind)-\(number).log has all):\n".utf8)
            text += tails[rank].flatMap { $0 + [UInt8(ascii: "\n")] }
        }
        let file = unsafe open(failure, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
        guard file >= 0 else { return }
        writeAll(text, to: file)
        close(file)
    }
}
