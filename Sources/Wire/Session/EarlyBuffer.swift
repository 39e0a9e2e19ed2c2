/// Memory of fixed size for messages that came before anybody asked for them. A ring of contiguous
/// pieces: pieces are taken in order of arrival and given back in any order; room becomes free again from
/// the oldest piece on. Pages that are never used are never touched, so an idle buffer costs no memory.
@safe package struct EarlyBuffer: ~Copyable {
    private struct Piece {
        var offset: Int
        var count: Int
        var isFree = false
        /// An empty message still takes a byte, or two pieces could begin at one place.
        var end: Int { offset + max(count, 1) }
    }

    package let capacity: Int
    private let memory: UnsafeMutableRawBufferPointer
    private var pieces: [Piece] = []
    /// The number of the first of `pieces`; numbers count up for ever and name the pieces.
    private var firstNumber = 0

    package init(capacity: Int) {
        self.capacity = capacity
        unsafe memory = .allocate(byteCount: max(capacity, 1), alignment: 64)
        pieces.reserveCapacity(64)
    }

    deinit { unsafe memory.deallocate() }

    /// A piece of `count` bytes, or nil while there is no room.
    package mutating func take(_ count: Int) -> Int? {
        guard let offset = place(for: max(count, 1)) else { return nil }
        pieces.append(Piece(offset: offset, count: count))
        return firstNumber + pieces.count - 1
    }

    /// The ring's free part lies behind the newest piece: up to the end and then from the start when the
    /// pieces do not wrap around, up to the oldest piece when they do.
    private func place(for count: Int) -> Int? {
        guard let oldest = pieces.first, let newest = pieces.last else { return count <= capacity ? 0 : nil }
        if newest.offset >= oldest.offset {
            if capacity - newest.end >= count { return newest.end }
            return oldest.offset >= count ? 0 : nil
        }
        return oldest.offset - newest.end >= count ? newest.end : nil
    }

    package func bytes(of number: Int) -> UnsafeMutableRawBufferPointer {
        let piece = pieces[number - firstNumber]
        let range = piece.offset..<(piece.offset + piece.count)
        return unsafe UnsafeMutableRawBufferPointer(rebasing: memory[range])
    }

    package mutating func giveBack(_ number: Int) {
        precondition(!pieces[number - firstNumber].isFree, "an early piece is given back once")
        pieces[number - firstNumber].isFree = true
        let free = pieces.prefix { $0.isFree }.count
        pieces.removeFirst(free)
        firstNumber += free
    }

    package var isEmpty: Bool { pieces.isEmpty }
}
