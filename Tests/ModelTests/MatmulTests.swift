import Recipe
import Testing
import TestSupport

@Suite struct MatmulTests {
    /// OpenBLAS in the linear layers gives the same loss and gradients up to rounding, in another order of sums; by
    /// words and by tokens, with recomputation and without.
    @Test(arguments: TransformerTests.cases, Recipe.Recomputation.allCases)
    func openBLASGivesTheSameUpToRounding(_ each: ModelCase, mode: Recipe.Recomputation) throws {
        let own = try each.run(threads: 2, recomputation: mode)
        let other = try each.run(threads: 2, recomputation: mode, matmul: .openblas)
        #expect(abs(own.losses[0] - other.losses[0]) < 1e-5 * own.losses[0])
        #expect(relativeError(other.gradients, doubles(own.gradients)) < 1e-5)
    }

    /// It is OpenBLAS that multiplies: at these sizes some element is rounded otherwise.
    @Test func openBLASIsAsked() throws {
        let each = TransformerTests.cases[6]
        #expect(try each.run().gradients != each.run(matmul: .openblas).gradients)
    }
}
