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
    }

    let worldSize: Int
    private let state: Mutex<State>
    private let bells: [DispatchSemaphore]

    package init(worldSize: Int) {
        self.worldSize = worldSize
        state = Mutex(State(events: Array(repeating: [], count: worldSize),
                            faults: Array(repeating: nil, count: worldSize)))
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

    func take(_ rank: Int, into events: inout [LinkEvent], until deadline: UInt64) {
        while true {
            let taken = state.withLock { state -> [LinkEvent] in
                if let fault = state.faults[rank] { return [.failed(fault)] }
                defer { state.events[rank] = [] }
                return state.events[rank]
            }
            events += taken
            let now = MonotonicClock.nanoseconds()
            guard taken.isEmpty, now < deadline else { return }
            _ = bells[rank].wait(timeout: .now() + .nanoseconds(Int(min(deadline - now, 1_000_000_000))))
        }
    }
}

package final class LoopbackLink: Link {
    package let rank: Int
    private let network: LoopbackNetwork

    init(rank: Int, network: LoopbackNetwork) {
        self.rank = rank
        self.network = network
    }

    package var worldSize: Int { network.worldSize }
    package var now: UInt64 { MonotonicClock.nanoseconds() }

    package func send(_ bytes: UnsafeRawBufferPointer, to peer: Int, tag: MessageTag, token: UInt32) {
        network.post(LoopbackNetwork.Key(from: rank, to: peer, tag: tag),
                     LoopbackNetwork.End(address: UInt(bitPattern: bytes.baseAddress), count: bytes.count,
                                                token: token), isSend: true)
    }

    package func receive(into buffer: UnsafeMutableRawBufferPointer, from peer: Int, tag: MessageTag,
                         token: UInt32) {
        network.post(LoopbackNetwork.Key(from: peer, to: rank, tag: tag),
                     LoopbackNetwork.End(address: UInt(bitPattern: buffer.baseAddress),
                                                count: buffer.count, token: token), isSend: false)
    }

    package func poll(into events: inout [LinkEvent], until deadline: UInt64) {
        network.take(rank, into: &events, until: deadline)
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
            withExtendedLifetime(communicator) { network.leave(rank) }
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
