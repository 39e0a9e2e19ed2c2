import Base

/// What a run has come to, and how to go on from there. Steps and validations are added as they happen;
/// `text` is for the end.
public struct RunSummary: Sendable {
    /// How this program is called, for example "skein" or "swift run -c release skein".
    public var program: String
    /// How the run was started: "train", or "launch -n 2".
    public var start: [String]
    /// What followed that on the command line, to be said again when resuming.
    public var arguments: [String]
    /// The folder of the last checkpoint; nil if none was written.
    public var checkpoint: String?
    /// The learning rate fell towards the last step, so that more steps need a word about it.
    public var decays = false
    /// Nil where it was not measured.
    public var memory: Memory?

    /// Bytes of memory: the most that the process ever held, and what the plan said.
    public struct Memory: Sendable {
        public var peak: Int
        public var planned: Int

        public init(peak: Int, planned: Int) {
            self.peak = peak
            self.planned = planned
        }
    }

    /// Nil for a rank that is alone.
    public var network: Network?

    /// Bytes that a rank sent in a step, in the mean, what the plan said, and the share of those received that came
    /// while it computed.
    public struct Network: Sendable {
        public var sent: Int
        public var planned: Int
        public var hidden: Double
        /// Of what came of shared sequences alone: bytes, and their share; nil where none are shared.
        public var sequences: (bytes: Int, hidden: Double)?

        public init(sent: Int, planned: Int, hidden: Double, sequences: (bytes: Int, hidden: Double)? = nil) {
            self.sent = sent
            self.planned = planned
            self.hidden = hidden
            self.sequences = sequences
        }
    }

    private var first: StepReport?
    private var last: StepReport?
    private var best: StepReport?
    private var validation: ValidationReport?

    public init(program: String, start: [String] = ["train"], arguments: [String]) {
        self.program = program
        self.start = start
        self.arguments = arguments
    }

    public mutating func add(_ report: StepReport) {
        first = first ?? report
        last = report
        if report.loss.isFinite, report.loss < best?.loss ?? .infinity { best = report }
    }

    public mutating func add(_ validation: ValidationReport) { self.validation = validation }

    /// `seconds` is the wall time of this process's training, `tokens` what it trained on in that time: a
    /// resumed run counts from where it resumed.
    public func text(seconds: Double, tokens: Int) -> String {
        guard let first, let last, let best = best ?? self.last else { return "no step was done" }
        let done = last.step >= last.totalSteps
        var rows = [
            (done ? "done" : "stopped",
             "\(Units.grouped(last.step)) of \(Units.grouped(last.totalSteps)) steps"
                + (first.step > 1 ? ", from step \(Units.grouped(first.step - 1))" : "")
                + ", in \(Units.duration(seconds))"),
            ("tokens", Units.grouped(tokens)
                + (seconds > 0 ? ", \(Units.count(Double(tokens) / seconds)) tokens/s" : "")),
            ("loss", "\(Units.fixed(first.loss, 4)) to \(Units.fixed(last.loss, 4)) nats/token, "
                + "best \(Units.fixed(best.loss, 4)) at step \(Units.grouped(best.step))"),
        ]
        if let validation {
            let bits = validation.bitsPerByte.map { "\(Units.fixed($0, 3)) bits/byte, " } ?? ""
            rows.append(("validation", bits + "loss \(Units.fixed(validation.loss, 4)) nats/token"))
        }
        if let memory {
            rows.append(("memory", "\(Units.bytes(memory.peak)) at most, planned \(Units.bytes(memory.planned))"))
        }
        if let network {
            rows.append(("network", "\(Units.bytes(network.sent)) sent a step, planned "
                + "\(Units.bytes(network.planned)); "
                + "\(Units.fixed(network.hidden * 100, 0)) % came under computation"))
        }
        if let sequences = network?.sequences {
            rows.append(("sequences", "\(Units.bytes(sequences.bytes)) received a step for shared ones; "
                + "\(Units.fixed(sequences.hidden * 100, 0)) % came under computation"))
        }
        rows.append(("checkpoint", checkpoint ?? "none was written"))
        let table = rows.map { name, value in
            name + String(repeating: " ", count: 12 - name.count) + value
        }
        return (table + commands(last, done)).joined(separator: "\n")
    }

    /// Lines that can be pasted into a shell.
    private func commands(_ last: StepReport, _ done: Bool) -> [String] {
        guard let checkpoint else { return [] }
        // What is said anew below is not said twice.
        var kept = without("--checkpoint.load", arguments)
        if done { kept = without("--training.steps", kept) }
        if done, decays { for flag in ["--optimizer.lr", "--lr_scheduler.decay_type"] { kept = without(flag, kept) } }
        var resume = start + kept + ["--checkpoint.load", "latest"]
        // A finished run goes on only if it gets more steps.
        if done { resume += ["--training.steps", "\(2 * last.totalSteps)"] }
        // A longer schedule would lift the rate that has just come down, so the advice is to stay where it is.
        if done, decays {
            resume += ["--lr_scheduler.decay_type", "none", "--optimizer.lr", scientific(last.learningRate)]
        }
        func without(_ flag: String, _ words: [String]) -> [String] {
            guard let place = words.firstIndex(of: flag) else { return words }
            return without(flag, Array(words[..<place] + words[min(place + 2, words.count)...]))
        }
        func line(_ purpose: String, _ words: [String]) -> String {
            "  " + purpose + String(repeating: " ", count: 10 - purpose.count) + program + " "
                + words.map(shellWord).joined(separator: " ")
        }
        return ["",
                line("write", ["generate", checkpoint, "--prompt", "Once upon a time"]),
                line("look", ["inspect", checkpoint]),
                line(done ? "train on" : "resume", resume)]
    }
}

/// `word` as a shell reads it back, quoted only if it must be.
package func shellWord(_ word: String) -> String {
    let plain = word.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
             UInt8(ascii: "0")...UInt8(ascii: "9"): true
        default: "-_./=:,+@%".utf8.contains(byte)
        }
    }
    return plain && !word.isEmpty ? word : "'" + word.replacing("'", with: "'\\''") + "'"
}
