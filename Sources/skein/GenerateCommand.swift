import ArgumentParser
import Base
import Model
import Telemetry
import Trainer

struct Generate: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Continues a text with a trained model.")

    @Argument(help: "A checkpoint's folder (step-N), or a run's folder for its latest.")
    var checkpoint: String
    @Option(help: "The text to continue.")
    var prompt = ""
    @Option(help: "The most tokens to add.")
    var tokens = 300
    @Option(help: "0 takes the likeliest token each time; 1 samples the model's own distribution.")
    var temperature = 0.8
    @Option(name: .customLong("top-k"), help: "Consider only this many tokens; 0: all.")
    var topK = 0
    @Option(help: "The same seed gives the same text.")
    var seed = 0

    func validate() throws {
        guard tokens > 0 else { throw ValidationError("--tokens must be at least 1") }
        guard temperature >= 0, temperature.isFinite else { throw ValidationError("--temperature must be 0 or more") }
        guard topK >= 0, seed >= 0 else { throw ValidationError("--top-k and --seed must be 0 or more") }
    }

    func run() throws {
        let model = try LoadedModel(path: checkpoint)
        write(Array(prompt.utf8))
        try model.generate(prompt: prompt, count: tokens,
                           sampler: Sampler(temperature: temperature, topK: topK, seed: seed)) { token in
            write(model.tokenizer.decode([Int32(token)]))
        }
        write([10])
    }

    /// Bytes as they are: a token may be a part of a character.
    @discardableResult
    private func write(_ bytes: [UInt8]) -> Bool { writeAll(bytes, to: 1) }
}
