import Base
import Collectives
import Foundation
import Telemetry
import Tensor

extension World {
    /// All ranks call it at once: each pair in turn sends messages there and back while the others wait, and clocks are
    /// compared. Rank 0 gets everything; the others nil.
    public func facts(own: HostFacts) throws -> JobFacts? {
        var links: [LinkFacts] = []
        for first in 0..<size {
            for second in (first + 1)..<max(size, first + 1) {
                if rank == first || rank == second {
                    links += try measure(first, second)
                }
                try barrier()
            }
        }
        let offset = try communicator?.clockOffset { Int64(wallSeconds() * 1e9) } ?? .none
        let record = OwnRecord(host: own, links: links, offset: Double(offset.nanoseconds) * 1e-9)
        let records = try gather(Array(try JSONEncoder().encode(record)))
        guard rank == 0 else { return nil }
        let all = try records.map { try JSONDecoder().decode(OwnRecord.self, from: Data($0)) }
        return JobFacts(hosts: all.map(\.host), links: all.flatMap(\.links), clockOffsets: all.map(\.offset))
    }

    private struct OwnRecord: Codable {
        let host: HostFacts
        let links: [LinkFacts]
        let offset: Double
    }

    private static let (rounds, largeRounds, largeBytes) = (101, 5, 8 << 20)

    /// Both directions, as the rank at hand saw them: the time of a large message is its sender's, until the receiver's
    /// word that it has come.
    private func measure(_ first: Int, _ second: Int) throws -> [LinkFacts] {
        let other = rank == first ? second : first
        let memory = try Arena(name: "messages", capacity: Self.largeBytes / 4)
        defer { withExtendedLifetime(memory) {} }
        let large = memory.take(Self.largeBytes / 4), small = large.slice(0, 2)
        var latencies: [Double] = [], rates = [first: [Double](), second: [Double]()]
        for _ in 0..<Self.rounds {
            let start = MonotonicClock.seconds()
            try pass(small, first, to: second)
            try pass(small, second, to: first)
            latencies.append((MonotonicClock.seconds() - start) / 2)
        }
        for sender in [first, second] {
            let receiver = sender == first ? second : first
            for _ in 0..<Self.largeRounds {
                let start = MonotonicClock.seconds()
                try pass(large, sender, to: receiver)
                try pass(small, receiver, to: sender)
                rates[sender]?.append(Double(Self.largeBytes) / (MonotonicClock.seconds() - start))
            }
        }
        let own = rates[rank]?.sorted() ?? [], seen = latencies.sorted()
        return [LinkFacts(from: rank, to: other, latency: seen[seen.count / 2], rate: own[own.count / 2])]
    }

    private func pass(_ row: Row, _ sender: Int, to receiver: Int) throws {
        guard let communicator else { return }
        if rank == sender { try unsafe communicator.send(row.bytes, to: receiver).wait() }
        if rank == receiver { try unsafe communicator.receive(row.bytes, from: sender).wait() }
    }
}
