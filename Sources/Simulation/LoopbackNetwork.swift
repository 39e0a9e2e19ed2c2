import Base
import Collectives
import Dispatch
import Foundation
import Synchronization
import Wire

/// N ranks as threads of one process, in real time: for what blocks (communicators, tickets, the overlap
/// thread). A message is copied when both its ends are known. Addresses are kept as integers, for the state
/// crosses threads; the mutex orders every access to it and every copy.
package final class LoopbackNetwork: Sendable {
    struct Key: Hashable {
        var from: Int
        var to: Int
        var tag: MessageTag
    }

    struct End {
        var address: UInt
        var count: Int
        var token: UInt32
    }

    struct State {
        var sends: [Key: End] = [:]
        var receives: [Key: End] = [:]
        var events: [[LinkEvent]]
        var faults: [LinkFault?]
        /// Who is in `poll`, who is to leave it, and since when a rank is not in it.
        var isInside: [Bool]
        var isWoken: [Bool]
        var leftAt: [UInt64]
    }

    let worldSize: Int
    private let state: Mutex<State>
    private let bells: [DispatchSemaphore]

    package init(worldSize: Int) {
        self.worldSize = worldSize
        state = Mutex(State(events: Array(repeating: [], count: worldSize),
                            faults: Array(repeating: nil, count: worldSize),
                            isInside: Array(repeating: false, count: worldSize),
                            isWoken: Array(repeating: false, count: worldSize),
                            leftAt: Array(repeating: MonotonicClock.nanoseconds(), count: worldSize)))
        bells = (0..<worldSize).map { _ in DispatchSemaphore(value: 0) }
    }

    package func link(rank: Int) -> LoopbackLink { LoopbackLink(rank: rank, network: self) }

    func post(_ key: Key, _ end: End, isSend: Bool) {
        state.withLock { state in
            if isSend { state.sends[key] = end } else { state.receives[key] = end }
            guard let source = state.sends[key], let target = state.receives[key],
                  state.faults[key.from] == nil, state.faults[key.to] == nil else { return }
            precondition(source.count == target.count, "both ends of a message have one length")
            state.sends[key] = nil
            state.receives[key] = nil
            if let from = unsafe UnsafeRawPointer(bitPattern: source.address),
               let to = unsafe UnsafeMutableRawPointer(bitPattern: target.address) {
                unsafe to.copyMemory(from: from, byteCount: source.count)
            }
            state.events[key.from].append(.sent(source.token))
            state.events[key.to].append(.received(target.token))
        }
        bells[key.from].signal()
        bells[key.to].signal()
    }

    /// Every rank but those that have a fault already gets this one.
    package func fail(_ ranks: some Sequence<Int>, _ fault: LinkFault) {
        for rank in ranks {
            state.withLock { if $0.faults[rank] == nil { $0.faults[rank] = fault } }
            bells[rank].signal()
        }
    }

    /// The rank's memory is about to go: nothing is copied to or from it any more. Without it a late question ("whom
    /// do you wait for?") would be written where a communicator used to be.
    package func leave(_ rank: Int) {
        state.withLock { state in
            state.sends = state.sends.filter { $0.key.from != rank }
            state.receives = state.receives.filter { $0.key.to != rank }
        }
    }

    func take(_ rank: Int, until deadline: UInt64) -> [LinkEvent] {
        state.withLock { $0.isInside[rank] = true }
        defer { leavePoll(rank) }
        while true {
            let (taken, isWoken) = state.withLock { state -> ([LinkEvent], Bool) in
                if let fault = state.faults[rank] { return ([.failed(fault)], true) }
                defer { state.events[rank] = [] }
                defer { state.isWoken[rank] = false }
                return (state.events[rank], state.isWoken[rank])
            }
            let now = MonotonicClock.nanoseconds()
            guard taken.isEmpty, !isWoken, now < deadline else { return taken }
            _ = bells[rank].wait(timeout: .now() + .nanoseconds(Int(min(deadline - now, 1_000_000_000))))
        }
    }

    /// Who has asked in the meantime hears that this rank computes.
    private func leavePoll(_ rank: Int) {
        state.withLock { state in
            state.isInside[rank] = false
            state.leftAt[rank] = MonotonicClock.nanoseconds()
            for case .asked(let peer) in state.events[rank] {
                state.events[peer].append(.answered(by: rank, .computes(0)))
            }
            state.events[rank].removeAll { if case .asked = $0 { true } else { false } }
        }
    }

    func wake(_ rank: Int) {
        state.withLock { $0.isWoken[rank] = true }
        bells[rank].signal()
    }

    func ask(by rank: Int) {
        state.withLock { state in
            for peer in 0..<worldSize where peer != rank {
                if state.isInside[peer] {
                    state.events[peer].append(.asked(by: rank))
                } else {
                    let now = MonotonicClock.nanoseconds()
                    state.events[rank].append(.answered(by: peer, .computes(now - min(now, state.leftAt[peer]))))
                }
            }
        }
        for bell in bells { bell.signal() }
    }

    func tell(_ rank: Int, _ event: LinkEvent) {
        state.withLock { $0.events[rank].append(event) }
        bells[rank].signal()
    }
}

package final class LoopbackLink: Link {
    package let rank: Int
    package let hosts: [String]
    private let network: LoopbackNetwork
    private weak var user: (any LinkUser)?

    init(rank: Int, network: LoopbackNetwork) {
        self.rank = rank
        self.network = network
        hosts = Array(repeating: "here", count: network.worldSize)
    }

    package var worldSize: Int { network.worldSize }
    package var now: UInt64 { MonotonicClock.nanoseconds() }

    package func attach(_ user: any LinkUser) -> UInt32 {
        self.user = user
        return 1
    }

    package func offer(to peer: Int) {
        while let next = user?.nextMessage(to: peer) {
            network.post(LoopbackNetwork.Key(from: rank, to: peer, tag: next.tag),
                         unsafe LoopbackNetwork.End(address: UInt(bitPattern: next.bytes.baseAddress),
                                                    count: next.bytes.count, token: next.token), isSend: true)
        }
    }

    package func withdraw() {
        user = nil
        network.leave(rank)
    }

    package func wake() { network.wake(rank) }
    package func inquire() { network.ask(by: rank) }
    package func answer(_ peer: Int, _ answer: LinkAnswer) { network.tell(peer, .answered(by: rank, answer)) }

    package func receive(into buffer: UnsafeMutableRawBufferPointer, from peer: Int, tag: MessageTag,
                         token: UInt32, sum: LinkSum?) {
        network.post(LoopbackNetwork.Key(from: peer, to: rank, tag: tag),
                     LoopbackNetwork.End(address: UInt(bitPattern: buffer.baseAddress),
                                                count: buffer.count, token: token), isSend: false)
    }

    package func poll(until deadline: UInt64) {
        for event in network.take(rank, until: deadline) { user?.handle(event) }
    }

    package func abort(_ fault: LinkFault) { network.fail(0..<worldSize, fault) }
}

/// Runs `body` once per rank, each on a thread of its own with a communicator, and returns what each gave
/// or threw, by rank.
package func onThreads<Value: Sendable>(
    ranks: Int, options: CommunicatorOptions = CommunicatorOptions(),
    _ body: @escaping @Sendable (Communicator) throws -> Value
) -> [Result<Value, any Error>] {
    let network = LoopbackNetwork(worldSize: ranks)
    let results = Results<Value>()
    let finished = DispatchSemaphore(value: 0)
    for rank in 0..<ranks {
        Thread {
            let communicator = Communicator(link: network.link(rank: rank), options: options)
            let result = Result { try body(communicator) }
            withExtendedLifetime(communicator) {}
            results.byRank.withLock { $0[rank] = result }
            finished.signal()
        }.start()
    }
    for _ in 0..<ranks { finished.wait() }
    return results.byRank.withLock { byRank in (0..<ranks).compactMap { byRank[$0] } }
}

private final class Results<Value: Sendable>: Sendable {
    let byRank = Mutex<[Int: Result<Value, any Error>]>([:])
}
