import Base
import Corpus
import Recipe

/// How many tokens a position of the recipe's rows looks back at, in the mean over an epoch (2405.13226, section 3).
/// Nil where rows are one segment each, so that it is half their length, and where it would take more than a glance
/// at the data: texts that have to be encoded first, more than 256 MiB of text, or sources with weights.
public func meanContext(_ recipe: Recipe, textBytes: Int) throws(BadInput) -> Double? {
    let data = recipe.data
    guard data.documentMask || data.layout == .decompose, !data.paths.isEmpty, data.weights.isEmpty,
          textBytes <= 1 << 28 else { return nil }
    if data.tokenizer != "bytes" {
        for path in data.paths where try !isPrepared(path) { return nil }
    }
    let lengths = try DataStatistics(sources: data.paths, tokenizer: openTokenizer(recipe), part: .train)
    guard lengths.tokens > 0 else { return nil }
    switch recipe.rowLayout {
    case .decomposed(let plan): return lengths.decomposed(plan).meanContext
    case .packed(let method):
        return lengths.packed(method, sequence: recipe.training.sequenceLength, documentMask: true).meanContext
    }
}
