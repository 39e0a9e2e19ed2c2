import Base
import Foundation
import Glibc
import Synchronization
import Wire

/// What is done to a job of real processes.
public enum Injection: String, CaseIterable, Sendable {
    case kill, stop
    /// A link over which nothing comes any more, without a word.
    case silence
    /// A bit that flips on its way.
    case flip
    /// Random bytes at rank 0's port until the last rank has come.
    case garbage
    /// A thousand connections a second there.
    case flood
    /// Another program has rank 0's port.
    case foreignListener = "foreign-listener"
    /// A rank has another secret.
    case wrongSecret = "wrong-secret"
}

/// Injects faults into jobs of real processes and looks at who is blamed, and how soon.
public struct FaultsBench {
    public var injections = 5
    public var heartbeatSeconds = 0.5
    /// This program, and what makes it a rank of the bench.
    let program: String
    let arguments: (_ rounds: Int) -> [String]

    public init(program: String, arguments: @escaping (_ rounds: Int) -> [String]) {
        self.program = program
        self.arguments = arguments
    }

    /// What an injection came to: seconds from it to the last survivor's end, and what was wrong.
    struct Finding {
        var seconds: Double
        var wrong: String?
    }

    /// One line for each kind. False: somebody named the wrong one, or hung.
    public func run(_ kinds: [Injection], report: (BenchLine) -> Void) throws -> Bool {
        var isRight = true
        for kind in kinds {
            var findings: [Finding] = []
            for number in 0..<injections { findings.append(try inject(kind, number)) }
            var line = BenchLine(bench: "faults", threads: 1, ranks: kind == .silence ? 2 : 3,
                                 seconds: median(findings.map(\.seconds)))
            line.add("injection", kind.rawValue)
            line.add("injections", injections)
            line.add("right", findings.count { $0.wrong == nil })
            line.add("worst_s", findings.map(\.seconds).max() ?? 0)
            let wrongs = findings.compactMap(\.wrong)
            if let first = wrongs.first { line.note = "\(kind.rawValue): \(first)" }
            isRight = isRight && wrongs.isEmpty
            report(line)
        }
        return isRight
    }

    private func inject(_ kind: Injection, _ number: Int) throws -> Finding {
        let folder = NSTemporaryDirectory() + "skein-faults-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let secret = folder + "/secret", other = folder + "/other-secret"
        try JobSecret.create(at: secret)
        try JobSecret.create(at: other)
        var trial = Trial(bench: self, kind: kind, number: number, folder: folder, secret: secret, other: other)
        return try trial.run()
    }
}

/// One injection.
private struct Trial {
    let bench: FaultsBench
    let kind: Injection
    let number: Int
    let secret: String
    let other: String
    private let ranks: Int
    private let fleet: FaultsFleet
    private let port = freePort()
    private var begin = 0.0
    /// Longer than any of this may take, on a machine that is busy with other things.
    private static let patience = 40.0

    init(bench: FaultsBench, kind: Injection, number: Int, folder: String, secret: String, other: String) {
        (self.bench, self.kind, self.number) = (bench, kind, number)
        (self.secret, self.other) = (secret, other)
        ranks = kind == .silence ? 2 : 3
        fleet = FaultsFleet(ranks: ranks, folder: folder)
    }

    mutating func run() throws -> FaultsBench.Finding {
        switch kind {
        case .kill, .stop: try strike(kind == .kill ? SIGKILL : SIGSTOP)
        case .silence, .flip: try onTheWay()
        case .garbage, .flood: try besiege()
        case .foreignListener: try takePort()
        case .wrongSecret: try confuse()
        }
    }

    private func start(_ rank: Int, rounds: Int = 0, port: Int? = nil, secret: String? = nil) throws {
        try fleet.start(rank, program: bench.program, arguments: bench.arguments(rounds), port: port ?? self.port,
                        secret: secret ?? self.secret)
    }

    /// Waits for these ranks, which must all blame one of `culprits`, and the same one.
    private func judge(_ survivors: [Int], _ culprits: Set<Int>, code: Int32 = 1) -> FaultsBench.Finding {
        var named: Set<Int> = [], last = begin
        for rank in survivors {
            guard let ended = fleet.end(rank, within: Self.patience) else {
                return FaultsBench.Finding(seconds: Self.patience, wrong: "rank \(rank) did not end")
            }
            last = max(last, ended.at)
            guard ended.code == code, let culprit = ended.culprit, culprits.contains(culprit) else {
                return FaultsBench.Finding(seconds: last - begin,
                                           wrong: "rank \(rank) ended with \(ended.code): \(ended.text)")
            }
            named.insert(culprit)
        }
        let wrong = named.count > 1 ? "the survivors name \(named.sorted())" : nil
        return FaultsBench.Finding(seconds: last - begin, wrong: wrong)
    }

    private func notReady() -> FaultsBench.Finding {
        FaultsBench.Finding(seconds: Self.patience, wrong: "the ranks did not come to work")
    }

    private mutating func strike(_ signal: Int32) throws -> FaultsBench.Finding {
        for rank in 0..<ranks { try start(rank) }
        guard fleet.areReady(within: Self.patience) else { return notReady() }
        let victim = number % ranks
        begin = MonotonicClock.seconds()
        fleet.signal(victim, signal)
        return judge((0..<ranks).filter { $0 != victim }, [victim])
    }

    /// Rank 1 reaches rank 0 through a proxy.
    private mutating func onTheWay() throws -> FaultsBench.Finding {
        guard let proxy = FaultProxy(to: port) else { throw BadInput("no socket for a proxy; raise ulimit -n") }
        defer { proxy.end() }
        for rank in 0..<ranks { try start(rank, port: rank == 1 ? proxy.port : nil) }
        guard fleet.areReady(within: Self.patience) else { return notReady() }
        begin = MonotonicClock.seconds()
        // Of two that do not hear each other each blames the other one.
        guard kind == .flip else {
            proxy.fallSilent()
            let first = judge([0], [1]), second = judge([1], [0])
            return FaultsBench.Finding(seconds: max(first.seconds, second.seconds), wrong: first.wrong ?? second.wrong)
        }
        let isThere = number % 2 == 0
        proxy.flip(towardsTarget: isThere)
        return judge([0, 1, 2], [isThere ? 1 : 0])
    }

    /// Strangers at rank 0's port: all ranks do their work all the same.
    private mutating func besiege() throws -> FaultsBench.Finding {
        let siege = Siege(port: port, perSecond: kind == .flood ? 1000 : 20, isLoud: kind == .garbage)
        defer { siege.end() }
        try start(0, rounds: 20)
        try start(1, rounds: 20)
        let limit = MonotonicClock.seconds() + Self.patience
        while siege.count < (kind == .flood ? 500 : 10), MonotonicClock.seconds() < limit { usleep(5_000) }
        begin = MonotonicClock.seconds()
        try start(2, rounds: 20)
        var last = begin
        for rank in 0..<ranks {
            guard let ended = fleet.end(rank, within: Self.patience), ended.code == 0 else {
                return FaultsBench.Finding(seconds: last - begin, wrong: "rank \(rank) did not finish: "
                    + (fleet.end(rank, within: 0)?.text ?? "still there"))
            }
            last = max(last, ended.at)
        }
        return FaultsBench.Finding(seconds: last - begin, wrong: nil)
    }

    /// Somebody else listens where rank 0 should: rank 0 says so, and the others that there is no rank 0.
    private mutating func takePort() throws -> FaultsBench.Finding {
        guard let (listener, _) = LoopbackSocket.listen(at: port) else { return notReady() }
        defer { close(listener) }
        begin = MonotonicClock.seconds()
        for rank in 0..<ranks { try start(rank) }
        guard let first = fleet.end(0, within: Self.patience), first.code == 2,
              first.text.contains("cannot listen on 127.0.0.1:\(port)") else {
            return FaultsBench.Finding(seconds: Self.patience, wrong: "rank 0 did not say that it cannot listen")
        }
        return judge([1, 2], [0])
    }

    /// A rank with another secret is told so; the others miss it.
    private mutating func confuse() throws -> FaultsBench.Finding {
        let victim = 1 + number % 2
        begin = MonotonicClock.seconds()
        for rank in 0..<ranks { try start(rank, secret: rank == victim ? other : nil) }
        let finding = judge((0..<ranks).filter { $0 != victim }, [victim])
        guard let stranger = fleet.end(victim, within: Self.patience), stranger.text.contains("secret") else {
            return FaultsBench.Finding(seconds: Self.patience, wrong: "rank \(victim) was not told of its secret")
        }
        return finding
    }
}

/// Connections at a rate, silent or with random bytes, each held for a while.
private final class Siege: Sendable {
    private let isOver = Atomic<Bool>(false)
    private let made = Atomic<Int>(0)

    init(port: Int, perSecond: Int, isLoud: Bool) {
        let thread = startThread { self.run(port, perSecond, isLoud) }
        pthread_detach(thread)
    }

    var count: Int { made.load(ordering: .relaxed) }
    func end() { isOver.store(true, ordering: .sequentiallyConsistent) }

    private func run(_ port: Int, _ perSecond: Int, _ isLoud: Bool) {
        var held: [Int32] = []
        let noise = (0..<65_536).map { _ in UInt8.random(in: 0...255) }
        let begin = MonotonicClock.seconds()
        while !isOver.load(ordering: .sequentiallyConsistent) {
            let due = Int((MonotonicClock.seconds() - begin) * Double(perSecond))
            while count < due, let socket = LoopbackSocket.connect(port) {
                made.add(1, ordering: .relaxed)
                if isLoud { _ = LoopbackSocket.send(noise[...], on: socket) }
                held.append(socket)
                if held.count > 100 { close(held.removeFirst()) }
            }
            usleep(1_000)
        }
        for socket in held { close(socket) }
    }
}
