import Base
import Corpus
import Recipe

/// The corpus of a recipe, read and cut into rows. The byte-level tokenizer is the only one so far.
public func openCorpus(_ recipe: Recipe) throws(BadInput) -> Corpus {
    guard !recipe.data.paths.isEmpty else {
        throw BadInput("data.paths is empty; name text files or folders, for example --data.paths my.txt")
    }
    let options = CorpusOptions(sources: recipe.data.paths, sequence: recipe.training.sequenceLength,
                                seed: UInt64(recipe.debug.seed), documentMask: recipe.data.documentMask)
    return try Corpus(options, tokenizer: ByteTokenizer())
}
