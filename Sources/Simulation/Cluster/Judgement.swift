import Base
import Wire

// What must hold in every run. Safety: no wrong sum, no stranger at the other end of a stream that stands. Liveness:
// every process that lives ends in time, with its sums or with a typed error, and all that fail name the same culprit.
extension Cluster {
    /// A stream stands: at its other end is the process that it should be.
    func check(_ socket: Socket, _ keys: HandshakeResult?, of process: ClusterProcess) {
        guard socket.peer >= 0 else { return wrong("process \(process.number) let a stranger in") }
        let peer = processes[socket.peer]
        if peer.options.secret != Self.secret || process.options.secret != Self.secret {
            wrong("processes \(process.number) and \(peer.number) have two secrets and one stream")
        }
        if let keys, keys.rank != peer.options.rank {
            wrong("process \(process.number) takes process \(peer.number) for rank \(keys.rank)")
        }
    }

    /// A collective is done.
    func check(_ job: ClusterJob, of process: ClusterProcess) {
        if let place = job.wrongPlace {
            wrong("process \(process.number) has a wrong sum at \(place) of job \(job.number)")
        }
    }

    func judge() {
        for process in processes where isCounted(process) {
            switch process.outcome {
            case nil: wrong("process \(process.number) never ended")
            case .finished, .gone, .survived: break
            case .startFailed, .failed:
                if misfortune.isHarmless, !isDouble(process) {
                    wrong("process \(process.number) failed for nothing")
                }
                judgeTime(process)
            }
        }
        let named = processes.filter { isCounted($0) && !isDouble($0) && !isApart($0) }.compactMap { culprit($0) }
        if Set(named).count > 1 { wrong("the culprits are \(named)") }
        switch misfortune {
        case .killed, .stopped, .cutOff, .absent, .longHiccup:
            if named.contains(where: { $0 != victim }) { wrong("named \(named), not \(victim)") }
        default: break
        }
        if !broken.isEmpty, let culprit = named.first, !broken.contains(culprit) {
            wrong("named \(named), and it was between \(broken)")
        }
        if misfortune == .absent, named.count != worldSize - 1 { wrong("only \(named.count) noticed") }
    }

    /// Whether a process is judged: not the one that it befell.
    private func isCounted(_ process: ClusterProcess) -> Bool {
        guard process.options.rank == victim, process.number < worldSize else { return true }
        switch misfortune {
        case .killed, .stopped, .cutOff, .absent: return false
        default: return true
        }
    }

    /// The two ends of a broken connection name each other where nobody is there to stand between them: in a job of
    /// two, and as long as they have not met the others.
    private func isApart(_ process: ClusterProcess) -> Bool {
        broken.contains(process.number) && (worldSize == 2 || !broken.allSatisfy { processes[$0].hasStarted })
    }

    /// One of two processes of a rank, of which one at most can be part of the job; the impostor cannot.
    private func isDouble(_ process: ClusterProcess) -> Bool {
        if misfortune == .impostor { return process.number >= worldSize }
        return misfortune == .twin && process.options.rank == processes[processes.count - 1].options.rank
    }

    /// Whom a process named. Rank 0 is no culprit for somebody who found it gone after it had failed itself.
    private func culprit(_ process: ClusterProcess) -> Int? {
        switch process.outcome {
        case nil, .finished, .gone, .survived: return nil
        case .failed(let fault): return fault.culprit
        case .startFailed(let error):
            switch error {
            case .startFailed(let fault, _): return fault.culprit
            case .missing(let ranks, _, _): return ranks[0]
            case .unreachable(let rank, _, _), .notReached(let rank, _, _, _): return rank
            case .noMaster, .wrongSecret, .otherVersion:
                if case .startFailed? = processes[0].outcome { return nil }
                if case .failed? = processes[0].outcome { return nil }
                return 0
            case .disagreement(let rank, _, _, _): return rank
            default: return nil
            }
        }
    }

    /// Whoever fails does so within the longest that each stage may take.
    private func judgeTime(_ process: ClusterProcess) {
        let start = Double(process.startedAt ?? 0) * 1e-9, end = Double(process.endedAt) * 1e-9
        let pauses = misfortune == .longHiccup ? 6.0 : misfortune == .late ? 8 : 0
        let stall = communication.timeoutSeconds + communication.patienceSeconds
        let limit = start + startSeconds + pauses + (process.hasStarted ? heartbeatSeconds + stall + 10 : 0) + 1
        if end > limit { wrong("process \(process.number) took until \(end) s, not \(limit) s") }
    }
}
