import ArgumentParser
import Base
import Corpus
import Foundation
import Launch
import Recipe
import Tensor
import Trainer
import Wire

struct Evaluate: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "eval", abstract: "Says how well a checkpoint foretells texts, or answers questions.",
        discussion: """
            Texts give perplexity, and bits a byte by how much of a text stood before: those can be compared between \
            tokenizers. Questions are JSON lines in lm-evaluation-harness' fields, {"context": "...", "choices": \
            ["...", "..."], "gold": 0}: the choice with the highest probability is the answer (acc), or with the \
            highest for each of its characters (acc_norm). With -n RANKS, --hostfile FILE, or started as a rank by \
            srun or mpirun, texts and questions are shared out.
            """)

    @Argument(help: "A checkpoint's folder (step-N), or a run's folder for its latest.")
    var checkpoint: String
    @Option(parsing: .upToNextOption, help: "Texts, or folders of texts.")
    var data: [String] = []
    @Option(help: "Of them: all, or those that training holds out (valid) or takes (train).")
    var part = DataStatistics.Part.all
    @Option(help: "A file with a question in each line.")
    var tasks: String?
    @Option(help: "What stands between a context and a choice.")
    var delimiter = " "
    @Option(name: .customLong("seq-len"), help: "Tokens that a window holds; 0: training.seq_len.")
    var sequence = 0
    @Option(help: "Tokens from one window's begin to the next; 0: a window, so that none is read twice.")
    var stride = 0
    @Option(help: "Compute threads; 0: the cores this process may use.")
    var threads = 0
    @Option(name: .customShort("n"), help: ArgumentHelp("Ranks that share the work.", valueName: "ranks"))
    var ranks: Int?
    @OptionGroup var remote: RemoteOptions
    @Flag(help: "For each question a JSON object with its choices' scores and the answers, before the rest.")
    var each = false
    @Flag(help: "One JSON object a line.")
    var json = false

    func validate() throws {
        guard !data.isEmpty || tasks != nil else { throw ValidationError("give --data or --tasks, or both") }
        guard (0...1 << 24).contains(sequence) else { throw ValidationError("--seq-len must be from 0 to 16777216") }
        guard stride >= 0 else { throw ValidationError("--stride must be 0 or more") }
        guard (0...4_096).contains(threads) else { throw ValidationError("--threads must be from 0 to 4096") }
    }

    func run() throws {
        let setting = try rankSetting()
        if setting == nil, let job = try remote.job(ranks: ranks, arguments: Array(CommandLine.arguments.dropFirst())) {
            StopRequests.install()
            let code = try Launcher(job) { path in try JobSecret.create(at: path) }.run()
            if code != 0 { throw ExitCode(code) }
            return
        }
        let model = try LoadedModel(path: checkpoint)
        let window = sequence == 0 ? model.recipe.training.sequenceLength : sequence
        guard stride <= window else { throw BadInput("--stride \(stride) leaves tokens out; it is at most \(window)") }
        let questions = try tasks.map { try ChoiceQuestion.read(readText($0), path: $0) }
        let texts = data.isEmpty ? []
            : try readTexts(data, part: part, separator: model.recipe.data.separator)
        let cores = Machine.cores(), local = setting?.localWorldSize ?? 1
        let count = threads == 0 ? max(1, cores / local) : threads
        let pool = Pool(threads: count, spin: count * local <= cores)
        defer { pool.close() }
        let stride = stride == 0 ? window : stride
        let world = try setting.map { setting in
            var recipe = Recipe()
            recipe.job.name = "eval"
            let bytes = texts.reduce(0) { $0 + $1.count }
            let work = "\(model.checkpoint.step) steps, \(texts.count) texts of \(bytes) bytes, "
                + "\(questions?.count ?? 0) questions, windows of \(window) each \(stride)"
            return try World(joining: setting, recipe: recipe, dataFingerprint: work, threads: count)
        }
        if !data.isEmpty {
            let own = world?.dealt(from: texts) ?? texts
            let found = try model.evaluate(texts: own, window: window, stride: stride, pool: pool)
            if let all = try world == nil ? found : world?.together(found) { show(all, model) }
        }
        if let questions {
            let own = world?.dealt(from: questions) ?? questions
            let found = try model.evaluate(own, delimiter: delimiter, window: window, pool: pool)
            if let all = try world == nil ? found : world?.together(found) { show(all, model) }
        }
        try world?.leave()
    }

    private struct BandReport: Encodable {
        let first: Int
        let last: Int
        let tokens: Int
        let bytes: Int
        let loss: Double
        let bits_per_byte: Double
        let accuracy: Double

        init(_ band: TextEvaluation.Band) {
            (first, last, tokens, bytes) = (band.first, band.last, band.tokens, band.bytes)
            (loss, bits_per_byte) = (band.loss, band.bitsPerByte)
            accuracy = Double(band.likeliest) / Double(max(band.tokens, 1))
        }
    }

    private struct TextReport: Encodable {
        let checkpoint: String
        let step: Int
        let documents: Int
        let tokens: Int
        let bytes: Int
        let loss: Double
        let perplexity: Double
        let bits_per_byte: Double
        let byte_perplexity: Double
        let accuracy: Double
        let bands: [BandReport]
    }

    private func show(_ result: TextEvaluation, _ model: LoadedModel) {
        let all = BandReport(result.all), bytePerplexity = exponential(all.bits_per_byte * 0.693_147_180_559_945_3)
        let report = TextReport(
            checkpoint: model.checkpoint.path, step: model.checkpoint.step, documents: result.documents,
            tokens: all.tokens, bytes: all.bytes, loss: all.loss, perplexity: result.perplexity,
            bits_per_byte: all.bits_per_byte, byte_perplexity: bytePerplexity, accuracy: all.accuracy,
            bands: result.bands.map(BandReport.init))
        if json { return printJSON(report) }
        print("checkpoint  \(report.checkpoint) (step \(Units.grouped(report.step)))")
        print("texts       \(Units.grouped(report.documents)) documents, \(Units.grouped(report.bytes)) bytes, "
            + "\(Units.grouped(report.tokens)) tokens")
        print("loss        \(Units.fixed(report.loss, 4)) nats/token, perplexity \(short(report.perplexity))")
        print("bits/byte   \(Units.fixed(report.bits_per_byte, 4))")
        print("likeliest   \(Units.fixed(100 * report.accuracy, 1)) % of tokens were the likeliest\n")
        let rows = report.bands.map { band in
            ["\(band.first)-\(band.last)", Units.grouped(band.tokens), Units.fixed(band.loss, 4),
             Units.fixed(band.bits_per_byte, 4), Units.fixed(100 * band.accuracy, 1)]
        }
        printAligned([["tokens before", "tokens", "nats/token", "bits/byte", "likeliest %"]] + rows, left: [0])
    }

    private struct ChoiceReport: Encodable {
        let checkpoint: String
        let step: Int
        let tasks: String
        let questions: Int
        let acc: Double
        let acc_stderr: Double
        let acc_norm: Double
        let acc_norm_stderr: Double
    }

    private struct Answer: Encodable {
        let question: Int
        let log_probabilities: [Double]
        let answer: Int
        let answer_norm: Int
        let gold: Int
    }

    private func show(_ result: ChoiceEvaluation, _ model: LoadedModel) {
        let (answers, normalized) = (result.answers, result.normalizedAnswers)
        for place in result.questions.indices where each {
            printJSON(Answer(question: place, log_probabilities: result.logProbabilities[place], answer: answers[place],
                             answer_norm: normalized[place], gold: result.questions[place].gold))
        }
        show(shares: result, model)
    }

    private func show(shares result: ChoiceEvaluation, _ model: LoadedModel) {
        let (plain, normalized) = (result.accuracy, result.normalizedAccuracy)
        let report = ChoiceReport(
            checkpoint: model.checkpoint.path, step: model.checkpoint.step, tasks: tasks ?? "",
            questions: result.questions.count, acc: plain, acc_stderr: result.standardError(plain),
            acc_norm: normalized, acc_norm_stderr: result.standardError(normalized))
        if json { return printJSON(report) }
        func line(_ share: Double, _ error: Double) -> String { "\(Units.fixed(share, 4)) ± \(Units.fixed(error, 4))" }
        print("questions   \(Units.grouped(report.questions)) of \(report.tasks)")
        print("acc         \(line(report.acc, report.acc_stderr))")
        print("acc_norm    \(line(report.acc_norm, report.acc_norm_stderr))")
    }
}

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

private func exponential(_ x: Double) -> Double { exp(x) }

extension DataStatistics.Part: ExpressibleByArgument {}
