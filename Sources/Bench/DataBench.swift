import Base
import Corpus
import Trainer

/// What `bench data` measures.
public struct DataBenchSetting: Sendable {
    public var sources: [String]
    public var sequence = 8_192
    /// The shortest rows of the decomposition.
    public var shortest = 32
    /// Inputs of a step.
    public var tokens = 65_536
    /// The step that a run is resumed at.
    public var step = 10_000
    public var rounds = 5

    public init(sources: [String]) { self.sources = sources }

    var decomposition: RowLayout {
        .decomposed(Decomposition(minimum: shortest.trailingZeroBitCount, maximum: sequence.trailingZeroBitCount,
                                  mode: .random))
    }
}

/// Opening data, resuming in the middle of them, and encoding text: one line each.
///
/// - `index`: from nothing to a corpus that can fill batches, with bytes for tokens, for each layout. Prepared data are
///   opened with their own tokenizer. The files are in the page cache after the first, uncounted round.
/// - `seek`: from a checkpoint's 64 bytes to the first batch of the step; with `weights = 2` the sources have weights
///   that changed halfway, so that the steps before are gone through again.
/// - `encode`: text to tokens on one thread, for a `tokenizer` other than bytes.
/// - `open`: with that tokenizer from nothing to a corpus that can fill batches, on one thread and on all cores.
public func benchData(_ setting: DataBenchSetting, tokenizer: any Tokenizer) throws -> [BenchLine] {
    let arePrepared = try setting.sources.contains { try isPrepared($0) }
    let indexTokenizer: any Tokenizer = arePrepared ? tokenizer : ByteTokenizer()
    let layouts: [(String, RowLayout)] = [
        ("concatenate", .packed(.concatenate)), ("best-fit", .packed(.bestFit)), ("decompose", setting.decomposition),
    ]
    var lines: [BenchLine] = []
    for (name, layout) in layouts {
        let options = CorpusOptions(sources: setting.sources, sequence: setting.sequence, seed: 1, layout: layout)
        let seconds = try medianSeconds(rounds: setting.rounds) { _ in
            _ = try Corpus(options, tokenizer: indexTokenizer)
        }
        let corpus = try Corpus(options, tokenizer: indexTokenizer)
        var line = BenchLine(bench: "data", threads: 1, seconds: seconds)
        line.add("kind", "index")
        line.add("layout", name)
        line.add("documents", corpus.trainDocumentCount + corpus.validationDocumentCount)
        line.add("tokens", corpus.trainTokenCount + corpus.validationTokenCount)
        lines.append(line)
    }
    for weights in 0...2 { lines.append(try benchSeek(setting, indexTokenizer, weights: weights)) }
    if !(tokenizer is ByteTokenizer), indexTokenizer is ByteTokenizer {
        lines.append(try benchEncode(setting, tokenizer))
        for threads in Set([1, Machine.cores()]).sorted() { lines.append(try benchOpen(setting, tokenizer, threads)) }
    }
    return lines
}

/// `weights`: none, one phase of them, or two.
private func benchSeek(_ setting: DataBenchSetting, _ tokenizer: any Tokenizer, weights: Int) throws -> BenchLine {
    var options = CorpusOptions(sources: setting.sources, sequence: setting.sequence, seed: 1,
                                layout: setting.decomposition)
    if weights > 0 {
        let equal = setting.sources.map { _ in "1" }.joined(separator: " ")
        let rising = setting.sources.indices.map { "\($0 + 1)" }.joined(separator: " ")
        let phases = ["0: \(rising)", "\(max(setting.step / 2, 1)): \(equal)"]
        options.weights = try SourceWeights(Array(phases[..<weights]), sources: setting.sources.count)
    }
    let curriculum = Curriculum(.growP2, cycles: 8), batch = Batch(rows: 1, sequence: setting.sequence)
    var position = DataPosition(fingerprint: 0, seed: 0)
    do {
        let corpus = try Corpus(options, tokenizer: tokenizer)
        position = corpus.start
        for _ in 0..<setting.step { _ = corpus.next(&position, tokens: setting.tokens, curriculum) }
    }
    let saved = position.bytes
    // A corpus that has not been read from yet, for each round.
    let fresh = try (0...setting.rounds).map { _ in try Corpus(options, tokenizer: tokenizer) }
    let seconds = try medianSeconds(rounds: setting.rounds) { round in
        let corpus = fresh[round]
        var position = try DataPosition(bytes: saved)
        try corpus.check(position)
        try corpus.checkPast(position, tokens: setting.tokens, curriculum)
        let step = corpus.next(&position, tokens: setting.tokens, curriculum)
        corpus.fill(batch, bucket: step.bucket, rows: step.rows.lowerBound..<(step.rows.lowerBound + 1))
    }
    var line = BenchLine(bench: "data", threads: 1, seconds: seconds)
    line.add("kind", "seek")
    line.add("step", setting.step)
    line.add("weights", weights)
    return line
}

private func benchOpen(_ setting: DataBenchSetting, _ tokenizer: any Tokenizer, _ threads: Int) throws -> BenchLine {
    var options = CorpusOptions(sources: setting.sources, sequence: setting.sequence, seed: 1)
    options.threads = threads
    let seconds = try medianSeconds(rounds: setting.rounds) { _ in _ = try Corpus(options, tokenizer: tokenizer) }
    var line = BenchLine(bench: "data", threads: threads, seconds: seconds)
    line.add("kind", "open")
    line.add("bytes", try readTexts(setting.sources).reduce(0) { $0 + $1.count })
    return line
}

private func benchEncode(_ setting: DataBenchSetting, _ tokenizer: any Tokenizer) throws -> BenchLine {
    let texts = try readTexts(setting.sources)
    var tokens: [Int32] = [], count = 0
    let seconds = medianSeconds(rounds: setting.rounds) { _ in
        count = 0
        for text in texts {
            tokens.removeAll(keepingCapacity: true)
            tokenizer.encode(text.span, into: &tokens)
            count += tokens.count
        }
    }
    let bytes = texts.reduce(0) { $0 + $1.count }
    var line = BenchLine(bench: "data", threads: 1, seconds: seconds)
    line.add("kind", "encode")
    line.add("bytes", bytes)
    line.add("tokens", count)
    line.add("mb_per_s", Double(bytes) / seconds / 1e6)
    return line
}
