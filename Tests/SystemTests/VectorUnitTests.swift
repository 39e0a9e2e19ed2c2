import Testing

/// One binary has kernels for several vector units, and all of them train the same weights.
@Suite(.serialized) struct VectorUnitTests {
    private func weights(_ place: borrowing Workplace, _ unit: String, _ flags: [String]) throws -> String? {
        let name = "outputs/\(unit)/checkpoint/step-20"
        let ended = try Program.run(["train", "run.toml", "--job.name", unit, "--training.steps", "20"] + flags,
                                    in: place.path, variables: ["SKEIN_ISA": unit])
        if ended.code == 2, ended.error.contains("SKEIN_ISA is avx512, which this CPU lacks") { return nil }
        #expect(ended.code == 0, "\(ended.error)")
        #expect(ended.out.contains(unit), "the unit is said")
        let shown = try place.run("inspect", name, "--tensors", "*", "--json")
        #expect(shown.code == 0, "\(shown.error)")
        return shown.out
    }

    @Test(arguments: ["fp32", "bf16", "fp8-hybrid", "fp8-paper", "mxfp8"])
    func bothTrainTheSameWeights(recipe: String) throws {
        #if arch(x86_64)
        let place = try Workplace(), flags = ["--precision.recipe", recipe, "--optimizer.lr", "1e-2"]
        let narrow = try weights(place, "avx2", flags)
        guard let wide = try weights(place, "avx512", flags) else {
            print("skipped: training on AVX-512, which this CPU lacks")
            return
        }
        #expect(narrow == wide, "avx2 and avx512 differ, and the lines may show where")
        let difference = try place.run("inspect", "outputs/avx2/checkpoint/step-20", "--diff",
                                       "outputs/avx512/checkpoint/step-20")
        #expect(difference.out.contains("0 tensors differ"), "\(difference.out.suffix(400))")
        #endif
    }

    @Test func anUnknownUnitIsRefused() throws {
        #if arch(x86_64)
        let place = try Workplace()
        let ended = try Program.run(["train", "run.toml"], in: place.path, variables: ["SKEIN_ISA": "avx1024"])
        #expect(ended.code == 2 && ended.error.contains("SKEIN_ISA is neither avx2 nor avx512"))
        #expect(ended.errorLines.count == 1)
        let flag = try place.run("bench", "gemm", "--isa", "neon")
        #expect(flag.code == 2 && flag.error.contains("--isa must be auto, avx2 or avx512"))
        #endif
    }
}
