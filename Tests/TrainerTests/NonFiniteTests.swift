import Foundation
import Recipe
import Tensor
import Testing
import Trainer

/// No weight changes unless loss and gradient are finite.
@Suite struct NonFiniteTests {
    /// A text of one letter, a final gain next to nothing and a head next to the largest float: logits and loss are
    /// ordinary numbers, and the gain's gradient overflows.
    private func runner(_ sandbox: borrowing Sandbox) throws -> StepRunner {
        let text = String(repeating: "a", count: 9_000)
        try text.write(toFile: sandbox.path + "/a.txt", atomically: true, encoding: .utf8)
        let recipe = try sandbox.recipe(["--data.paths", sandbox.path + "/a.txt"]).recipe
        let runner = try StepRunner(recipe: recipe, corpus: openCorpus(recipe), pool: Pool(threads: 1))
        let weights = runner.state.weights
        weights.initialize(seed: 1)
        try values("model.norm.weight", runner).fill(1e-38)
        let head = try values("lm_head.weight", runner), width = recipe.model.dim
        for word in 0..<257 { head.slice(word * width, width).fill(word == 97 ? -3e38 : 3e38) }
        return runner
    }

    private func values(_ name: String, _ runner: StepRunner) throws -> Row {
        runner.state.weights.values(try #require(runner.state.table.parameters.first { $0.name == name }))
    }

    @Test func anInfiniteNormStopsTheUpdate() throws {
        let sandbox = try Sandbox()
        let runner = try runner(sandbox)
        let before = runner.state.weights.flat.array.map(\.bitPattern)
        let result = try runner.run(step: 0)
        #expect(result.loss.isFinite && !result.gradientNorm.isFinite, "\(result)")
        #expect(!result.updated && result.varianceRoots == nil)
        #expect(runner.state.weights.flat.array.map(\.bitPattern) == before)
        #expect(runner.state.momentum.row.array.allSatisfy { $0 == 0 })
        #expect(runner.state.variance.row.array.allSatisfy { $0 == 0 })
    }

    /// A weight that is no number makes the loss none; nothing spreads.
    @Test func aLossThatIsNoNumberStopsTheUpdate() throws {
        let sandbox = try Sandbox()
        let runner = try runner(sandbox)
        runner.state.weights.initialize(seed: 1)
        try values("model.norm.weight", runner).fill(.nan)
        let before = runner.state.weights.flat.array.map(\.bitPattern)
        let result = try runner.run(step: 0)
        #expect(!result.loss.isFinite && !result.updated)
        #expect(runner.state.weights.flat.array.map(\.bitPattern) == before)
    }
}
