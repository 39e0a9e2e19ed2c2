/// A stretch of input positions of one `TokenStream`.
package struct Piece: Equatable, Sendable {
    package var position: Int
    package var count: Int

    package init(position: Int, count: Int) {
        self.position = position
        self.count = count
    }
}

/// Rows of `sequence` inputs, each made of pieces one after the other; what they do not fill is padding.
///
/// Rows that follow each other through a stream need no memory: row r is the r-th stretch of `sequence` positions. All
/// others are stored, 16 bytes a piece and 8 a row.
package struct RowTable: Sendable {
    package let sequence: Int
    /// Positions that rows cut one after the other; they come before the stored rows.
    private var length = 0
    private var pieces: [Piece] = []
    /// `starts[row]` is the first piece of the row-th stored row; one more entry is their number.
    private var starts = [0]

    package init(sequence: Int) { self.sequence = sequence }

    /// Positions 0..<length, every `sequence` of them a row; the last one may be shorter.
    package init(sequence: Int, cutting length: Int) {
        precondition(sequence > 0 && length >= 0, "rows without length")
        self.sequence = sequence
        self.length = length
    }

    private var computed: Int { (length + sequence - 1) / sequence }

    package var count: Int { computed + starts.count - 1 }

    package subscript(row: Int) -> RowPieces {
        precondition(row >= 0 && row < count, "no such row")
        guard row >= computed else {
            let begin = row * sequence
            return RowPieces(Piece(position: begin, count: min(sequence, length - begin)))
        }
        let index = row - computed
        return RowPieces(pieces[starts[index]..<starts[index + 1]])
    }

    /// Input positions in all rows.
    package var tokenCount: Int { pieces.reduce(length) { $0 + $1.count } }

    package mutating func append(_ row: some Sequence<Piece>) {
        pieces.append(contentsOf: row)
        precondition(pieces[starts.last!...].reduce(0) { $0 + $1.count } <= sequence, "a row too long")
        starts.append(pieces.count)
    }

    /// One row for each bin of `packing`, whose items are `items`.
    package mutating func append(_ items: [Piece], packed packing: Packing) {
        for row in 0..<packing.count { append(packing[row].map { items[$0] }) }
    }
}

/// The pieces of one row, computed or stored; neither allocates.
package struct RowPieces: RandomAccessCollection, Sendable {
    private let only: Piece
    private let stored: ArraySlice<Piece>?

    init(_ only: Piece) { (self.only, stored) = (only, nil) }

    init(_ stored: ArraySlice<Piece>) { (only, self.stored) = (Piece(position: 0, count: 0), stored) }

    package var startIndex: Int { 0 }
    package var endIndex: Int { stored?.count ?? 1 }

    package subscript(index: Int) -> Piece {
        precondition(index >= 0 && index < endIndex, "no such piece")
        guard let stored else { return only }
        return stored[stored.startIndex + index]
    }
}
