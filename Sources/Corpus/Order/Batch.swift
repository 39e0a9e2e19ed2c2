/// The rows of one forward pass, filled in place: make it once, fill it every step.
///
/// The arrays hold `capacity` elements (`documentStarts` one more); of `inputs` and `targets` the first
/// rows * sequence are this batch, row after row.
public final class Batch {
    /// The most tokens that it can hold.
    public let capacity: Int
    public private(set) var rows: Int
    public private(set) var sequence: Int

    /// Token ids. Positions beyond the end of the data hold end-of-document tokens.
    public private(set) var inputs: [Int32]
    /// The token after each input, or -1 where there is nothing to learn.
    public private(set) var targets: [Int32]
    /// Where attention must not look back across, as positions in 0...rows * sequence: the first
    /// `documentStartCount` entries are 0, the further segments' first positions, rows * sequence
    /// (FlashAttention calls this cu_seqlens).
    public private(set) var documentStarts: [Int32]
    public private(set) var documentStartCount: Int
    /// How many targets are not -1.
    public private(set) var targetCount: Int

    /// `rows` rows of `sequence` inputs each, at most; or any other shape with no more inputs.
    public init(rows: Int, sequence: Int) {
        precondition(rows > 0 && sequence > 0, "a batch needs rows and a sequence length")
        let (capacity, overflow) = rows.multipliedReportingOverflow(by: sequence)
        precondition(!overflow && capacity < Int32.max, "positions in a batch are 32-bit")
        self.capacity = capacity
        self.rows = 0
        self.sequence = sequence
        inputs = Array(repeating: 0, count: capacity)
        targets = Array(repeating: -1, count: capacity)
        documentStarts = Array(repeating: 0, count: capacity + 1)
        documentStartCount = 1
        targetCount = 0
    }

    /// rows * sequence.
    public var tokenCount: Int { rows * sequence }

    /// How many tokens all positions together look back at, when each sees its own segment up to itself: half the
    /// square of each segment's length, which is what attention's products cost.
    public var contextTokens: Double {
        var sum = 0.0
        for index in 1..<max(documentStartCount, 1) {
            let length = Double(documentStarts[index] - documentStarts[index - 1])
            sum += length * length / 2
        }
        return sum
    }

    /// Empties it, for rows of `sequence` inputs.
    func begin(sequence: Int) {
        rows = 0
        self.sequence = sequence
        documentStartCount = 1
        targetCount = 0
    }

    /// Appends a row: `pieces` of `stream` as far as they fit, then padding. With `documentMask`, a segment
    /// begins with each piece, with each document and with the padding; in any case with the row and after
    /// every `window` inputs of it.
    func append(_ pieces: RowPieces, of stream: TokenStream, documentMask: Bool, window: Int) {
        precondition(tokenCount + sequence <= capacity, "the batch is full")
        let begin = tokenCount, next = begin + sequence
        var end = begin
        for piece in pieces where end < next {
            let count = min(piece.count, next - end)
            stream.copy(piece.position..<(piece.position + count), into: &inputs, at: end)
            stream.copy((piece.position + 1)..<(piece.position + 1 + count), into: &targets, at: end)
            for index in end..<(end + count) {
                let isDocument = documentMask && (index == end || inputs[index] == stream.endOfDocument)
                if isDocument || (index - begin) % window == 0 { appendStart(index) }
            }
            end += count
        }
        targetCount += end - begin
        for index in end..<next {
            inputs[index] = stream.endOfDocument
            targets[index] = -1
            if (documentMask && index == end) || (index - begin) % window == 0 { appendStart(index) }
        }
        appendStart(next)
        rows += 1
    }

    /// A row's first position is there already, as the end of what came before it.
    private func appendStart(_ position: Int) {
        if documentStarts[documentStartCount - 1] == Int32(position) { return }
        documentStarts[documentStartCount] = Int32(position)
        documentStartCount += 1
    }

    /// Makes one row of `sequence` inputs into several of `shorter`, which divides it: the same tokens, and
    /// the same segments, which must end where the shorter rows do.
    func reshape(sequence shorter: Int) {
        precondition(sequence % shorter == 0, "the new length does not divide the old one")
        rows *= sequence / shorter
        sequence = shorter
    }
}
