import Dispatch
import Synchronization

/// Encodes documents on several threads, with the tokens of one: documents are cut into units where the tokenizer
/// allows it, threads take runs of units from a counter, and runs are put together in their order.
package struct StreamEncoder {
    private let tokenizer: any Tokenizer
    private let threads: Int

    package init(tokenizer: any Tokenizer, threads: Int) {
        self.tokenizer = tokenizer
        self.threads = threads
    }

    /// Bytes of a long document that are a unit; what is shorter is one.
    private static let unit = 1 << 18

    private struct Unit {
        var document: Int
        var range: Range<Int>
    }

    /// The tokens of all documents, back to back, and each one's number of them. documents: their bytes of `text`.
    package func encode<Token: FixedWidthInteger & Sendable>(_ documents: [Range<Int>], of text: [UInt8],
                                                             as _: Token.Type) -> (tokens: [Token], counts: [Int]) {
        let units = units(of: documents, text), runs = runs(of: units)
        let next = Atomic(0)
        let parts = Mutex([(tokens: [Token], counts: [Int])](repeating: ([], []), count: runs.count))
        DispatchQueue.concurrentPerform(iterations: max(1, min(threads, runs.count))) { _ in
            while true {
                let run = next.wrappingAdd(1, ordering: .relaxed).oldValue
                guard run < runs.count else { return }
                let part = encode(units[runs[run]], text, Token.self)
                parts.withLock { $0[run] = part }
            }
        }
        return parts.withLock { parts in
            var tokens: [Token] = [], counts = [Int](repeating: 0, count: documents.count)
            tokens.reserveCapacity(parts.reduce(0) { $0 + $1.tokens.count })
            for run in parts.indices {
                tokens += parts[run].tokens
                for (unit, count) in zip(units[runs[run]], parts[run].counts) { counts[unit.document] += count }
                parts[run].tokens = []
            }
            return (tokens, counts)
        }
    }

    private func units(of documents: [Range<Int>], _ text: [UInt8]) -> [Unit] {
        var units: [Unit] = []
        units.reserveCapacity(documents.count)
        for (number, range) in documents.enumerated() {
            var begin = range.lowerBound
            while range.upperBound - begin > 2 * Self.unit {
                let rest = text.span.extracting(begin..<range.upperBound)
                guard let place = tokenizer.cut(rest, atOrAfter: Self.unit) else { break }
                units.append(Unit(document: number, range: begin..<(begin + place)))
                begin += place
            }
            units.append(Unit(document: number, range: begin..<range.upperBound))
        }
        return units
    }

    /// Eight runs a thread of about as many bytes, so that none waits long for the last.
    private func runs(of units: [Unit]) -> [Range<Int>] {
        let bytes = units.reduce(0) { $0 + $1.range.count }, size = max(1, bytes / (8 * threads))
        var runs: [Range<Int>] = [], first = 0, held = 0
        for index in units.indices {
            held += units[index].range.count
            guard held >= size || index == units.count - 1 else { continue }
            runs.append(first..<(index + 1))
            (first, held) = (index + 1, 0)
        }
        return runs
    }

    private func encode<Token: FixedWidthInteger>(_ units: ArraySlice<Unit>, _ text: [UInt8], _: Token.Type)
        -> (tokens: [Token], counts: [Int]) {
        var own: [Token] = [], counts: [Int] = [], tokens: [Int32] = []
        counts.reserveCapacity(units.count)
        for unit in units {
            tokens.removeAll(keepingCapacity: true)
            tokenizer.encode(text.span.extracting(unit.range), into: &tokens)
            for token in tokens { own.append(Token(truncatingIfNeeded: token)) }
            counts.append(tokens.count)
        }
        return (own, counts)
    }
}
