import Base

/// An opened folder of prepared data: the index in memory, the shards mapped. Opening reads the index and the
/// shards' headers, so it takes no longer for a terabyte than for a megabyte, apart from 24 bytes a document. The
/// tokens themselves are checked by `skein data verify`; while training, a token outside the vocabulary is noticed
/// where it is read (`TokenFile.damage`).
package struct PreparedData {
    package let index: PreparedIndex
    package let shards: [TokenFile]
    /// For each document its shard, and its tokens there.
    package let places: [(shard: Int, range: Range<Int>)]

    /// Throws `BadInput` when the folder is not whole, its parts do not belong together, or it was made with another
    /// tokenizer.
    package init(_ folder: String, tokenizer: any Tokenizer) throws(BadInput) {
        let index = try PreparedIndex(MappedFile(folder + "/" + PreparedIndex.fileName))
        guard index.tokenizer == tokenizer.fingerprint, index.vocabularySize == tokenizer.vocabularySize else {
            let made = hexadecimal(index.tokenizer)
            throw BadInput("\(folder) was prepared with another tokenizer (fingerprint \(made), vocabulary "
                + "\(index.vocabularySize); this one has \(hexadecimal(tokenizer.fingerprint)), "
                + "\(tokenizer.vocabularySize)); set data.tokenizer to \(folder)")
        }
        var shards: [TokenFile] = []
        for (number, shard) in index.shards.enumerated() {
            let file = try openShard(folder, number, index)
            guard file.count == shard.tokenCount else { throw doesNotBelong(file.path, index) }
            shards.append(file)
        }
        self.index = index
        self.shards = shards
        places = try placesOfDocuments(index, folder)
    }
}

/// The shard `number` of an index, its header checked against it.
private func openShard(_ folder: String, _ number: Int, _ index: PreparedIndex) throws(BadInput) -> TokenFile {
    let mapped = try MappedFile(folder + "/" + ShardHeader.fileName(number))
    // A file that is too short says so in its own words.
    let file = try TokenFile(mapped, vocabularySize: index.vocabularySize)
    guard let header = ShardHeader(mapped), header.plan == index.plan, header.number == number,
          header.tokensChecksum == index.shards[number].checksum else { throw doesNotBelong(mapped.path, index) }
    return file
}

private func doesNotBelong(_ path: String, _ index: PreparedIndex) -> BadInput {
    BadInput("\(path) does not belong to its index (fingerprint \(hexadecimal(index.plan))); copy the folder again, or "
        + "run skein data prepare again")
}

private func placesOfDocuments(_ index: PreparedIndex,
                               _ folder: String) throws(BadInput) -> [(shard: Int, range: Range<Int>)] {
    var places: [(shard: Int, range: Range<Int>)] = []
    places.reserveCapacity(index.documents.count)
    var document = 0
    for (number, shard) in index.shards.enumerated() {
        var offset = 0
        for _ in 0..<shard.documentCount {
            let count = index.documents[document].tokenCount
            guard count < shard.tokenCount - offset else { throw doNotFill(number, folder) }
            // Each document stands behind its end-of-document token.
            places.append((number, (offset + 1)..<(offset + 1 + count)))
            offset += count + 1
            document += 1
        }
        guard offset == shard.tokenCount else { throw doNotFill(number, folder) }
    }
    return places
}

private func doNotFill(_ shard: Int, _ folder: String) -> BadInput {
    BadInput("\(folder)/\(PreparedIndex.fileName): the documents of shard \(shard) do not fill it; run skein data "
        + "prepare again")
}

/// Whether `folder` is prepared data. Throws when it was to become that, and the work was interrupted.
public func isPrepared(_ folder: String) throws(BadInput) -> Bool {
    if isFile(folder + "/" + PreparedIndex.fileName) { return true }
    guard isFile(folder + "/" + ShardHeader.fileName(0)) else { return false }
    throw BadInput("\(folder) is not finished: it has shards but no \(PreparedIndex.fileName); run the same "
        + "skein data prepare again, and it goes on where it was")
}

/// Reads every byte of the prepared data in `folder` and compares the shards with their checksums. Returns the number
/// of shards and of tokens. Throws `BadInput` for the first thing that is not as it was written.
public func verifyPrepared(_ folder: String, tokenizer: any Tokenizer) throws(BadInput) -> (shards: Int, tokens: Int) {
    guard try isPrepared(folder) else { throw BadInput("\(folder) has no \(PreparedIndex.fileName)") }
    let data = try PreparedData(folder, tokenizer: tokenizer)
    for (number, shard) in data.index.shards.enumerated() {
        let file = try MappedFile(folder + "/" + ShardHeader.fileName(number))
        let found = checksum(file.bytes.extracting(ShardHeader.byteCount...), from: 0)
        guard found == shard.checksum else {
            throw BadInput("\(file.path): its tokens, from byte \(ShardHeader.byteCount) on, have the checksum "
                + "\(hexadecimal(found)), not \(hexadecimal(shard.checksum)); copy it again, or remove it and "
                + "\(PreparedIndex.fileName) and run skein data prepare again")
        }
    }
    return (data.index.shards.count, data.index.tokenCount)
}
