/// How the head's work is cut into tiles: a function of shapes alone, so that results do not depend on threads.
///
/// A small vocabulary is cut by tokens, and a tile sees all words of its tokens. From 4,096 words on it is cut by words
/// as well: logits are made block by block of words, and blocks belong to sixteen groups, each of which sums its own
/// share of the input's gradient.
public struct HeadCut: Sendable, Equatable {
    public static let groups = 16
    /// Rows of logits that exist at once: of a large vocabulary as few as make a product efficient, since a
    /// thousand of them would be 200 MB; otherwise 16 MiB of them.
    public let chunkRows: Int
    public let vocabulary: Int
    public let isByWords: Bool
    /// Words of a group and of a block; the last ones may have fewer.
    public let groupWords: Int
    public let blockWords: Int
    public let blocksPerGroup: Int

    public init(vocabulary: Int, tokens: Int) {
        self.vocabulary = vocabulary
        isByWords = vocabulary >= 4_096
        chunkRows = min(tokens, max(384, (4 << 20) / vocabulary / 64 * 64))
        guard isByWords else {
            (groupWords, blockWords, blocksPerGroup) = (vocabulary, vocabulary, 1)
            return
        }
        groupWords = rounded((vocabulary + Self.groups - 1) / Self.groups)
        blocksPerGroup = (groupWords + 511) / 512
        blockWords = rounded((groupWords + blocksPerGroup - 1) / blocksPerGroup)
    }

    public var blocks: Int { isByWords ? Self.groups * blocksPerGroup : 1 }

    /// First word and number of words of a block; blocks of a group follow each other. The last ones may be empty.
    public func words(_ block: Int) -> (start: Int, count: Int) {
        let group = block / blocksPerGroup, end = min((group + 1) * groupWords, vocabulary)
        let start = min(group * groupWords + block % blocksPerGroup * blockWords, end)
        return (start, min(blockWords, end - start))
    }

    /// Floats of a chunk's logits; of the groups' shares of the input's gradient; of each row's maxima and sums.
    public var logits: Int { chunkRows * vocabulary }
    public func shares(dim: Int) -> Int { isByWords ? Self.groups * chunkRows * dim : 0 }
    public var sums: Int { isByWords ? chunkRows * (2 * blocks + 1) : 0 }

    /// Floats of one thread's packed words.
    public func packed(dim: Int) -> Int {
        isByWords ? max(packedFloats(dim, blockWords), packedFloats(blockWords, dim)) : 0
    }
}

/// What a right operand takes when packed: strips of 64 columns.
func packedFloats(_ rows: Int, _ columns: Int) -> Int { rows * ((columns + 63) / 64 * 64) }

private func rounded(_ words: Int) -> Int { (words + 15) / 16 * 16 }
