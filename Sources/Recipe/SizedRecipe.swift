import Base

extension Recipe {
    /// A recipe from one number: the depth says how large the model is, and everything else follows from that.
    ///
    /// Width 64 a layer, in heads of 64, as nanochat turns its one dial; the highest learning rate falls with the root
    /// of the width from 3e-3 at 192, which trains the quickstart; as many steps as give `ratio` tokens for each
    /// parameter of the products (20 is what Hoffmann et al., 2203.15556, found to be about right); a warm-up of a
    /// twentieth of them. vocabulary: the tokenizer's.
    public static func sized(depth: Int, sequence: Int = 512, tokensPerStep: Int = 16_384, ratio: Double = 20,
                             vocabulary: Int = 257) -> Recipe {
        precondition((1...maximumDepth).contains(depth) && sequence >= 2 && tokensPerStep >= 1 && ratio > 0)
        var recipe = Recipe()
        recipe.job.name = "depth-\(depth)"
        recipe.model.layers = depth
        recipe.model.dim = 64 * depth
        recipe.model.heads = depth
        recipe.training.sequenceLength = sequence
        let rows = max(1, tokensPerStep / sequence)
        recipe.training.globalBatchSize = rows
        recipe.training.localBatchSize = min(rows, max(1, 4_096 / sequence))
        let table = ParameterTable(recipe.model, vocabulary: vocabulary)
        let tokens = ratio * Double(table.multipliedCount)
        recipe.training.steps = max(20, Int((tokens / Double(rows * sequence)).rounded()))
        recipe.optimizer.learningRate = rounded(3e-3 * (192 / Double(recipe.model.dim)).squareRoot())
        recipe.schedule.warmupSteps = max(1, recipe.training.steps / 20)
        recipe.checkpoint.interval = max(1, recipe.training.steps / 10)
        recipe.validation.interval = max(1, recipe.training.steps / 20)
        return recipe
    }

    /// Wider models than this are nothing for one dial.
    public static let maximumDepth = 64

    /// Two digits are all that the rule is worth.
    private static func rounded(_ rate: Double) -> Double {
        var scale = 1.0
        while rate * scale < 10 { scale *= 10 }
        return (rate * scale).rounded() / scale
    }

    /// The keys that differ from the defaults, as a config to begin with.
    public var difference: String {
        var lines: [String] = [], section = ""
        for key in Recipe.keys where key.read(self) != key.read(Recipe()) {
            if key.section != section {
                section = key.section
                lines.append(lines.isEmpty ? "[\(section)]" : "\n[\(section)]")
            }
            lines.append("\(key.leaf) = \(key.read(self).toml)")
        }
        return lines.joined(separator: "\n") + "\n"
    }
}
