// From one rank to all others, or from all to one.

extension Schedule {
    /// Binomial-tree broadcast, for small buffers: in round k the 2^k ranks that have the data send it on.
    mutating func treeBroadcast(root: Int) {
        let place = modulo(index - root, size)
        var next = 0, holders = 1
        while holders < size {
            if place < holders, place + holders < size {
                round(next, send: 0..<count, to: index + holders)
            } else if (holders..<(2 * holders)).contains(place) {
                round(next, receive: 0..<count, from: index - holders)
            }
            next += 1
            holders *= 2
        }
    }

    /// Binomial-tree reduce: the broadcast backwards. With places counted from the root, those that differ in the
    /// highest bit meet first, so the sum is x[r] + x[r + h] + (x[r + h/2] + x[r + 3h/2]) + ...
    mutating func treeReduce(root: Int) {
        let place = modulo(index - root, size)
        var holders = 1, rounds = 0
        while holders < size {
            holders *= 2
            rounds += 1
        }
        for next in 0..<rounds {
            holders /= 2
            if (holders..<(2 * holders)).contains(place) {
                round(next, send: 0..<count, to: index - holders)
            } else if place < holders, place + holders < size {
                round(next, receive: 0..<count, from: index + holders, .reduce(reduction))
            }
        }
    }

    /// Chain broadcast, for large buffers: segments flow from the root through the ring, each forwarded as
    /// soon as it is there. A rank `place` hops from the root receives segment p in round p + place - 1 and
    /// sends it in round p + place, so all links are busy at once.
    mutating func chainBroadcast(root: Int) {
        let cut = segments(of: 0..<count, atMost: segmentLimit)
        let place = modulo(index - root, size)
        for next in 0..<(cut.count + size) {
            let sends = place + 1 < size && cut.indices.contains(next - place)
            let receives = place > 0 && cut.indices.contains(next - place + 1)
            round(next, send: sends ? cut[next - place] : 0..<0, to: index + 1,
                  receive: receives ? cut[next - place + 1] : 0..<0, from: index - 1)
        }
    }

    /// Chain reduce: segments flow towards the root, and each rank adds its own to what passes: the sum is
    /// ((x[r-1] + x[r-2]... towards the root, the farthest first) + x[r]. The one `place` hops before the root sends
    /// segment p in round p + (W - 1 - place).
    mutating func chainReduce(root: Int) {
        let cut = segments(of: 0..<count, atMost: segmentLimit)
        let place = modulo(root - index, size), last = size - 1
        for next in 0..<(cut.count + size) {
            let sending = next - (last - place), receiving = next - (last - place - 1)
            let sends = place > 0 && cut.indices.contains(sending)
            let receives = place < last && cut.indices.contains(receiving)
            round(next, send: sends ? cut[sending] : 0..<0, to: index + 1,
                  receive: receives ? cut[receiving] : 0..<0, from: index - 1, .reduce(reduction))
        }
    }
}
