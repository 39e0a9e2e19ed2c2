import Base
import Collectives

extension World {
    /// Bytes a second of each rank's link, on all ranks the same. Ranks meet in pairs, another pair each round, and
    /// send each other something at the same time; a rank's link is worth what the best of its pairs was.
    func linkRates() throws -> [Double] {
        let places = size + size % 2, bytes = 64 << 10
        guard let communicator, size > 1 else { return [1] }
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 2 * bytes, alignment: 64)
        defer { unsafe memory.deallocate() }
        unsafe memory.initializeMemory(as: UInt8.self, repeating: 0)
        var best = 0.0
        for round in 0..<min(places - 1, 5) {
            let peer = Self.opponent(of: rank, round: round, places: places)
            try barrier()
            for _ in 0..<4 where peer < size {
                let begin = MonotonicClock.seconds()
                let sent = unsafe communicator.send(.init(rebasing: memory[..<bytes]), to: peer)
                let got = unsafe communicator.receive(.init(rebasing: memory[bytes...]), from: peer)
                try sent.wait()
                try got.wait()
                best = max(best, Double(bytes) / max(1e-9, MonotonicClock.seconds() - begin))
            }
        }
        // A rank that met nobody counts as the slowest that did.
        let rates = try numbers([best]).map { $0[0] }, least = rates.filter { $0 > 0 }.min() ?? 1
        return rates.map { max($0, least) }
    }

    /// Whom a rank meets in a round of a tournament in which each meets each once: one stays, the others go round.
    package static func opponent(of rank: Int, round: Int, places: Int) -> Int {
        let last = places - 1
        if rank == last { return round % last * (places / 2) % last }
        // The two numbers of a pair add up to the round, but for the one that meets the last.
        let other = (round + last - rank) % last
        return other == rank ? last : other
    }
}
