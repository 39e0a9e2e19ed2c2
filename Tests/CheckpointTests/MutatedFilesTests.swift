import Base
import Checkpoint
import Crypto
import Mutation
import Testing

/// Checkpoints that somebody has spoilt and then made the checksums right again: each file is taken or refused in one
/// line, and none ends the process or asks for memory by what it says.
@Suite struct MutatedFilesTests {
    private func line(_ body: () throws -> Void) -> String? {
        do {
            try body()
            return nil
        } catch {
            return oneLine("\(error)")
        }
    }

    @Test func manifests() throws {
        let disk = FaultyDisk(), file = try Fixture(step: 20).save(on: disk) + "/manifest.json"
        let whole = try #require(disk.bytes(file)), start = try #require(whole.firstIndex(of: 10)).advanced(by: 1)
        let second = try #require(whole[start...].firstIndex(of: 10)) + 1
        var mutation = Mutation(seed: 1, more: ["\"step\":", "\"files\":[]", "../", "F32", "\"begin\":"])
        var refused = 0
        for _ in 0..<3_000 {
            let body = mutation.next(of: Array(whole[second...]))
            let head = "{\n\"self_sha256\":\"\(hexadecimal(SHA256.hash(data: body)))\",\n"
            let found = line { _ = try Manifest(decoding: Array(head.utf8) + body, path: "m.json") }
            if let found {
                refused += 1
                #expect(found.hasPrefix("m.json"), "\(found)")
            }
        }
        #expect(refused > 1_500)
        // Without the hash made right nothing at all is taken.
        for _ in 0..<500 {
            let other = mutation.next(of: whole)
            if other != whole { #expect(line { _ = try Manifest(decoding: other, path: "m.json") } != nil) }
        }
    }

    @Test func safetensorsHeaders() throws {
        let tensors: [(name: String, type: ElementType, shape: [Int])] =
            [("a", .float32, [2, 3]), ("b.c", .float32, [7]), ("none", .float32, [0, 4]), ("scalar", .float32, [])]
        let layout = Safetensors(laying: tensors)
        var mutation = Mutation(seed: 2, more: ["[4611686018427387904,4]", "[-1,-24]", "[2,3]", "[0,24]", "[24,0]",
                                                "BF16", "\"data_offsets\":"])
        var taken = 0, refused = 0
        for _ in 0..<4_000 {
            var head = mutation.next(of: Array(layout.head[8...]))
            let length = head.count
            head = (0..<8).map { UInt8(truncatingIfNeeded: length >> (8 * $0)) } + head
            let size = head.count + (layout.fileSize - layout.head.count)
            do {
                let found = try Safetensors(parsing: head, fileSize: size)
                taken += 1
                // What is taken lies within the file, in order, and fills it.
                var end = head.count
                for tensor in found.tensors {
                    #expect(tensor.range.lowerBound == end)
                    end = tensor.range.upperBound
                }
                #expect(end == size)
            } catch {
                refused += 1
            }
        }
        #expect(taken > 10 && refused > 2_000)
    }

    /// The header's length is the first thing that a file says of itself.
    @Test func theLengthWord() throws {
        let disk = FaultyDisk(), step = try Fixture(step: 20).save(on: disk)
        let file = step + "/" + "model.safetensors"
        for length in [UInt64.max, 1 << 63, 1 << 32, 100_000_001, 9, 0] {
            disk.tamper(file) { bytes in
                for index in 0..<8 { bytes[index] = UInt8(truncatingIfNeeded: length >> (8 * UInt64(index))) }
            }
            let found = line { _ = try Safetensors(reading: file, disk: disk) }
            #expect(found?.contains(file) == true, "\(length): \(found ?? "taken")")
        }
    }
}
