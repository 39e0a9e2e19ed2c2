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
    @Option(help: "End a text before these words; may be given several times.")
    var stop: [String] = []
    @Option(help: "The same seed gives the same text.")
    var seed = 0
    @Option(help: "Compute threads; 0: the cores this process may use.")
    var threads = 0

    func validate() throws {
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
        let isFile = prompts != nil
        var buffer = StopBuffer(stop.map { Array($0.utf8) })
        try model.generate(prompts: texts, count: tokens, sampler: sampler, pool: pool, begin: { number in
            if isFile { write(Array("\(number > 0 ? "\n" : "")==> \(number + 1) <==\n".utf8)) }
            write(Array(texts[number].utf8))
            buffer = StopBuffer(stop.map { Array($0.utf8) })
        }, emit: { _, token in
            let (text, isStopped) = buffer.push(model.tokenizer.decode([Int32(token)]))
            guard write(text) else { return .endAll }
            return isStopped ? .endPrompt : .goOn
        }, finish: { _ in write(buffer.finish()) })
        write([10])
    }

    /// Bytes as they are: a token may be a part of a character.
    @discardableResult
    private func write(_ bytes: [UInt8]) -> Bool { writeAll(bytes, to: 1) }
}
