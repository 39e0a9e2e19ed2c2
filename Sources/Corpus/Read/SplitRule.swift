import Base

/// Which documents are for training and which are held out.
///
/// A document table's own column decides where there is one. Any other document is held out when the low
/// byte of the CRC-32C of its name is under 13: 5.1% of names, and adding documents never moves one. If
/// nothing was held out so, the training document with the smallest checksum is; if everything was, the
/// one with the largest goes back. A single training document is cut instead (`cutPoint`).
package func splits(of documents: [(declared: Split?, hash: UInt32)]) -> [Split] {
    var splits = documents.map { document in
        document.declared ?? (document.hash & 0xFF < 13 ? .valid : .train)
    }
    let train = splits.indices.filter { splits[$0] == .train }
    let mayReturn = documents.indices.filter { documents[$0].declared == nil }
    if !splits.contains(.valid), train.count > 1 {
        splits[train.min { documents[$0].hash < documents[$1].hash }!] = .valid
    } else if train.isEmpty, let last = mayReturn.max(by: { documents[$0].hash < documents[$1].hash }) {
        splits[last] = .train
    }
    return splits
}

/// Where a single document is cut: its first 90% is for training and its last 10% for validation, moved
/// back to the begin of a character.
package func cutPoint(of text: Span<UInt8>) -> Int {
    var cut = text.count - (text.count + 9) / 10
    while cut > 0, text[cut] & 0xC0 == 0x80 { cut -= 1 }
    return cut
}
