import Base
import Bench
import Tensor
import Testing

@Suite struct FormatBenchTests {
    /// The check of every float, on some thousands of them: none is wrong, and against another format's reference many.
    @Test func mismatchesAreCounted() throws {
        let pool = Pool(threads: 2)
        defer { pool.close() }
        // About 1, where E4M3 and E5M2 differ; the largest, infinity, and NaN; the smallest; of both signs.
        for halves in [0x3F80..<0x3F81, 0x43DF..<0x43E1, 0x7F7F..<0x7F81, 0x0000..<0x0001, 0xBF80..<0xBF81] {
            #expect(try mismatches(.e4m3, against: FormatReference(.e4m3), upperHalves: halves, pool: pool) == 0)
        }
        let other = FormatReference(.e5m2)
        #expect(try mismatches(.e4m3, against: other, upperHalves: 0x3F80..<0x3F90, pool: pool) > 1_000)
    }

    @Test func quantizing() throws {
        var setting = QuantizeSetting(formats: ["e4m3", "INT4", "E8M10", "MXFP8", "NVFP4"])
        (setting.elements, setting.rounds) = (5_000, 1)
        let lines = try benchQuantize(setting)
        #expect(lines.count == 4 + 4 + 2 + 1 + 1)
        for line in lines {
            for name in ["\"format\":", "\"what\":", "\"elements_per_s\":", "\"copy_elements_per_s\":"] {
                #expect(line.json.contains(name), "\(line.json)")
            }
        }
        #expect(throws: BadInput.self) { try benchQuantize(QuantizeSetting(formats: ["E4M3", "MXFP7"])) }
    }

    @Test func products() throws {
        let line = try benchDotGemm(m: 70, n: 33, k: 65, threads: 2, rounds: 1)
        for name in ["\"kind\":\"bf16dot\"", "\"gflops\":", "\"sgemm_gflops\":", "\"packing_share\":", "\"path\":"] {
            #expect(line.json.contains(name), "\(line.json)")
        }
        #expect(line.note == DotPath.reason)
    }
}
