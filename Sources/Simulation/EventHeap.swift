import Base
import Glibc

/// Seeds for a test: `usual` of them, or 0..<SKEIN_SEEDS for a long search.
package func seeds(_ usual: Int) -> Range<Int> {
    let asked = unsafe getenv("SKEIN_SEEDS").flatMap { unsafe Int(String(cString: $0)) }
    return 0..<(asked ?? usual)
}

/// Numbers in a row from one seed.
package struct SimulationRandom {
    private let rng: CounterRNG
    private var counter: UInt64 = 0

    package init(seed: UInt64, stream: UInt64 = 0) { rng = CounterRNG(seed: seed, stream: stream) }

    package mutating func integer(in range: ClosedRange<Int>) -> Int {
        counter += 1
        return range.lowerBound + rng.integer(below: range.count, at: counter)
    }

    /// Between the bounds with every order of magnitude equally likely; the bounds are at least 1.
    package mutating func magnitude(in range: ClosedRange<Int>) -> Int {
        let low = range.lowerBound.bitWidth - range.lowerBound.leadingZeroBitCount - 1
        let high = range.upperBound.bitWidth - range.upperBound.leadingZeroBitCount - 1
        let power = 1 << integer(in: low...high)
        return min(max(integer(in: power...(2 * power)), range.lowerBound), range.upperBound)
    }

    package mutating func chance(oneIn count: Int) -> Bool { integer(in: 1...count) == 1 }
}

/// What is to happen, earliest first; events of one moment in the order they were added.
struct EventHeap<Event> {
    private var entries: [(time: UInt64, order: UInt64, event: Event)] = []
    private var added: UInt64 = 0

    mutating func add(_ event: Event, at time: UInt64) {
        entries.append((time, added, event))
        added += 1
        var child = entries.count - 1
        while child > 0, precedes(child, (child - 1) / 2) {
            entries.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    mutating func removeFirst() -> (time: UInt64, event: Event)? {
        guard let first = entries.first else { return nil }
        let last = entries.removeLast()
        if !entries.isEmpty {
            entries[0] = last
            sink()
        }
        return (first.time, first.event)
    }

    private mutating func sink() {
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2]
            where child < entries.count && precedes(child, least) { least = child }
            if least == parent { return }
            entries.swapAt(parent, least)
            parent = least
        }
    }

    private func precedes(_ a: Int, _ b: Int) -> Bool {
        (entries[a].time, entries[a].order) < (entries[b].time, entries[b].order)
    }
}

/// First in, first out, without moving the rest at each removal.
struct Line<Element> {
    private var elements: [Element?] = []
    private var head = 0

    var first: Element? {
        get { head < elements.count ? elements[head] : nil }
        set { elements[head] = newValue }
    }

    mutating func append(_ element: Element) { elements.append(element) }

    mutating func removeFirst() {
        elements[head] = nil
        head += 1
        if head == elements.count || head > 1000 {
            elements.removeFirst(head)
            head = 0
        }
    }
}
