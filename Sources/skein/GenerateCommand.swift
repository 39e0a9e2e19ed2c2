import ArgumentParser
import Base
import Corpus
import Model
import Telemetry
import Tensor
import Trainer

struct Generate: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Continues texts with a trained model.")

    @Argument(help: "A checkpoint's folder (step-N), or a run's folder for its latest.")
    var checkpoint: String
    @Option(help: "The text to continue.")
    var prompt: String?
    @Option(help: "A file with a prompt in each line. Before each text stands a line \"==> N <==\" with its number.")
    var prompts: String?
    @Option(help: "The most tokens to add.")
    var tokens = 300
    @Option(help: "0 takes the likeliest token each time; 1 samples the model's own distribution.")
    var temperature = 0.8
    @Option(name: .customLong("top-k"), help: "Consider only this many tokens; 0: all.")
    var topK = 0
    @Option(name: .customLong("top-p"),
            help: "Consider only the likeliest tokens that have this much of the probability; 1: all.")
    var topP = 1.0
    @Option(help: "Texts that are written side by side; each comes out as it would alone.")
    var side = 16
    @Option(help: "End a text before these words; may be given several times.")
    var stop: [String] = []
    @Option(help: "The same seed gives the same text.")
    var seed = 0
    @Option(help: "Compute threads; 0: the cores this process may use.")
    var threads = 0

    func validate() throws {
        guard (1...1_024).contains(side) else { throw ValidationError("--side must be from 1 to 1024") }
        guard tokens > 0 else { throw ValidationError("--tokens must be at least 1") }
        guard temperature >= 0, temperature.isFinite else { throw ValidationError("--temperature must be 0 or more") }
        guard topP > 0, topP <= 1 else { throw ValidationError("--top-p must be over 0 and at most 1") }
        guard !stop.contains("") else { throw ValidationError("--stop must not be empty") }
        guard topK >= 0, seed >= 0 else { throw ValidationError("--top-k and --seed must be 0 or more") }
        guard (0...4_096).contains(threads) else { throw ValidationError("--threads must be from 0 to 4096") }
        guard prompt == nil || prompts == nil else { throw ValidationError("give --prompt or --prompts, not both") }
    }

    func run() throws {
        let texts = try prompts.map { try textLines(of: $0) } ?? [prompt ?? ""]
        let model = try LoadedModel(path: checkpoint)
        let cores = Machine.cores()
        let pool = Pool(threads: threads == 0 ? cores : threads, spin: threads <= cores)
        defer { pool.close() }
        let sampler = Sampler(temperature: temperature, topK: topK, topP: topP, seed: seed)
        var pages = Pages(texts: texts, isFile: prompts != nil, stops: stop.map { Array($0.utf8) })
        write(pages.begin())
        func show(_ number: Int, _ token: Int) -> LoadedModel.Continuation {
            let (text, isStopped) = pages.push(model.tokenizer.decode([Int32(token)]), to: number)
            guard write(text) else { return .endAll }
            return isStopped ? .endPrompt : .goOn
        }
        try model.generate(prompts: texts, count: tokens, side: side, sampler: sampler, pool: pool, emit: show,
                           finish: { number in write(pages.finish(number)) })
        write([10])
    }

    /// Bytes as they are: a token may be a part of a character.
    @discardableResult
    private func write(_ bytes: [UInt8]) -> Bool { writeAll(bytes, to: 1) }
}

/// Texts that are written side by side and shown one after the other: the first that is not over is shown as it grows,
/// and what belongs to later ones waits.
private struct Pages {
    private let texts: [String]
    private let isFile: Bool
    private var stops: [StopBuffer]
    private var waiting: [[UInt8]]
    private var isOver: [Bool]
    /// The text that is shown as it grows.
    private var shown = 0

    init(texts: [String], isFile: Bool, stops: [[UInt8]]) {
        self.texts = texts
        self.isFile = isFile
        self.stops = texts.map { _ in StopBuffer(stops) }
        waiting = texts.map { _ in [] }
        isOver = texts.map { _ in false }
    }

    /// What stands before the text that is shown, and what of it has waited.
    mutating func begin() -> [UInt8] {
        let title = isFile ? Array("\(shown > 0 ? "\n" : "")==> \(shown + 1) <==\n".utf8) : []
        defer { waiting[shown] = [] }
        return title + Array(texts[shown].utf8) + waiting[shown]
    }

    /// More of a text: what is to be shown of it now, and whether one of the words that end it has come.
    mutating func push(_ bytes: [UInt8], to number: Int) -> (text: [UInt8], isStopped: Bool) {
        let (text, isStopped) = stops[number].push(bytes)
        if number == shown { return (text, isStopped) }
        waiting[number] += text
        return ([], isStopped)
    }

    /// A text is over: what is to be shown now, of others as well if it was the one that was shown.
    mutating func finish(_ number: Int) -> [UInt8] {
        isOver[number] = true
        waiting[number] += stops[number].finish()
        guard number == shown else { return [] }
        var out = waiting[number]
        waiting[number] = []
        while isOver[shown], shown + 1 < texts.count {
            shown += 1
            out += begin()
        }
        return out
    }
}
