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
package struct RowTable: Sendable {
    package let sequence: Int
    private var pieces: [Piece] = []
    /// `starts[row]` is the row's first piece; one more entry is their number.
    private var starts = [0]

    package init(sequence: Int) { self.sequence = sequence }

    package var count: Int { starts.count - 1 }

    package subscript(row: Int) -> ArraySlice<Piece> { pieces[starts[row]..<starts[row + 1]] }

    /// Input positions in all rows.
    package var tokenCount: Int { pieces.reduce(0) { $0 + $1.count } }

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
