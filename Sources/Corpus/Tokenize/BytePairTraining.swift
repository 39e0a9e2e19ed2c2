import Base

extension BytePairTokenizer {
    /// Learns a byte-level BPE of `vocabularySize` tokens (257...2^16) from the training documents of
    /// `sources`: ids 0...255 are the bytes, then come the merged tokens in the order learnt, then the
    /// end of document. Each round joins the pair of neighbours that occurs most often within words, the
    /// smallest pair of ids among equals; nothing else decides, so the result repeats.
    ///
    /// Throws when the sources cannot be read, or hold too few pairs for so many tokens.
    public static func trained(on sources: [String], vocabularySize: Int,
                               separator: String = "") throws(BadInput) -> BytePairTokenizer {
        guard (257...65_536).contains(vocabularySize) else {
            throw BadInput("a vocabulary of \(vocabularySize) tokens: choose 257 to 65536")
        }
        let source = try SourceDocuments(sources, separator: separator)
        let classes = WordSplitter.classes
        var words = WordCounts()
        for document in DocumentParts(source).train {
            words.add(source.text.span.extracting(document.range), classes: classes.span)
        }
        var training = BytePairTraining(words)
        while training.tokens.count + 1 < vocabularySize {
            guard training.learnOne() else {
                throw BadInput("the data has pairs for \(training.tokens.count + 1) tokens only, not "
                    + "\(vocabularySize): ask for fewer, or add data")
            }
        }
        return BytePairTokenizer(tokens: training.tokens + [[]], merges: training.merges,
                                 endOfDocument: Int32(training.tokens.count))
    }
}

/// The state of learning merges: the words as symbols, and for each pair of neighbours how often it occurs
/// and in which words.
package struct BytePairTraining {
    package private(set) var tokens: [[UInt8]] = (0..<256).map { [UInt8($0)] }
    package private(set) var merges: [BytePairTokenizer.Merge] = []

    private var words: [[Int32]]
    private let wordCounts: [Int]
    private var known: Set<[UInt8]>
    private var pairs: [Pair: Occurrences] = [:]
    private var queue = Heap<Candidate>()

    package struct Pair: Hashable {
        package var left: Int32
        package var right: Int32
    }

    private struct Occurrences {
        var count = 0
        /// Words that have the pair or had it; once each.
        var words: [Int32] = []
    }

    /// A pair with its count when it was put into the queue: the most frequent first, then the smallest ids.
    private struct Candidate: HeapElement {
        var count: Int
        var pair: Pair

        func precedes(_ other: Candidate) -> Bool {
            (other.count, pair.left, pair.right) < (count, other.pair.left, other.pair.right)
        }
    }

    package init(_ counts: WordCounts) {
        words = counts.counts.indices.map { counts.word($0).map { Int32($0) } }
        wordCounts = counts.counts
        known = Set(tokens)
        for index in words.indices {
            count(index)
            for place in words[index].indices.dropFirst() {
                list(index, under: Pair(left: words[index][place - 1], right: words[index][place]))
            }
        }
        for (pair, occurrences) in pairs { queue.push(.init(count: occurrences.count, pair: pair)) }
    }

    /// Joins the most frequent pair everywhere. A pair whose bytes are a token already is passed over, so
    /// that each token has one merge. False when no other pair occurs twice.
    package mutating func learnOne() -> Bool {
        while let best = queue.pop() {
            guard let occurrences = pairs[best.pair], occurrences.count >= 2 else { continue }
            // The count has fallen since the entry was made: put it back where it belongs.
            guard occurrences.count == best.count else {
                queue.push(.init(count: occurrences.count, pair: best.pair))
                continue
            }
            let bytes = tokens[Int(best.pair.left)] + tokens[Int(best.pair.right)]
            guard known.insert(bytes).inserted else { continue }
            tokens.append(bytes)
            join(best.pair, in: occurrences.words)
            return true
        }
        return false
    }

    /// Makes the last token of `pair`, in all words that have it.
    private mutating func join(_ pair: Pair, in candidates: [Int32]) {
        let id = Int32(tokens.count - 1)
        merges.append(.init(left: pair.left, right: pair.right, result: id))
        var grown: Set<Pair> = []
        for word in candidates where replace(pair, by: id, in: Int(word)) {
            let new = words[Int(word)]
            for place in new.indices.dropFirst() where new[place] == id || new[place - 1] == id {
                let neighbours = Pair(left: new[place - 1], right: new[place])
                pairs[neighbours, default: Occurrences()].count += wordCounts[Int(word)]
                list(Int(word), under: neighbours)
                grown.insert(neighbours)
            }
        }
        pairs[pair] = nil
        for neighbours in grown { queue.push(.init(count: pairs[neighbours]!.count, pair: neighbours)) }
    }

    /// Joins `pair` in a word and takes the neighbours that are no more off the counts: those alone, since most
    /// of a long word stays as it is. False when the word does not have the pair.
    private mutating func replace(_ pair: Pair, by id: Int32, in index: Int) -> Bool {
        let old = words[index]
        var new: [Int32] = [], place = 0, wasJoined = false
        new.reserveCapacity(old.count)
        while place < old.count {
            let matches = place + 1 < old.count && old[place] == pair.left && old[place + 1] == pair.right
            if place > 0, matches || wasJoined {
                pairs[Pair(left: old[place - 1], right: old[place])]!.count -= wordCounts[index]
            }
            new.append(matches ? id : old[place])
            place += matches ? 2 : 1
            wasJoined = matches
        }
        guard new.count < old.count else { return false }
        words[index] = new
        return true
    }

    /// Adds a word's pairs to the counts.
    private mutating func count(_ index: Int) {
        let word = words[index]
        for place in word.indices.dropFirst() {
            let pair = Pair(left: word[place - 1], right: word[place])
            pairs[pair, default: Occurrences()].count += wordCounts[index]
        }
    }

    private mutating func list(_ index: Int, under pair: Pair) {
        if pairs[pair]!.words.last != Int32(index) { pairs[pair]!.words.append(Int32(index)) }
    }
}
