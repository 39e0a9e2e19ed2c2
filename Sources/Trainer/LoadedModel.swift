import Base
import Checkpoint
import Corpus
import Model
import Recipe
import Tensor

/// A checkpoint opened for use without training: its recipe and tokenizer; its weights go where they are wanted.
public struct LoadedModel {
    public let checkpoint: Checkpoint
    public let recipe: Recipe
    public let tokenizer: any Tokenizer
    public let table: ParameterTable
    private let weights: StoredWeights

    /// `path`: a `step-N` folder, or a run's folder.
    public init(path: String) throws {
        let (checkpoint, _) = try Checkpoint.locate(path)
        self.checkpoint = checkpoint
        recipe = try ResolvedRecipe.load(text: checkpoint.recipe(), name: "\(checkpoint.path)/config.toml").recipe
        tokenizer = try parseTokenizer(json: Array(checkpoint.tokenizer().utf8),
                                       path: "\(checkpoint.path)/tokenizer.json")
        table = try ParameterTable(recipe.model, vocabulary: recipe.vocabulary(ofTokens: tokenizer.vocabularySize))
        weights = try StoredWeights(checkpoint, table)
    }

    /// Fills `row` with a parameter's weights.
    func read(_ parameter: ParameterTable.Parameter, into row: Row) throws { try weights.read(parameter, into: row) }

    /// What becomes of a text after one of its tokens; `endAll` where nobody listens any more.
    public enum Continuation: Sendable { case goOn, endPrompt, endAll }

    /// Continues each prompt by up to `count` tokens, handing each to `emit` as it is chosen, with its prompt's number;
    /// ends a prompt early at an end-of-document, and where `emit` says so; then `finish` is told. Texts are preceded
    /// by an end-of-document token, as in training. Every prompt draws the same numbers.
    ///
    /// `side` texts are written side by side, so `emit` hears of several in turn: weights are read once for all of
    /// them, and a text comes out as it would alone. Where one ends, the next prompt takes its place.
    public func generate(prompts: [String], count: Int, side: Int = 1, sampler: Sampler, pool: Pool,
                         emit: (Int, Int) -> Continuation, finish: (Int) -> Void = { _ in }) throws {
        let texts = prompts.map { [Int(tokenizer.endOfDocument)] + tokenizer.encode($0).map(Int.init) }
        let longest = texts.map(\.count).max() ?? 0
        let decoder = try self.decoder(longest, count, pool, texts: min(side, max(texts.count, 1)))
        var waiting = texts.indices[...]
        /// Texts under way: their place in the decoder, how many tokens they have, and the newest.
        var writing: [(number: Int, place: Int, written: Int, token: Int)] = []
        /// What becomes of a text whose next token has these logits; nil where it is over.
        func chosen(_ number: Int, _ written: Int, _ logits: Row) throws -> Int? {
            let token = sampler.choose(logits, counter: written)
            guard token != Int(tokenizer.endOfDocument) else { return nil }
            switch emit(number, token) {
            case .goOn: return written + 1 < count ? token : nil
            case .endPrompt: return nil
            case .endAll: throw NobodyListens()
            }
        }
        do {
            var free = Array(0..<decoder.texts)
            while !waiting.isEmpty || !writing.isEmpty {
                while let place = free.last, let number = waiting.popFirst() {
                    decoder.reset(text: place)
                    if let token = try chosen(number, 0, decoder.read(texts[number], text: place)) {
                        free.removeLast()
                        writing.append((number, place, 1, token))
                    } else {
                        finish(number)
                    }
                }
                let logits = decoder.next(writing.map { ($0.place, $0.token) })
                for (row, text) in writing.enumerated() {
                    let token = try chosen(text.number, text.written, logits.row(row))
                    writing[row].written += 1
                    writing[row].token = token ?? -1
                }
                for text in writing where text.token < 0 {
                    free.append(text.place)
                    finish(text.number)
                }
                writing.removeAll { $0.token < 0 }
            }
        } catch is NobodyListens {}
    }

    private struct NobodyListens: Error {}

    /// Room for the longest prompt and what is to follow; refused in time where the machine has less.
    /// `texts`: written side by side, fewer where they would take more than an eighth of the memory.
    package func decoder(_ prompt: Int, _ count: Int, _ pool: Pool, texts: Int = 1,
                         scores: Bool = false) throws -> Decoder {
        let (capacity, overflows) = prompt.addingReportingOverflow(count)
        func floats(_ texts: Int) -> Int? {
            overflows ? nil
                : Decoder.floats(table, texts: texts, capacity: capacity, prompt: prompt, threads: pool.threads)
                    .map { $0 + (scores ? Decoder.scoringFloats(table, threads: pool.threads) : 0) }
        }
        let room = Machine.availableMemory()?.bytes ?? .max
        let texts = (1...texts).last { number in floats(number).map { $0 < room / 32 } ?? false } ?? 1
        let floats = floats(texts)
        guard let floats, floats < room / 4 else {
            let needed = floats.map { Units.bytes($0 * 4) + " of memory" } ?? "more memory than any machine has"
            if scores {
                throw BadInput("rows of \(Units.grouped(prompt)) tokens would take \(needed), and "
                    + "\(Units.bytes(room)) are free; lower --seq-len")
            }
            throw BadInput("--tokens \(count) behind a prompt of \(Units.grouped(prompt)) would take \(needed) for "
                + "keys and values, and \(Units.bytes(room)) are free; lower --tokens")
        }
        let length = recipe.training.sequenceLength
        if prompt > length {
            Reporter.warn("the prompt has \(Units.grouped(prompt)) tokens, and the model was trained on rows of "
                + "\(Units.grouped(length)) (training.seq_len): what lies further back may confuse it")
        }
        return try Decoder(table, texts: texts, capacity: capacity, longestPrompt: prompt, pool: pool,
                           scores: scores) { parameter, row in
            try read(parameter, into: row)
        }
    }
}
