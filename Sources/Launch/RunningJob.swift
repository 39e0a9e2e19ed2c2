import Base
import Recipe
import Telemetry

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// The ranks while they run: one loop that passes their output on and sees how they end.
final class RunningJob {
    private struct Rank {
        let pid: pid_t
        var ending: Ending?
        var isStopped = false
        var lastError = LastError()
        /// The way to a rank on another machine; see `RemoteShell`.
        var control: Int32?
        /// It was started for a place of another one's; see `Replacements`.
        var isSpare = false
    }

    /// The reading end of a pipe that a rank writes to.
    private struct Stream {
        let rank: Int
        let descriptor: Int32
        let target: Int32
        let isErrors: Bool
        let prefix: [UInt8]
        var lines = LineBuffer()
    }

    private let job: Job
    private let channels: Launcher.Channels
    private let logs: RankLogs?
    private let group: ProcessGroup
    private let port: Int
    private let secretFile: String?
    private var replacements: Replacements?
    private var ranks: [Rank] = []
    private var streams: [Stream] = []
    private var firstFailure: (rank: Int, ending: Ending)?
    private var heeded = 0
    /// The signal that was handed on, if any.
    private var requested: Int32?
    /// When whoever is left is killed.
    private var deadline = Double.infinity
    private let memoryKillsBefore = memoryKills()
    private var buffer = [UInt8](repeating: 0, count: 65_536)

    /// Between two looks at the ranks when they print nothing. Most ends are seen at once, since a rank that ends
    /// closes its pipes.
    private static let interval: Int32 = 50

    init(_ job: Job, port: Int, folder: SecretFolder?, channels: Launcher.Channels, logs: RankLogs?)
        throws(LaunchError) {
        self.job = job
        self.logs = logs
        self.port = port
        self.channels = channels
        secretFile = folder?.secretFile
        group = try ProcessGroup(removing: folder?.path)
        do {
            for rank in 0..<job.ranks { try start(rank) }
            if let succession = job.succession, succession.replaces {
                var own = Replacements(succession)
                for _ in 0..<own.begin() { try start(ranks.count) }
                replacements = own
            }
        } catch {
            group.end()
            closeStreams()
            throw error
        }
    }

    /// Rank 0 may draw its progress line: it keeps a terminal, unless what it prints is kept. Everything else goes
    /// through pipes.
    private func start(_ rank: Int) throws(LaunchError) {
        let isSpare = rank >= job.ranks
        let keepsTerminal = rank == 0 && isatty(channels.output) == 1 && logs == nil && !job.isRemote(0)
        let errors = try openStream(rank, target: channels.errors, isErrors: true)
        defer { close(errors) }
        let output = keepsTerminal ? channels.output
            : try openStream(rank, target: channels.output, isErrors: false)
        defer { if !keepsTerminal { close(output) } }
        let environment = isSpare ? job.environmentOfSpare(port: port, secretFile: secretFile)
            : job.environment(of: rank, port: port, secretFile: secretFile)
        let control = try isRemote(rank) ? makePipe() : nil
        defer { if let control { close(control.read) } }
        let pid: pid_t
        do {
            let command = isSpare ? job.command : job.command(of: rank, port: port)
            pid = try group.spawn(command, environment: environment, input: control?.read, output: output,
                                  errors: errors)
        } catch {
            if let control { close(control.write) }
            throw error
        }
        ranks.append(Rank(pid: pid, control: control?.write, isSpare: isSpare))
        if control != nil { tell(rank, secret(secretFile)) }
    }

    /// A line for a rank on another machine. One that has gone hears nothing, and that is seen by its end.
    private func tell(_ rank: Int, _ line: String) {
        guard let control = ranks[rank].control else { return }
        writeAll(Array((line + "\n").utf8), to: control)
    }

    private func secret(_ file: String?) -> String {
        guard let file, let text = try? readText(file) else { return "" }
        return text.filter { !$0.isNewline }
    }

    private func name(_ rank: Int) -> String { rank < job.ranks ? "rank \(rank)" : "spare \(rank - job.ranks)" }
    /// Only ranks are placed on machines; what waits for a place is here.
    private func isRemote(_ rank: Int) -> Bool { rank < job.ranks && job.isRemote(rank) }

    /// Gives the writing end.
    private func openStream(_ rank: Int, target: Int32, isErrors: Bool) throws(LaunchError) -> Int32 {
        let pipe = try makePipe()
        _ = fcntl(pipe.read, F_SETFL, O_NONBLOCK)
        // A line that comes while rank 0's progress line stands on the screen takes its place.
        let clear = isatty(target) == 1 ? "\r\u{1B}[K" : ""
        streams.append(Stream(rank: rank, descriptor: pipe.read, target: target, isErrors: isErrors,
                              prefix: Array((clear + (rank == 0 ? "" : "[\(name(rank))] ")).utf8)))
        return pipe.write
    }

    /// Until every rank has ended, or been ended.
    func wait() -> Outcome {
        while !isOver, MonotonicClock.seconds() < deadline {
            passOutputOn()
            lookAtRanks()
            lookAtMeeting()
            heedRequests()
        }
        group.end()
        for rank in ranks.indices { drain(rank) }
        closeStreams()
        flush()
        return outcome()
    }

    /// Waits for whoever reads the output, who may have paused, until asked to stop once more.
    private func flush() {
        let queues = [channels.output, channels.errors].map(OutputQueue.shared)
        while !queues.allSatisfy({ $0.isEmpty }), channels.requests().count <= max(heeded, 1) {
            for queue in queues { queue.flush(within: 0.05) }
        }
    }

    // MARK: Output

    private func passOutputOn() {
        var polled = streams.map { pollfd(fd: $0.descriptor, events: Int16(POLLIN), revents: 0) }
        guard unsafe poll(&polled, nfds_t(polled.count), RunningJob.interval) > 0 else { return }
        for index in polled.indices.reversed() where polled[index].revents != 0 {
            if readOnce(index) == .ended {
                close(streams[index].descriptor)
                streams.remove(at: index)
            }
        }
    }

    private enum Reading { case some, nothingYet, ended }

    /// Passes on what is there, up to a buffer's length.
    private func readOnce(_ index: Int) -> Reading {
        let descriptor = streams[index].descriptor
        let count = unsafe buffer.withUnsafeMutableBytes { unsafe read(descriptor, $0.baseAddress, $0.count) }
        if count < 0, errno == EAGAIN || errno == EINTR { return .nothingYet }
        pass(count > 0 ? streams[index].lines.take(buffer[..<count]) : streams[index].lines.finish(), index)
        return count > 0 ? .some : .ended
    }

    /// Passes on all that a rank has left behind.
    private func drain(_ rank: Int) {
        for index in streams.indices where streams[index].rank == rank {
            while readOnce(index) == .some {}
            pass(streams[index].lines.finish(), index)
        }
    }

    private func pass(_ lines: [[UInt8]], _ index: Int) {
        guard !lines.isEmpty else { return }
        let stream = streams[index]
        if stream.isErrors {
            for line in lines { ranks[stream.rank].lastError.see(String(decoding: line, as: UTF8.self)) }
        }
        logs?.add(lines, of: stream.rank)
        OutputQueue.shared(stream.target).write(lines.flatMap { stream.prefix + $0 + [UInt8(ascii: "\n")] })
    }

    private func closeStreams() {
        for stream in streams { close(stream.descriptor) }
        streams = []
        for rank in ranks.indices {
            if let control = ranks[rank].control { close(control) }
            ranks[rank].control = nil
        }
    }

    // MARK: Ends

    private func lookAtRanks() {
        var ended: [(rank: Int, ending: Ending)] = []
        for (pid, change) in group.changes() {
            guard let rank = ranks.firstIndex(where: { $0.pid == pid }) else { continue }
            switch change {
            case .stopped: ranks[rank].isStopped = true
            case .continued: ranks[rank].isStopped = false
            case .ended(let own):
                let ending = isRemote(rank) ? own.ofShell : own
                ranks[rank].ending = ending
                drain(rank)
                if ending.isFailure { ended.append((rank, ending)) }
                if ranks[rank].isSpare, ending.isFailure { replacements?.lost() }
                if job.succession != nil, !ending.isFailure { hurry(within: channels.grace) }
            }
        }
        guard job.succession == nil else { return lookAtLosses(ended) }
        ended.sort { ($1.ending.weight, $0.rank) < ($0.ending.weight, $1.rank) }
        if firstFailure == nil, !ended.isEmpty {
            firstFailure = ended[0]
            hurry(within: portWasTaken ? 0 : channels.grace)
        }
        // Whoever is stopped says nothing more. This ends the wait for a rank that was stopped and so given up.
        if firstFailure != nil, ranks.allSatisfy({ $0.ending != nil || $0.isStopped }) { hurry(within: 0) }
    }

    /// Where ranks go on without those that fail, a failure is the job's only if it is one of the input: that one would
    /// come again.
    private func lookAtLosses(_ ended: [(rank: Int, ending: Ending)]) {
        for loss in ended where !ranks[loss.rank].isSpare {
            if firstFailure == nil { firstFailure = loss }
            guard loss.ending == .exit(2) else { continue }
            firstFailure = loss
            hurry(within: portWasTaken ? 0 : channels.grace)
        }
    }

    /// Whether all have ended that are part of the job: what stands still, or waits for a place, is not.
    private var isOver: Bool {
        guard job.succession != nil, ranks.contains(where: { $0.ending != nil }) else {
            return ranks.allSatisfy { $0.ending != nil }
        }
        let live = ranks.filter { $0.ending == nil && !$0.isStopped }
        return !live.contains { !$0.isSpare } && live.count <= replacements?.waiting ?? 0
    }

    /// Starts who is waited for. What stands still while the others have gone on without it is ended.
    private func lookAtMeeting() {
        guard let (count, members) = replacements?.look() else { return }
        for rank in ranks.indices where ranks[rank].isStopped && ranks[rank].ending == nil {
            if !members.contains(Int(ranks[rank].pid)) { kill(ranks[rank].pid, SIGKILL) }
        }
        do {
            for _ in 0..<count { try start(ranks.count) }
        } catch {
            channels.say("\(error)")
        }
    }

    private func hurry(within seconds: Double) { deadline = min(deadline, MonotonicClock.seconds() + seconds) }

    private func heedRequests() {
        let (count, signal) = channels.requests()
        guard count > heeded else { return }
        heeded = count
        requested = signal
        if ranks.contains(where: { $0.control != nil }) {
            for rank in ranks.indices where ranks[rank].ending == nil {
                if ranks[rank].control == nil { kill(ranks[rank].pid, signal) }
                tell(rank, signal == SIGINT ? "INT" : "TERM")
            }
        } else {
            group.signal(signal)
        }
        if count == 2 { hurry(within: channels.patience) }
        if count > 2 { hurry(within: 0) }
    }

    /// Rank 0 could not have the port that was chosen for it (the text is Wire's; a test holds the two together).
    private var portWasTaken: Bool {
        guard let firstFailure, firstFailure.rank == 0, firstFailure.ending == .exit(2) else { return false }
        return ranks[0].lastError.text.hasPrefix("cannot listen on 127.0.0.1:\(port)")
    }

    private func outcome() -> Outcome {
        if heeded > 1 { return Outcome(code: 1, line: "stopped at once on the second request, without saving") }
        // Whoever has come to the end of the training says so by its exit code.
        if job.succession != nil, firstFailure?.ending != .exit(2), ranks.contains(where: { $0.ending == .exit(0) }) {
            return .done
        }
        if let (rank, ending) = firstFailure {
            var outcome = Outcome(rank: rank, of: job.ranks, ending: ending, lastError: ranks[rank].lastError.text,
                                  requested: requested, memoryKills: memoryKills() - memoryKillsBefore)
            outcome.rank = rank
            outcome.portWasTaken = portWasTaken
            outcome.mayComeAgain = outcome.code == 1 && heeded == 0
            return outcome
        }
        return .done
    }
}
