import Base
import Testing

@Suite struct CRC32CTests {
    /// The check value of the CRC catalogue, and RFC 3720 (iSCSI), appendix B.4.
    @Test func knownAnswers() {
        #expect(CRC32C.checksum(Array("123456789".utf8)) == 0xE306_9283)
        #expect(CRC32C.checksum([UInt8](repeating: 0, count: 32)) == 0x8A91_36AA)
        #expect(CRC32C.checksum([UInt8](repeating: 0xFF, count: 32)) == 0x62A8_AB43)
        #expect(CRC32C.checksum((0..<32).map { UInt8($0) }) == 0x46DD_794E)
        #expect(CRC32C.checksum([]) == 0)
    }

    /// The three-stream path begins at 6,144 bytes; lengths around its edges, and every split of one.
    @Test func instructionEqualsTable() {
        let rng = CounterRNG(seed: 1, stream: 1)
        let bytes = (0..<20_000).map { UInt8(truncatingIfNeeded: rng.bits(at: UInt64($0))) }
        for count in [0, 1, 7, 8, 9, 6_143, 6_144, 6_145, 12_287, 12_288, 12_300, 20_000] {
            let part = Array(bytes[..<count])
            #expect(CRC32C.checksum(part) == CRC32C.portable(part), "\(count) bytes")
        }
        let whole = CRC32C.checksum(bytes)
        for split in stride(from: 0, through: bytes.count, by: 997) {
            let first = CRC32C.checksum(Array(bytes[..<split]))
            #expect(CRC32C.checksum(Array(bytes[split...]), from: first) == whole)
        }
    }
}
