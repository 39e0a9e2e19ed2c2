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
    /// ends a prompt early at an end-of-document, and where `emit` says so. Texts are preceded by an end-of-document
    /// token, as in training. Every prompt draws the same numbers. `begin` is told of each prompt before its first
    /// token, `finish` after its last.
    public func generate(prompts: [String], count: Int, sampler: Sampler, pool: Pool, begin: (Int) -> Void = { _ in },
                         emit: (Int, Int) -> Continuation, finish: (Int) -> Void = { _ in }) throws {
        let texts = prompts.map { [Int(tokenizer.endOfDocument)] + tokenizer.encode($0).map(Int.init) }
        let decoder = try self.decoder(texts.map(\.count).max() ?? 0, count, pool)
        for (number, text) in texts.enumerated() {
            begin(number)
            decoder.reset()
            var logits = decoder.read(text)
            writing: for index in 0..<count {
                let token = sampler.choose(logits, counter: index)
                if token == Int(tokenizer.endOfDocument) { break }
                switch emit(number, token) {
                case .goOn: if index + 1 < count { logits = decoder.next(token) }
                case .endPrompt: break writing
                case .endAll: return
                }
            }
            finish(number)
        }
    }

    /// Room for the longest prompt and what is to follow; refused in time where the machine has less.
    package func decoder(_ prompt: Int, _ count: Int, _ pool: Pool, scores: Bool = false) throws -> Decoder {
        let (capacity, overflows) = prompt.addingReportingOverflow(count)
        let floats = overflows ? nil
            : Decoder.floats(table, capacity: capacity, prompt: prompt, threads: pool.threads)
                .map { $0 + (scores ? Decoder.scoringFloats(table, threads: pool.threads) : 0) }
        let room = Machine.availableMemory()?.bytes ?? .max
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
        return try Decoder(table, capacity: capacity, longestPrompt: prompt, pool: pool,
                           scores: scores) { parameter, row in
            try read(parameter, into: row)
        }
    }
}
