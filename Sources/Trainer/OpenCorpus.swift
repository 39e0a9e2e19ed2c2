import Base
import Corpus
import Recipe

/// The tokenizer of a recipe.
public func openTokenizer(_ recipe: Recipe) throws(BadInput) -> any Tokenizer {
    recipe.data.tokenizer == "bytes" ? ByteTokenizer() : try loadTokenizer(recipe.data.tokenizer)
}

/// The corpus of a recipe, read and cut into rows.
public func openCorpus(_ recipe: Recipe) throws(BadInput) -> Corpus {
    guard !recipe.data.paths.isEmpty else {
        throw BadInput("data.paths is empty; name text files or folders, for example --data.paths my.txt")
    }
    let options = CorpusOptions(sources: recipe.data.paths, sequence: recipe.training.sequenceLength,
                                seed: UInt64(recipe.debug.seed), documentMask: recipe.data.documentMask)
    return try Corpus(options, tokenizer: openTokenizer(recipe))
}
