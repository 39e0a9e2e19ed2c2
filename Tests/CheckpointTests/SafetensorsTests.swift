import Base
import Checkpoint
import Storage
import Testing

@Suite struct SafetensorsTests {
    /// A file from its header's text, `data` bytes of data, and perhaps another length word.
    private func file(_ header: String, data: Int = 0, length: UInt64? = nil) -> [UInt8] {
        var writer = ByteWriter()
        writer.append(length ?? UInt64(header.utf8.count))
        writer.append(bytes: header.utf8)
        writer.append(bytes: [UInt8](repeating: 1, count: data))
        return writer.bytes
    }

    private func read(_ bytes: [UInt8]) throws(CheckpointError) -> Safetensors {
        let disk = FaultyDisk()
        do { disk.close(try disk.create("/file", size: bytes.count)) } catch { throw .disk(error) }
        disk.tamper("/file") { $0 = bytes }
        defer { #expect(disk.openFiles == 0) }
        return try Safetensors(reading: "/file", disk: disk)
    }

    private func expectDamage(_ bytes: [UInt8], _ evidence: String, line: Int = #line) {
        let expected = CheckpointError.damaged([Damage(path: "/file", evidence: evidence)])
        #expect(throws: expected, "line \(line)") { try read(bytes) }
    }

    /// Exactly the bytes that other readers expect.
    @Test func theBytes() {
        let layout = Safetensors(laying: [("b", .bfloat16, [2]), ("a\"\\\n\u{1}é", .float32, [1, 2])])
        let header = """
            {"__metadata__":{"format":"pt"},\
            "a\\"\\\\\\n\\u0001é":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},\
            "b":{"dtype":"BF16","shape":[2],"data_offsets":[8,12]}}
            """
        let padding = String(repeating: " ", count: (8 - header.utf8.count % 8) % 8)
        #expect(layout.head == file(header + padding))
        #expect(layout.head.count % 8 == 0)
        #expect(layout.fileSize == layout.head.count + 12)
    }

    /// What is laid out is read back, for every dtype, scalars and empty tensors included; and each
    /// tensor is aligned to its element.
    @Test func roundTrip() throws {
        let shapes: [[Int]] = [[], [0], [3], [2, 0, 5], [7, 1, 3]]
        for count in 0...ElementType.allCases.count {
            var tensors: [(name: String, type: ElementType, shape: [Int])] = []
            for type in ElementType.allCases.prefix(count) {
                for (index, shape) in shapes.enumerated() {
                    tensors.append((name: "\(type).\(index) µ\"", type: type, shape: shape))
                }
            }
            let layout = Safetensors(laying: tensors)
            let data = [UInt8](repeating: 0, count: layout.fileSize - layout.head.count)
            let found = try read(layout.head + data)
            #expect(found.head == layout.head && found.fileSize == layout.fileSize)
            #expect(Set(found.tensors.map(\.name)) == Set(tensors.map(\.name)))
            for tensor in layout.tensors {
                #expect(found.tensors.contains(tensor), "\(tensor)")
                #expect(tensor.range.lowerBound % tensor.type.width == 0)
            }
        }
    }

    @Test func otherPeoplesFiles() throws {
        #expect(try read(file("{}")).tensors == [])
        let found = try read(file("""
            {"y":{"shape":[2],"dtype":"U8","data_offsets":[1,3],"extra":null}, \
            "x" : {"dtype":"F8_E5M2","shape":[],"data_offsets":[0,1]}}
            """, data: 3))
        #expect(found.tensors.map(\.name) == ["x", "y"])
        #expect(found.tensors.map(\.type) == [.float8E5M2, .uint8])
    }

    @Test func damagedHeaders() {
        for count in 0..<8 {
            expectDamage([UInt8](repeating: 0, count: count),
                         "\(count) bytes, too few for a safetensors file")
        }
        expectDamage(file("{}", length: 100_000_001), "a header of 100000001 bytes, more than 100000000")
        expectDamage(file("{}", length: .max), "a header of \(UInt64.max) bytes, more than 100000000")
        expectDamage(file("{}", length: 3), "a header of 3 bytes in a file of 10")
        expectDamage(file("", length: 0), "the header does not begin with {")
        expectDamage(file(" {}"), "the header does not begin with {")
        expectDamage(file("{\"a\":"), "the header is not a safetensors header (invalid JSON)")
        expectDamage(file("{\"a\":{}}"), "the header is not a safetensors header (no dtype at a)")
        expectDamage(file("{\"__metadata__\":{\"n\":1}}"),
                     "the header is not a safetensors header (a value of the wrong type at __metadata__.n)")
        expectDamage(file("{}", data: 1), "1 bytes of data, its tensors cover 0")
    }

    @Test func damagedEntries() {
        func entry(_ name: String, _ dtype: String, _ shape: String, _ offsets: String) -> String {
            "\"\(name)\":{\"dtype\":\"\(dtype)\",\"shape\":[\(shape)],\"data_offsets\":[\(offsets)]}"
        }
        func expect(_ entries: String..., data: Int, _ evidence: String, line: Int = #line) {
            expectDamage(file("{\(entries.joined(separator: ","))}", data: data), evidence, line: line)
        }
        expect(entry("a", "F8_E8M0", "8", "0,8"), data: 8, "tensor a has the unsupported dtype F8_E8M0")
        expect(entry("a", "F32", "-1", "0,4"), data: 4, "tensor a has the impossible shape [-1]")
        expect(entry("a", "F32", "4611686018427387904", "0,4"), data: 4,
               "tensor a has the impossible shape [4611686018427387904]")
        expect(entry("a", "F32", "4294967296,4294967296,0", "0,0"), data: 0,
               "tensor a has the impossible shape [4294967296, 4294967296, 0]")
        expect(entry("a", "F32", "2", "0,4"), data: 4,
               "tensor a has 4 bytes, its shape [2] of F32 needs 8")
        // A hole before, between and after; an overlap; a range that is backwards, negative, too long.
        expect(entry("a", "U8", "1", "1,2"), data: 2,
               "tensor a is at bytes 1 to 2 of the data, expected from 0 to at most 2")
        expect(entry("a", "U8", "1", "0,1"), entry("b", "U8", "1", "2,3"), data: 3,
               "tensor b is at bytes 2 to 3 of the data, expected from 1 to at most 3")
        expect(entry("a", "U8", "2", "0,2"), data: 3, "3 bytes of data, its tensors cover 2")
        expect(entry("a", "U8", "2", "0,2"), entry("b", "U8", "2", "1,3"), data: 3,
               "tensor b is at bytes 1 to 3 of the data, expected from 2 to at most 3")
        expect(entry("a", "U8", "2", "0,2"), entry("b", "U8", "2", "0,2"), data: 2,
               "tensor b is at bytes 0 to 2 of the data, expected from 2 to at most 2")
        expect(entry("a", "U8", "1", "0,-1"), data: 1,
               "tensor a is at bytes 0 to -1 of the data, expected from 0 to at most 1")
        expect(entry("a", "U8", "1", "-1,0"), data: 1,
               "tensor a is at bytes -1 to 0 of the data, expected from 0 to at most 1")
        expect(entry("a", "U8", "9", "0,9"), data: 8,
               "tensor a is at bytes 0 to 9 of the data, expected from 0 to at most 8")
        expect(entry("a", "U8", "1", "0,1,1"), data: 1,
               "the header is not a safetensors header (a bad value at a)")
        expectDamage(file("{\"a\":{\"dtype\":\"U8\",\"shape\":[0.5],\"data_offsets\":[0,1]}}", data: 1),
                     "the header is not a safetensors header (invalid JSON)")
    }

    /// A reader of any file: whatever byte is wrong, it answers with a tensor list or one error.
    @Test func anyByteOfTheHead() throws {
        let layout = Safetensors(laying: [("a", .float32, [2]), ("b", .uint8, [3])])
        let bytes = layout.head + [UInt8](repeating: 0, count: 11)
        for position in layout.head.indices {
            for value in 0...255 {
                var changed = bytes
                changed[position] = UInt8(value)
                guard let found = try? read(changed) else { continue }
                #expect(found.tensors.last?.range.upperBound == found.fileSize)
            }
        }
    }
}
