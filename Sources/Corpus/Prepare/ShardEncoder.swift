import Base
import Dispatch
import Synchronization

/// The texts of one shard, back to back.
struct ShardText: Sendable {
    var bytes: [UInt8] = []
    /// Where each document ends.
    var ends: [Int] = []

    mutating func append(_ text: Span<UInt8>) {
        unsafe text.withUnsafeBufferPointer { unsafe bytes.append(contentsOf: $0) }
        ends.append(bytes.count)
    }

    func range(_ document: Int) -> Range<Int> { (document == 0 ? 0 : ends[document - 1])..<ends[document] }
}

/// A shard's tokens as they are written: little-endian, an end-of-document token before each document.
struct EncodedShard: Sendable {
    var bytes: [UInt8] = []
    /// Tokens of each document, without that one.
    var counts: [Int] = []
}

/// Encodes the documents of `text` on so many threads. They take runs of documents from a counter, and the runs are
/// put together in their order, so the result does not depend on who was faster.
func encode(_ text: ShardText, _ tokenizer: any Tokenizer, threads: Int) -> EncodedShard {
    let runs = runs(of: text, count: 8 * threads)
    let next = Atomic(0), parts = Mutex([EncodedShard](repeating: EncodedShard(), count: runs.count))
    DispatchQueue.concurrentPerform(iterations: min(threads, max(runs.count, 1))) { _ in
        while true {
            let run = next.wrappingAdd(1, ordering: .relaxed).oldValue
            guard run < runs.count else { return }
            let part = encode(text, runs[run], tokenizer)
            parts.withLock { $0[run] = part }
        }
    }
    return parts.withLock { parts in
        guard parts.count != 1 else { return parts[0] }
        var shard = EncodedShard()
        shard.bytes.reserveCapacity(parts.reduce(0) { $0 + $1.bytes.count })
        for index in parts.indices {
            shard.bytes += parts[index].bytes
            shard.counts += parts[index].counts
            parts[index] = EncodedShard()
        }
        return shard
    }
}

/// Runs of documents of about equally many bytes.
private func runs(of text: ShardText, count: Int) -> [Range<Int>] {
    let size = max(text.bytes.count / max(count, 1), 1)
    var runs: [Range<Int>] = [], first = 0
    for document in text.ends.indices {
        let begin = text.range(first).lowerBound
        guard text.ends[document] - begin >= size || document == text.ends.count - 1 else { continue }
        runs.append(first..<(document + 1))
        first = document + 1
    }
    return runs
}

private func encode(_ text: ShardText, _ documents: Range<Int>, _ tokenizer: any Tokenizer) -> EncodedShard {
    let isWide = tokenizer.vocabularySize > 1 << 16, isBytes = tokenizer is ByteTokenizer
    var shard = EncodedShard(), tokens: [Int32] = []
    func append(_ token: Int32) {
        let value = UInt32(bitPattern: token)
        shard.bytes.append(UInt8(truncatingIfNeeded: value))
        shard.bytes.append(UInt8(truncatingIfNeeded: value >> 8))
        guard isWide else { return }
        shard.bytes.append(UInt8(truncatingIfNeeded: value >> 16))
        shard.bytes.append(UInt8(truncatingIfNeeded: value >> 24))
    }
    for document in documents {
        let range = text.range(document)
        append(tokenizer.endOfDocument)
        // Bytes are their own tokens: no array of four bytes each for what may be a text of a gigabyte.
        if isBytes {
            for index in range { append(Int32(text.bytes[index])) }
            shard.counts.append(range.count)
            continue
        }
        tokens.removeAll(keepingCapacity: true)
        tokenizer.encode(text.bytes.span.extracting(range), into: &tokens)
        for token in tokens { append(token) }
        shard.counts.append(tokens.count)
    }
    return shard
}
