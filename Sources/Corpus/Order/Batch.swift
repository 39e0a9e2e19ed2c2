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
    public internal(set) var inputs: [Int32]
    /// The token after each input, or -1 where there is nothing to learn.
    public internal(set) var targets: [Int32]
    /// Where attention must not look back across, as positions in 0...rows * sequence: the first
    /// `documentStartCount` entries are 0, the further segments' first positions, rows * sequence
    /// (FlashAttention calls this cu_seqlens).
    public internal(set) var documentStarts: [Int32]
    public internal(set) var documentStartCount: Int
    /// How many targets are not -1.
    public internal(set) var targetCount: Int

    /// `rows` rows of `sequence` inputs each, at most.
    public init(rows: Int, sequence: Int) {
        precondition(rows > 0 && sequence > 0, "a batch needs rows and a sequence length")
        precondition(rows.multipliedReportingOverflow(by: sequence).partialValue < Int32.max)
        capacity = rows * sequence
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

    /// Empties it, for rows of `sequence` inputs.
    func begin(sequence: Int) {
        rows = 0
        self.sequence = sequence
        documentStartCount = 1
        targetCount = 0
    }

    /// Appends a row: the positions `range` of `stream`, at most `sequence` of them, then padding.
    func append(_ range: Range<Int>, of stream: TokenStream, documentMask: Bool) {
        precondition(tokenCount + sequence <= capacity, "the batch is full")
        precondition(range.count <= sequence && !range.isEmpty, "a row of the wrong length")
        let begin = tokenCount, end = begin + range.count, next = begin + sequence
        var inputSpan = inputs.mutableSpan, targetSpan = targets.mutableSpan
        stream.copy(range, into: &inputSpan, at: begin)
        stream.copy((range.lowerBound + 1)..<(range.upperBound + 1), into: &targetSpan, at: begin)
        for index in end..<next {
            inputSpan[index] = stream.endOfDocument
            targetSpan[index] = -1
        }
        if documentMask {
            // The row's own begin is there already, as the end of what came before.
            for index in (begin + 1)..<end where inputs[index] == stream.endOfDocument {
                appendStart(index)
            }
            if end < next { appendStart(end) }
        }
        appendStart(next)
        targetCount += range.count
        rows += 1
    }

    private func appendStart(_ position: Int) {
        documentStarts[documentStartCount] = Int32(position)
        documentStartCount += 1
    }
}
