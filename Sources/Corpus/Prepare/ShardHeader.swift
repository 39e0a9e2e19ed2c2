import Base

/// The first 1,024 bytes of a shard: llm.c's header of 256 int32, of which llm.c reads the first three. The others
/// let a shard be checked without an index:
///
///     0  20240520 for tokens of 2 bytes, 20240801 for 4       4  the plan that the shard is part of
///     1  1, or 7 for 4 bytes                                  5  its number
///     2  tokens                                               6  documents
///     3  "SKEI"                                               7  CRC-32C of the tokens' bytes
///                                                             8  CRC-32C of the 32 bytes before
package struct ShardHeader: Equatable, Sendable {
    package var isWide: Bool
    package var tokenCount: Int
    package var plan: UInt32
    package var number: Int
    package var documentCount: Int
    package var tokensChecksum: UInt32

    package static let byteCount = 1024
    private static let mark: UInt32 = 0x4945_4B53

    package init(isWide: Bool, tokenCount: Int, plan: UInt32, number: Int, documentCount: Int, tokensChecksum: UInt32) {
        self.isWide = isWide
        self.tokenCount = tokenCount
        self.plan = plan
        self.number = number
        self.documentCount = documentCount
        self.tokensChecksum = tokensChecksum
    }

    package var bytes: [UInt8] {
        var file = ByteWriter(capacity: Self.byteCount)
        let numbers: [UInt32] = [isWide ? 20_240_801 : 20_240_520, isWide ? 7 : 1, UInt32(tokenCount), Self.mark, plan,
                                 UInt32(number), UInt32(documentCount), tokensChecksum]
        for value in numbers { file.append(value) }
        file.append(CRC32C.checksum(file.bytes))
        file.append(bytes: [UInt8](repeating: 0, count: Self.byteCount - file.bytes.count))
        return file.bytes
    }

    /// nil when `file` does not begin with a header of ours, or has not as many bytes as it says.
    package init?(_ file: MappedFile) {
        guard file.count >= Self.byteCount, file.integer(UInt32.self, at: 12) == Self.mark,
              checksum(file.bytes.extracting(..<32), from: 0) == file.integer(UInt32.self, at: 32) else { return nil }
        self.init(isWide: file.integer(UInt32.self, at: 0) == 20_240_801,
                  tokenCount: Int(file.integer(UInt32.self, at: 8)), plan: file.integer(UInt32.self, at: 16),
                  number: Int(file.integer(UInt32.self, at: 20)),
                  documentCount: Int(file.integer(UInt32.self, at: 24)),
                  tokensChecksum: file.integer(UInt32.self, at: 28))
        guard file.count == Self.byteCount + tokenCount * (isWide ? 4 : 2) else { return nil }
    }

    /// `tokens-00012.bin`.
    package static func fileName(_ number: Int) -> String {
        let digits = String(number)
        return "tokens-" + String(repeating: "0", count: max(0, 5 - digits.count)) + digits + ".bin"
    }

    package static func isFileName(_ name: String) -> Bool { name.hasPrefix("tokens-") && name.hasSuffix(".bin") }
}
