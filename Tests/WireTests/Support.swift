import Base
import Synchronization
import Testing
import Wire
#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

let testSecret = JobSecret(bytes: (0..<32).map { UInt8($0) })

func options(rank: Int, worldSize: Int, port: Int) -> MeshOptions {
    var options = MeshOptions(rank: rank, worldSize: worldSize, masterHost: "127.0.0.1", masterPort: port,
                              secret: testSecret, jobID: "test")
    options.startDeadlineSeconds = 10
    options.heartbeatSeconds = 2
    options.spins = false
    return options
}

/// Runs `body` on threads of its own, one for each rank, and returns what each threw.
func runJob(worldSize: Int, _ adjust: @Sendable (inout MeshOptions) -> Void = { _ in },
            _ body: @escaping @Sendable (Mesh) throws -> Void) -> [(any Error)?] {
    let port = freePort()
    let all = (0..<worldSize).map { rank in
        var own = options(rank: rank, worldSize: worldSize, port: port)
        adjust(&own)
        return own
    }
    return onThreads(worldSize) { rank in try body(try Mesh.join(all[rank])) }
}

private final class Job: Sendable {
    let body: @Sendable (Int) throws -> Void
    let index: Int
    let result = Mutex<(any Error)?>(nil)
    init(_ index: Int, _ body: @escaping @Sendable (Int) throws -> Void) {
        self.index = index
        self.body = body
    }
}

/// Runs `body(0)`, `body(1)`, ... at the same time and waits for all.
func onThreads(_ count: Int, _ body: @escaping @Sendable (Int) throws -> Void) -> [(any Error)?] {
    let jobs = (0..<count).map { Job($0, body) }
    let threads = jobs.map { job in
        startThread {
            do { try job.body(job.index) } catch { job.result.withLock { $0 = error } }
        }
    }
    for thread in threads { pthread_join(thread, nil) }
    return jobs.map { job in job.result.withLock { $0 } }
}

struct Disappointment: Error, CustomStringConvertible {
    let description: String
}

/// Sends what it is told to, in that order, and keeps what it hears.
@safe final class Messenger: LinkUser {
    let mesh: Mesh
    var events: [LinkEvent] = []
    private var waiting: [Int: [OutgoingMessage]] = [:]
    /// Asked while it waits, it says this.
    var awaited = 0

    init(_ mesh: Mesh) {
        self.mesh = mesh
        _ = mesh.attach(self)
    }

    deinit { mesh.withdraw() }

    func send(_ bytes: UnsafeRawBufferPointer, to peer: Int, tag: MessageTag, token: UInt32) {
        waiting[peer, default: []].append(unsafe OutgoingMessage(bytes: bytes, tag: tag, token: token))
        mesh.offer(to: peer)
    }

    func waitingCount(_ peer: Int) -> Int { waiting[peer]?.count ?? 0 }

    func nextMessage(to peer: Int) -> OutgoingMessage? {
        guard waiting[peer]?.isEmpty == false else { return nil }
        return waiting[peer]?.removeFirst()
    }

    func handle(_ event: LinkEvent) {
        if case .asked(let peer) = event { mesh.answer(peer, .waits(for: awaited)) }
        events.append(event)
    }

    /// What happened in one poll.
    func poll(until deadline: UInt64) -> [LinkEvent] {
        mesh.poll(until: deadline)
        defer { events = [] }
        return events
    }
}

/// A plan that all ranks compute alike: each rank sends `count` messages of random sizes to each other one,
/// and posts its receives in an order that has nothing to do with the order of sending, within a window.
func exchangeRandomMessages(_ mesh: Mesh, count: Int, largest: Int = 300_000, inOrder: Bool = false) throws {
    let random = CounterRNG(seed: 7, stream: UInt64(mesh.worldSize))
    func size(_ from: Int, _ to: Int, _ index: Int) -> Int {
        let counter = UInt64((from * 16 + to) * 10_000 + index)
        return random.integer(below: 5, at: counter) == 0 ? 0 : random.integer(below: largest, at: ~counter)
    }
    func byte(_ from: Int, _ index: Int, _ offset: Int) -> UInt8 {
        UInt8(truncatingIfNeeded: from &* 31 &+ index &* 17 &+ offset &* 7 &+ offset >> 8)
    }
    let peers = (0..<mesh.worldSize).filter { $0 != mesh.rank }
    var sent: [UnsafeMutableRawBufferPointer] = unsafe []
    var received: [(UnsafeMutableRawBufferPointer, Int, Int)] = unsafe []
    defer {
        for unsafe buffer in unsafe sent { unsafe buffer.deallocate() }
        for unsafe (buffer, _, _) in unsafe received { unsafe buffer.deallocate() }
    }
    let messenger = Messenger(mesh)
    var done = 0
    let limit = mesh.now + 10_000_000_000
    for start in stride(from: 0, to: count, by: 4) {
        let window = start..<min(start + 4, count)
        for peer in peers {
            for index in window {
                let bytes = UnsafeMutableRawBufferPointer.allocate(
                    byteCount: size(mesh.rank, peer, index), alignment: 8)
                for offset in 0..<bytes.count { unsafe bytes[offset] = byte(mesh.rank, index, offset) }
                unsafe sent.append(bytes)
                let tag = MessageTag(operation: UInt64(index / 4), fingerprint: 5, segment: UInt32(index))
                unsafe messenger.send(UnsafeRawBufferPointer(bytes), to: peer, tag: tag, token: 0)
            }
            for index in inOrder || !mesh.sharedPeers.isEmpty ? Array(window) : window.reversed() {
                let bytes = UnsafeMutableRawBufferPointer.allocate(
                    byteCount: size(peer, mesh.rank, index), alignment: 8)
                let tag = MessageTag(operation: UInt64(index / 4), fingerprint: 5, segment: UInt32(index))
                unsafe received.append((bytes, peer, index))
                unsafe mesh.receive(into: bytes, from: peer, tag: tag, token: UInt32(received.count))
            }
        }
        let target = 2 * window.upperBound * peers.count
        while done < target {
            guard mesh.now < limit else { throw Disappointment(description: "the exchange takes too long") }
            for event in messenger.poll(until: limit) {
                if case .failed(let fault) = event { throw fault }
                done += 1
            }
        }
    }
    for unsafe (bytes, peer, index) in unsafe received {
        for offset in 0..<bytes.count where unsafe bytes[offset] != byte(peer, index, offset) {
            throw Disappointment(description: "message \(index) of rank \(peer) differs at byte \(offset)")
        }
    }
}
