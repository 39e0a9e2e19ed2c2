/// Who has come and where each listens, as far as this rank knows: the state of the start, without sockets.
///
/// Rank 0 listens at an address that all know. Every other rank first connects there, and says in a hello
/// where it listens itself; rank 0 answers with the roster, and tells those that have come before of the new one. Each
/// pair of ranks has its streams opened by the higher rank, so that no pair connects twice, and a rank
/// connects to a lower one as soon as the roster tells its place. Order of starting does not matter.
package struct Roster {
    package let rank: Int
    package let worldSize: Int
    /// Streams to every peer: the control stream and the data streams.
    package let streamCount: Int
    package private(set) var places: [Place?]
    /// [peer][stream] that stand.
    private var established: [[Bool]]
    /// [peer][stream] that somebody works on.
    private var attempted: [[Bool]]

    package init(rank: Int, worldSize: Int, streamCount: Int) {
        self.rank = rank
        self.worldSize = worldSize
        self.streamCount = streamCount
        places = Array(repeating: nil, count: worldSize)
        established = Array(repeating: Array(repeating: false, count: streamCount), count: worldSize)
        attempted = established
    }

    /// Adds what is known about a rank's place.
    package mutating func learn(_ place: Place, of peer: Int) {
        places[peer] = place
    }

    /// Takes over what rank 0 knows.
    package mutating func learn(_ others: [Place?], masterAddress: SocketAddress) {
        for (peer, place) in others.enumerated() {
            if let place { learn(place, of: peer, masterAddress: masterAddress) }
        }
    }

    /// Takes over what rank 0 knows of one rank. Places on the loopback interface are those of rank 0's machine, as
    /// seen from there: for us they are at the address where we reach rank 0.
    package mutating func learn(_ place: Place, of peer: Int, masterAddress: SocketAddress) {
        guard peer != rank else { return }
        var place = place
        if peer != 0, place.address.isLoopback, !masterAddress.isLoopback {
            place.address = masterAddress.with(port: place.address.port)
        }
        places[peer] = place
    }

    /// Whether a stream that a peer opened may be added, or why not.
    package func refusal(of peer: Int, stream: Int) -> String? {
        guard peer < worldSize else { return "there is no rank \(peer) in a job of \(worldSize)" }
        guard peer > rank, stream < streamCount else {
            return "stream \(stream) is not opened by rank \(peer)"
        }
        guard !established[peer][stream] else { return "rank \(peer) is already taken by another process" }
        return nil
    }

    package mutating func establish(_ peer: Int, stream: Int) {
        established[peer][stream] = true
    }

    /// The streams that this rank should open now, each once: the control stream to rank 0 first, the others
    /// when the places are known.
    package mutating func nextConnections() -> [(peer: Int, stream: Int)] {
        guard rank > 0 else { return [] }
        var next: [(Int, Int)] = []
        for peer in 0..<rank {
            for stream in 0..<streamCount where !attempted[peer][stream] {
                let first = peer == 0 && stream == 0
                guard first || (established[0][0] && places[peer] != nil) else { continue }
                attempted[peer][stream] = true
                next.append((peer, stream))
            }
        }
        return next
    }

    /// A connection attempt came to nothing and may be made again.
    package mutating func retry(_ peer: Int, stream: Int) {
        attempted[peer][stream] = false
    }

    package func isEstablished(_ peer: Int, stream: Int) -> Bool { established[peer][stream] }

    package var isComplete: Bool {
        (0..<worldSize).allSatisfy { $0 == rank || established[$0].allSatisfy { $0 } }
    }

    /// The ranks that have not come at all; when all have come, those whose streams do not stand.
    package var missing: [Int] {
        let unfinished = (0..<worldSize).filter { peer in
            peer != rank && !established[peer].allSatisfy { $0 }
        }
        let absent = unfinished.filter { places[$0] == nil && !established[$0][0] }
        return absent.isEmpty ? unfinished : absent
    }
}
