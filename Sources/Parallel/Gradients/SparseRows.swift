import Collectives
import Recipe
import Tensor

/// The gradient of an embedding of many words, on its way: only rows of words that some rank has met in the step are
/// sent, since all others are zero on every rank.
///
/// Of GPT-2's 50,257 words a step of 16,384 tokens meets some thousands; and this gradient is the last to be complete,
/// so nothing hides its way. Each rank marks the words of its micro-batches as their forwards begin. With the last
/// backward ranks exchange the marks, a bit a word, and when the gradient is complete its marked rows are moved to the
/// front of its memory, summed, and moved back. A float's sum is what it would be among all rows: its owner is the
/// same, and so is the order of ranks where that is the owner's.
///
/// Where more than three quarters of all rows are marked, all go, as they lie.
final class SparseRows {
    private let width: Int
    private let vocabulary: Int
    private let communicator: Communicator
    /// Bits of the words that each rank has met: [world, ceil(V / 32)] words of 32.
    private let marks: Row
    private let memory: Arena
    private var tickets: TicketQueue
    /// The words that some rank has met, in ascending order; empty where all rows go.
    private var met: [Int] = []

    private var words: Int { (vocabulary + 31) / 32 }
    private var own: UnsafeMutableBufferPointer<UInt32> {
        unsafe marks.slice(communicator.rank * words, words).bytes.bindMemory(to: UInt32.self)
    }

    /// Nil where the embedding is also the head, whose gradient has no zero rows, or travels with other parameters.
    init?(_ plan: ShardPlan, _ communicator: Communicator) throws {
        guard !plan.table.shape.tieEmbeddings, let first = plan.units.first, first.blocks == 0..<1,
              communicator.worldSize > 1 else { return nil }
        (width, vocabulary) = (plan.table.shape.dim, plan.table.vocabulary)
        self.communicator = communicator
        let words = (vocabulary + 31) / 32
        memory = try Arena(name: "marks of words", capacity: Arena.padded(communicator.worldSize * words))
        marks = memory.take(communicator.worldSize * words)
        tickets = TicketQueue(communicator)
        met.reserveCapacity(vocabulary)
    }

    /// A micro-batch has these tokens.
    func mark(_ tokens: StepTokens) {
        let own = unsafe own
        switch tokens {
        case .none: break
        case .unknown: unsafe own.update(repeating: .max)
        case .these(let tokens):
            for index in 0..<tokens.count {
                let word = tokens[index]
                unsafe own[word / 32] |= 1 << UInt32(word % 32)
            }
        }
    }

    /// With the last backward: marks go to all.
    func exchange() {
        unsafe tickets.append(communicator.allGather(
            bytes: marks.bytes, partition: Partition(evenly: marks.count * 4, over: communicator.worldSize)))
    }

    /// Waits for the marks of all, and forgets this step's. Returns whether it is worth sending rows one by one.
    func collect() throws(CollectiveFault) -> Bool {
        try tickets.waitAll()
        met.removeAll(keepingCapacity: true)
        let all = unsafe marks.bytes.bindMemory(to: UInt32.self), most = vocabulary / 4 * 3
        for place in 0..<words {
            var bits: UInt32 = 0
            for rank in 0..<communicator.worldSize { unsafe bits |= all[rank * words + place] }
            while bits != 0 {
                let word = place * 32 + bits.trailingZeroBitCount
                if word < vocabulary { met.append(word) }
                bits &= bits - 1
            }
        }
        marks.fill(0)
        if met.count > most { met.removeAll(keepingCapacity: true) }
        return !met.isEmpty
    }

    /// Moves the rows that were met to the front of the gradient; returns these.
    func compact(_ gradient: Row) -> Row {
        for (place, word) in met.enumerated() where place != word {
            gradient.slice(place * width, width).copy(gradient.slice(word * width, width))
        }
        return gradient.slice(0, met.count * width)
    }

    /// Where the floats before `place` of the gradient end among those that were moved.
    func compacted(_ place: Int) -> Int {
        let word = place / width
        var (low, high) = (0, met.count)
        while low < high {
            let middle = (low + high) / 2
            if met[middle] < word { low = middle + 1 } else { high = middle }
        }
        return low * width + (low < met.count && met[low] == word ? place % width : 0)
    }

    /// Moves the floats `range` of the gradient from where `compact` has put them back to their places, with zeros
    /// between them. What is outside may be anything afterwards.
    func expand(_ gradient: Row, _ range: Range<Int>) {
        // From the last one on: a row's place is never before the one that it was moved to.
        var end = range.upperBound
        for (place, word) in met.enumerated().reversed() {
            let row = (word * width)..<((word + 1) * width), own = row.clamped(to: range)
            if row.lowerBound >= range.upperBound { continue }
            if own.isEmpty { break }
            gradient.slice(own.upperBound, end - own.upperBound).fill(0)
            let source = place * width + own.lowerBound - row.lowerBound
            gradient.moveWithin(from: source, to: own.lowerBound, count: own.count)
            end = own.lowerBound
        }
        gradient.slice(range.lowerBound, end - range.lowerBound).fill(0)
    }
}
