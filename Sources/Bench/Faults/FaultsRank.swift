import Base
import Collectives
import Trainer
import Wire

/// One rank of `bench faults`: does small all-reduces until it is told to leave, or something fails, and says in one
/// line what it came to.
public struct FaultsRank {
    /// What a rank prints when it is at work, and at its end.
    static let ready = "ready", done = "done", fault = "fault", start = "start"

    let heartbeatSeconds: Double
    let startSeconds: Double
    /// 0: for ever.
    let rounds: Int

    public init(heartbeatSeconds: Double, startSeconds: Double, rounds: Int) {
        self.heartbeatSeconds = heartbeatSeconds
        self.startSeconds = startSeconds
        self.rounds = rounds
    }

    /// The exit code: 0 after its rounds, 1 after a fault, 2 where the input is wrong.
    public func run(_ setting: RankSetting, say: (String) -> Void) throws -> Int32 {
        var options = MeshOptions(rank: setting.rank, worldSize: setting.worldSize, masterHost: setting.masterHost,
                                  masterPort: setting.masterPort, secret: try JobSecret.load(from: setting.secretFile),
                                  jobID: "bench faults")
        options.heartbeatSeconds = heartbeatSeconds
        options.startDeadlineSeconds = startSeconds
        options.transport = .tcp
        options.spins = false
        do {
            let mesh = try Mesh.join(options)
            let communicator = Communicator(link: mesh)
            try work(communicator, say: say)
            try mesh.leave()
        } catch let error as WireError {
            say("\(Self.start) \(culprit(of: error).map(String.init) ?? "-") \(error)")
            return error.kind == .badInput ? 2 : 1
        } catch let error as CollectiveFault {
            say("\(Self.fault) \(error.culprit) \(error)")
            return 1
        } catch let error as LinkFault {
            say("\(Self.fault) \(error.culprit) \(error)")
            return 1
        }
        say(Self.done)
        return 0
    }

    private func work(_ communicator: Communicator, say: (String) -> Void) throws {
        let count = 16 << 10, size = communicator.worldSize
        let numbers = UnsafeMutableBufferPointer<Float>.allocate(capacity: count)
        defer { unsafe numbers.deallocate() }
        var round = 0
        while rounds == 0 || round < rounds {
            unsafe numbers.update(repeating: Float(communicator.rank + 1))
            try unsafe communicator.allReduce(numbers).wait()
            guard unsafe numbers[0] == Float(size * (size + 1) / 2), unsafe numbers[count - 1] == numbers[0] else {
                throw BadInput("a wrong sum was delivered: \(unsafe numbers[0])")
            }
            round += 1
            if round == 3 { say(Self.ready) }
        }
    }

    private func culprit(of error: WireError) -> Int? {
        switch error {
        case .startFailed(let fault, _): fault.culprit
        case .missing(let ranks, _, _): ranks.first
        case .unreachable(let rank, _, _), .notReached(let rank, _, _, _), .disagreement(let rank, _, _, _): rank
        case .noMaster: 0
        default: nil
        }
    }
}
