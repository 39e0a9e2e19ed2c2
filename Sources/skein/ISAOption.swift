import ArgumentParser
import Tensor

/// Which copy of the kernels a bench measures. Chosen while flags are read, before anything is packed.
struct ISAOption: ParsableArguments {
    @Option(help: "Vector unit of the kernels: avx2, avx512, or auto for the best this CPU has.")
    var isa = "auto"

    func validate() throws {
        guard isa != "auto" else { return }
        guard isa == "avx2" || isa == "avx512" else { throw ValidationError("--isa must be auto, avx2 or avx512") }
        guard useISA(isa) else { throw ValidationError("--isa \(isa) is not to be had here; this CPU runs \(usedISA)") }
    }
}
