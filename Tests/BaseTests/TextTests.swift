import Base
import Testing

@Suite struct TextTests {
    @Test func numbersAsPeopleReadThem() {
        #expect(Units.fixed(3.14159, 2) == "3.14")
        #expect(Units.fixed(-0.004, 2) == "0.00")
        #expect(Units.fixed(-1.996, 2) == "-2.00")
        #expect(Units.fixed(.nan, 2) == "nan")
        #expect(Units.bytes(512) == "512 B")
        #expect(Units.bytes(1536) == "1.5 KiB")
        #expect(Units.count(5_242_880) == "5.2 M")
        #expect(Units.grouped(-1_234_567) == "-1,234,567")
        #expect(Units.grouped(999) == "999")
        #expect(Units.duration(0.85) == "850 ms")
        #expect(Units.duration(245) == "4:05")
        #expect(Units.duration(7_384) == "2:03:04")
    }

    @Test func nearestNames() {
        let keys = ["steps", "seq_len", "threads", "max_norm"]
        #expect(nearestName(to: "step", in: keys) == "steps")
        #expect(nearestName(to: "sqe_len", in: keys) == "seq_len")
        #expect(nearestName(to: "banana", in: keys) == nil)
    }

    @Test func bytesRoundTripInLittleEndian() {
        var writer = ByteWriter()
        writer.append(UInt32(0x0102_0304))
        writer.append(Int64(-2))
        writer.append(UInt8(9))
        #expect(Array(writer.bytes.prefix(4)) == [4, 3, 2, 1])
        var reader = ByteReader(writer.bytes)
        #expect(reader.read(UInt32.self) == 0x0102_0304)
        #expect(reader.read(Int64.self) == -2)
        #expect(reader.read(UInt16.self) == nil)
        #expect(reader.read(UInt8.self) == 9)
        #expect(reader.remaining == 0)
    }

    @Test func timestamps() {
        #expect(utcTimestamp(secondsSince1970: 0) == "1970-01-01T00:00:00Z")
        #expect(utcTimestamp(secondsSince1970: 951_827_696) == "2000-02-29T12:34:56Z")
        #expect(utcTimestamp(secondsSince1970: 1_798_761_599) == "2026-12-31T23:59:59Z")
    }
}
