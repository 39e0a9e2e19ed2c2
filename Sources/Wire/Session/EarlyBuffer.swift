/// Memory of fixed size for messages that came before anybody asked for them. A ring of contiguous
/// slots: slots are taken in order of arrival and given back in any order; room becomes free again from
/// the oldest slot on. Pages that are never used are never touched, so an idle buffer costs no memory.
@safe package struct EarlyBuffer: ~Copyable {
    private struct Slot {
        var offset: Int
        var count: Int
        var isFree = false
        /// An empty message still takes a byte, or two slots could begin at one place.
        var end: Int { offset + max(count, 1) }
    }

    package let capacity: Int
    private let memory: UnsafeMutableRawBufferPointer
    private var slots: [Slot] = []
    /// The number of the first of `slots`; numbers count up for ever and name the slots.
    private var firstNumber = 0

    package init(capacity: Int) {
        self.capacity = capacity
        unsafe memory = .allocate(byteCount: max(capacity, 1), alignment: 64)
        slots.reserveCapacity(64)
    }

    deinit { unsafe memory.deallocate() }

    /// A slot of `count` bytes, or nil while there is no room.
    package mutating func take(_ count: Int) -> Int? {
        guard let offset = place(for: max(count, 1)) else { return nil }
        slots.append(Slot(offset: offset, count: count))
        return firstNumber + slots.count - 1
    }

    /// The ring's free part lies behind the newest slot: up to the end and then from the start when the
    /// slots do not wrap around, up to the oldest slot when they do.
    private func place(for count: Int) -> Int? {
        guard let oldest = slots.first, let newest = slots.last else { return count <= capacity ? 0 : nil }
        if newest.offset >= oldest.offset {
            if capacity - newest.end >= count { return newest.end }
            return oldest.offset >= count ? 0 : nil
        }
        return oldest.offset - newest.end >= count ? newest.end : nil
    }

    package func bytes(of number: Int) -> UnsafeMutableRawBufferPointer {
        let slot = slots[number - firstNumber]
        let range = slot.offset..<(slot.offset + slot.count)
        return unsafe UnsafeMutableRawBufferPointer(rebasing: memory[range])
    }

    /// A place for no bytes.
    package var nothing: UnsafeMutableRawBufferPointer {
        unsafe UnsafeMutableRawBufferPointer(rebasing: memory[..<0])
    }

    package mutating func giveBack(_ number: Int) {
        precondition(!slots[number - firstNumber].isFree, "an early slot is given back once")
        slots[number - firstNumber].isFree = true
        let free = slots.prefix { $0.isFree }.count
        slots.removeFirst(free)
        firstNumber += free
    }

    package var isEmpty: Bool { slots.isEmpty }
}
