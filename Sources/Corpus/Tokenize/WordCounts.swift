/// How often each word occurs, words in the order of their first appearance.
package struct WordCounts {
    /// Longer words are counted in pieces of this many bytes, so that one endless line does not slow down
    /// every later merge.
    package static let longest = 64

    private var bytes: [UInt8] = []
    private var starts = [0]
    package private(set) var counts: [Int] = []
    /// How many words were looked for: however long they are, the work goes with them and the bytes.
    package private(set) var searches = 0
    private var slots = [Int32](repeating: -1, count: 1 << 12)

    package init() {}

    package func word(_ index: Int) -> ArraySlice<UInt8> { bytes[starts[index]..<starts[index + 1]] }

    /// Counts the words of one document.
    package mutating func add(_ text: Span<UInt8>, classes: Span<UInt8>) {
        var begin = 0
        while begin < text.count {
            let end = WordSplitter.wordEnd(text, from: begin, classes: classes)
            searches += 1
            while begin < end {
                let next = Self.pieceEnd(text, from: begin, wordEnd: end)
                add(word: text.extracting(begin..<next))
                begin = next
            }
        }
    }

    /// The end of a word's next piece, which is no place within a character.
    private static func pieceEnd(_ text: Span<UInt8>, from begin: Int, wordEnd: Int) -> Int {
        guard wordEnd - begin > longest else { return wordEnd }
        for end in ((begin + longest - 3)...(begin + longest)).reversed() where text[end] & 0xC0 != 0x80 {
            return end
        }
        return begin + longest
    }

    private mutating func add(word: Span<UInt8>) {
        let slot = slot(of: word)
        if slots[slot] >= 0 {
            counts[Int(slots[slot])] += 1
            return
        }
        slots[slot] = Int32(counts.count)
        for index in word.indices { bytes.append(word[index]) }
        starts.append(bytes.count)
        counts.append(1)
        if 2 * counts.count > slots.count { grow() }
    }

    private mutating func grow() {
        slots = Array(repeating: -1, count: 4 * slots.count)
        for index in counts.indices {
            let word = Array(word(index))
            slots[slot(of: word.span)] = Int32(index)
        }
    }

    /// Where `word` is, or the free slot where it would be.
    private func slot(of word: Span<UInt8>) -> Int {
        var slot = Int(truncatingIfNeeded: wordHash(word) >> 32) & (slots.count - 1)
        while slots[slot] >= 0, !isEqual(Int(slots[slot]), word) { slot = (slot + 1) & (slots.count - 1) }
        return slot
    }

    private func isEqual(_ index: Int, _ word: Span<UInt8>) -> Bool {
        let begin = starts[index]
        guard starts[index + 1] - begin == word.count else { return false }
        for offset in word.indices where bytes[begin + offset] != word[offset] { return false }
        return true
    }
}
