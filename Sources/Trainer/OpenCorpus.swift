import Base
import Corpus
import Recipe

/// The tokenizer of a recipe.
public func openTokenizer(_ recipe: Recipe) throws(BadInput) -> any Tokenizer {
    recipe.data.tokenizer == "bytes" ? ByteTokenizer() : try loadTokenizer(recipe.data.tokenizer)
}

/// The corpus of a recipe, read and cut into rows. threads: that encode texts; the corpus does not depend on them.
public func openCorpus(_ recipe: Recipe, threads: Int = 1) throws(BadInput) -> Corpus {
    guard !recipe.data.paths.isEmpty else {
        throw BadInput("data.paths is empty; name text files or folders, for example --data.paths my.txt")
    }
    var options = CorpusOptions(sources: recipe.data.paths, sequence: recipe.training.sequenceLength,
                                seed: UInt64(recipe.debug.seed), documentMask: recipe.data.documentMask,
                                layout: recipe.rowLayout, validationLayout: recipe.validationPacking,
                                validationMask: recipe.validationMask)
    options.separator = recipe.data.separator
    options.threads = threads
    options.weights = try sourceWeights(recipe)
    return try Corpus(options, tokenizer: openTokenizer(recipe))
}

func sourceWeights(_ recipe: Recipe) throws(BadInput) -> SourceWeights? {
    recipe.data.weights.isEmpty ? nil : try SourceWeights(recipe.data.weights, sources: recipe.data.paths.count)
}

/// The recipe's values as the corpus knows them.
extension Recipe {
    var rowLayout: RowLayout {
        switch data.layout {
        case .concatenate: .packed(.concatenate)
        case .bestFit: .packed(.bestFit)
        case .spfhp: .packed(.spfhp)
        case .nnlshp: .packed(.nnlshp)
        case .padded: .packed(.padded)
        case .decompose: .decomposed(decomposition)
        }
    }

    private var decomposition: Decomposition {
        let mode: Decomposition.Mode = switch data.decomposition {
        case .greedy: .greedy
        case .random: .random
        case .quota: .quota(data.mixture.isEmpty ? bucketLengths.map { _ in 1 } : data.mixture)
        }
        return Decomposition(minimum: data.minimumLength.trailingZeroBitCount,
                             maximum: training.sequenceLength.trailingZeroBitCount, mode: mode,
                             seed: UInt64(debug.seed))
    }

    /// Says how documents are cut into rows: rows of one number are the same only where this is.
    var rowFingerprint: String {
        let length = "\(training.sequenceLength)"
        guard data.layout == .decompose else { return "\(length):\(data.layout.rawValue)" }
        let mixture = data.decomposition == .quota ? ":" + data.mixture.map { "\($0)" }.joined(separator: ",") : ""
        return "\(length):decompose:\(data.decomposition.rawValue):\(data.minimumLength)\(mixture)"
    }

    fileprivate var validationPacking: PackingMethod {
        switch validation.layout {
        case .same: data.layout == .concatenate ? .concatenate : .bestFit
        case .concatenate: .concatenate
        case .bestFit: .bestFit
        }
    }

    fileprivate var validationMask: Bool {
        validation.documentMask == .same ? data.documentMask : validation.documentMask == .on
    }

    var bucketCurriculum: Curriculum {
        let odds: Curriculum.Odds = switch data.curriculum {
        case .uniform: .uniform
        case .growLinear: .growLinear
        case .growP2: .growP2
        case .growP100: .growP100
        case .shrinkP100: .shrinkP100
        case .natural: .natural
        case .free: .free(data.odds)
        }
        // Rows of one length are one bucket, for which no odds were given.
        return data.layout == .decompose ? Curriculum(odds, cycles: data.cycles) : Curriculum(.uniform)
    }

    var warmup: LengthWarmup? {
        let keys = training.lengthWarmup
        guard let method = LengthWarmup.Method(rawValue: keys.method.rawValue) else { return nil }
        let lengths = keys.lengths.map { Int($0) }, ends = keys.ends.map { Int($0) }
        let growth: LengthWarmup.Growth = switch keys.growth {
        case .linear: .root(1)
        case .root: .root(keys.root)
        case .discrete: .discrete(lengths: lengths, until: ends)
        }
        let isDiscrete = keys.growth == .discrete
        return LengthWarmup(growth: growth, method: method,
                                   minimum: isDiscrete ? lengths.first ?? 1 : keys.start,
                                   maximum: training.sequenceLength,
                                   steps: isDiscrete ? ends.last ?? 0 : keys.steps, multiple: keys.multiple)
    }
}
