import Foundation
import Recipe
import Testing

@Suite struct RecipePagesTests {
    /// docs/config is what the keys say: nothing is missing, nothing is old.
    @Test func thePagesAreCurrent() throws {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("docs/config")
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
        #expect(names == Recipe.pages.map(\.name).sorted())
        for (name, text) in Recipe.pages {
            let found = try? String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8)
            #expect(found == text, "docs/config/\(name): run skein config pages docs/config")
        }
    }

    @Test func everyKeyHasItsLine() throws {
        let text = Recipe.pages.map(\.text).joined()
        for key in Recipe.keys {
            let lines = text.split(separator: "\n").filter { $0.hasPrefix("| `\(key.leaf)` |") }
            #expect(lines.contains { $0.contains(key.help.replacing("|", with: "\\|")) }, "\(key.name)")
        }
        for name in Set(Recipe.keys.map(\.section)) {
            let page = Recipe.pages.first { $0.name == "\(name).md" }?.text ?? ""
            #expect(page.split(separator: "\n").count > 3 && !page.contains("\n\n\n|"), "\(name) has no introduction")
        }
    }
}

@Suite struct SizedRecipeTests {
    /// Every depth is a recipe that can be had, larger with the depth, and that reads back from what it is written as.
    @Test func everyDepth() throws {
        var last = 0
        for depth in 1...Recipe.maximumDepth {
            let recipe = Recipe.sized(depth: depth)
            let resolved = try ResolvedRecipe.load(text: recipe.difference, name: "x.toml")
            #expect(resolved.recipe == recipe)
            let table = ParameterTable(recipe.model, vocabulary: 257)
            #expect(table.parameterCount > last && recipe.model.headDim == 64)
            last = table.parameterCount
            let training = recipe.training
            let tokens = training.steps * training.globalBatchSize * training.sequenceLength
            let ratio = Double(tokens) / Double(table.multipliedCount)
            #expect(recipe.training.steps == 20 || abs(ratio - 20) < 0.6, "depth \(depth): \(ratio)")
            #expect(recipe.schedule.warmupSteps < recipe.training.steps && recipe.checkpoint.interval >= 1)
        }
        #expect(Recipe.sized(depth: 3).optimizer.learningRate == 3e-3)
        #expect(Recipe.sized(depth: 12).optimizer.learningRate == 1.5e-3)
    }

    @Test(arguments: [(2, 16, 1.0), (4_096, 4_096, 40), (512, 100, 0.1)])
    func otherSteps(sequence: Int, tokens: Int, ratio: Double) throws {
        let recipe = Recipe.sized(depth: 2, sequence: sequence, tokensPerStep: tokens, ratio: ratio, vocabulary: 50_257)
        #expect(recipe.training.globalBatchSize == max(1, tokens / sequence))
        #expect(recipe.training.localBatchSize <= recipe.training.globalBatchSize)
        #expect(try ResolvedRecipe.load(text: recipe.difference, name: "x.toml").recipe == recipe)
    }
}
