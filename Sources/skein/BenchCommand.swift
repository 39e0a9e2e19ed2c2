import ArgumentParser
import Base
import Bench
import Corpus
import Recipe
import Telemetry
import Trainer

struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Measures the code that training runs.",
        subcommands: [
            GemmCommand.self, QuantizeCommand.self, StepCommand.self, AttentionCommand.self, KernelsCommand.self,
            CollectivesCommand.self, UpdateCommand.self, DataBenchCommand.self, GenerateBenchCommand.self,
            FaultsCommand.self, SimulateCommand.self, EnduranceCommand.self, CheckpointBenchCommand.self,
            PlanBenchCommand.self, SequenceBenchCommand.self, CostCommand.self])

    struct GemmCommand: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "gemm", abstract: "Matrix products, C[m, n] = A[m, k] B[n, k]^T on each thread.")

        @Option(help: "sgemm: 32-bit floats; bf16dot: operands rounded to E4M3, on bf16 dot products.")
        var kind = "sgemm"
        @Option(help: "Rows of the left operand.")
        var m = 1024
        @Option(help: "Rows of the right operand.")
        var n = 1024
        @Option(help: "The depth.")
        var k = 1024
        @Option(help: "Threads; 0: the cores this process may use.")
        var threads = 1
        @Option(help: "Timed rounds; the median is reported.")
        var rounds = 15
        @OptionGroup var vectors: ISAOption
        @Flag(help: "One JSON object a line.")
        var json = false

        func validate() throws {
            guard kind == "sgemm" || kind == "bf16dot" else {
                throw ValidationError("--kind must be sgemm or bf16dot")
            }
            try require("m", m, 1...1 << 20)
            try require("n", n, 1...1 << 20)
            try require("k", k, 1...1 << 20)
            try requireThreads(threads)
            try requireRounds(rounds)
        }

        func run() throws {
            let threads = threads == 0 ? Machine.cores() : threads
            let single = threads * m * (n + k) + n * k
            let packed = kind == "sgemm" ? 0 : threads * (n + 64) * (k + 64)
            try requireRoom("--m, --n, --k and --threads", floats: single + packed)
            let bench = kind == "sgemm" ? benchGemm : benchDotGemm
            emit(try bench(m, n, k, threads, rounds), json: json)
        }
    }

    struct StepCommand: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "step", abstract: "Whole training steps of a config.")

        @Option(help: "A TOML file; without it, the defaults.")
        var config: String?
        @Option(help: "Timed steps; the median is reported.")
        var rounds = 5
        @Flag(help: "One thread, and what 2 to 16 threads would idle because of how each stage is cut into tiles.")
        var explainCut = false
        @Option(help: "Rank processes on this machine; under a launcher, the launcher's count.")
        var ranks = 1
        @OptionGroup var vectors: ISAOption
        @Flag(help: "One JSON object a line.")
        var json = false
        @Argument(parsing: .allUnrecognized, help: "Values that replace the file's: --section.key value.")
        var overrides: [String] = []

        func validate() throws {
            try requireRounds(rounds)
            try require("ranks", ranks, 1...64)
        }

        func run() throws {
            let resolved = try ResolvedRecipe.load(file: config, flags: overrides), setting = try rankSetting()
            if setting == nil, ranks > 1 {
                try resolved.requireRows(worldSize: ranks)
                return try launchBench(ranks: ranks)
            }
            let line = try benchStep(resolved, rounds: rounds, explainsCut: explainCut, ranks: setting)
            if setting?.rank ?? 0 == 0 { emit(line, json: json) }
        }
    }
}

extension BenchCommand {
    struct AttentionCommand: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "attention", abstract: "Causal attention, forward and backward.",
            discussion: "With --lengths, documents packed into one row, beside what the sum of their squares predicts.")

        @Option(help: "Tokens of the document.")
        var sequence = 4_096
        @Option(help: "Query heads.")
        var heads = 8
        @Option(help: "Width of a head.")
        var headDim = 64
        @Option(help: "Key/value heads; 0: as many as heads.")
        var kvHeads = 0
        @Option(help: "Threads; 0: the cores this process may use.")
        var threads = 1
        @Option(help: "Lengths of documents packed into one row, with commas; then --sequence is not used.")
        var lengths = ""
        @Option(help: "Timed rounds; the median is reported.")
        var rounds = 5
        @OptionGroup var vectors: ISAOption
        @Flag(help: "One JSON object a line.")
        var json = false

        func validate() throws {
            try require("sequence", sequence, 1...1 << 24)
            try require("heads", heads, 1...1_024)
            try require("head-dim", headDim, 1...4_096)
            guard headDim % 2 == 0 else { throw ValidationError("--head-dim must be even") }
            try require("kv-heads", kvHeads, 0...1_024)
            guard heads % max(kvHeads, 1) == 0 else { throw ValidationError("--kv-heads must divide --heads") }
            try requireThreads(threads)
            try requireRounds(rounds)
            let parts = lengths.split(separator: ",").map { Int($0) ?? 0 }
            guard parts.count <= 1 << 16, parts.allSatisfy({ (1...1 << 24).contains($0) }),
                  parts.reduce(0, +) <= 1 << 24 else {
                throw ValidationError("--lengths must be numbers of tokens, at least 1 each, with commas between "
                    + "them; all together at most 16777216")
            }
        }

        func run() throws {
            var setting = AttentionSetting()
            (setting.sequence, setting.heads, setting.headDim) = (sequence, heads, headDim)
            setting.keyHeads = kvHeads == 0 ? heads : kvHeads
            setting.threads = threads == 0 ? Machine.cores() : threads
            setting.rounds = rounds
            setting.lengths = lengths.split(separator: ",").compactMap { Int($0) }
            let flags = "--sequence, --lengths, --heads, --head-dim and --threads"
            try requireRoom(flags, floats: setting.floats)
            emit(try benchAttention(setting), json: json)
        }
    }

    struct KernelsCommand: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "kernels", abstract: "Every kernel beside this machine's memory rate and GEMM peak.")

        @Option(help: "Only this one.")
        var only: String?
        @Option(help: "Timed rounds; the median is reported.")
        var rounds = 9
        @OptionGroup var vectors: ISAOption
        @Flag(help: "One JSON object a line.")
        var json = false

        func validate() throws {
            try requireRounds(rounds)
        }

        func run() throws {
            for line in try benchKernels(rounds: rounds, only: only) { emit(line, json: json) }
        }
    }
}

struct DataBenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "data", abstract: "Opening data, resuming in the middle of them, encoding text.")

    @Argument(help: "Texts, or one folder that skein data prepare made.")
    var sources: [String]
    @Option(help: "`bytes`, or a tokenizer.json or the folder with one, whose speed is measured.")
    var tokenizer = "bytes"
    @Option(help: "Tokens of the longest rows; a power of two.")
    var seqLen = 8_192
    @Option(help: "The step that a run is resumed at.")
    var step = 10_000
    @Option(help: "Timed rounds; the median is reported.")
    var rounds = 5
    @Flag(help: "One JSON object a line.")
    var json = false

    func validate() throws {
        try requireRounds(rounds)
        try require("step", step, 0...1_000_000)
        guard (32...65_536).contains(seqLen), seqLen & (seqLen - 1) == 0 else {
            throw ValidationError("--seq-len must be a power of two from 32 to 65536")
        }
    }

    func run() throws {
        var setting = DataBenchSetting(sources: sources)
        (setting.sequence, setting.step, setting.rounds) = (seqLen, step, rounds)
        let chosen: any Tokenizer = try tokenizer == "bytes" ? ByteTokenizer() : loadTokenizer(tokenizer)
        for line in try benchData(setting, tokenizer: chosen) { emit(line, json: json) }
    }
}

/// A flag's number within `range`.
func require(_ flag: String, _ value: Int, _ range: ClosedRange<Int>) throws {
    guard range.contains(value) else {
        throw ValidationError("--\(flag) must be from \(range.lowerBound) to \(range.upperBound)")
    }
}

func requireRounds(_ rounds: Int) throws { try require("rounds", rounds, 1...100_000) }

func requireThreads(_ threads: Int) throws { try require("threads", threads, 0...4_096) }

/// What a bench is asked to hold, as a run is asked: before a machine that has not so much kills the process.
func requireRoom(_ flags: String, floats: Int) throws {
    guard let room = Machine.availableMemory(), floats > room.bytes / 4 else { return }
    throw BadInput("\(flags) need \(Units.bytes(floats * 4)) of memory and \(room.limit) leaves "
        + "\(Units.bytes(room.bytes)); lower them")
}

func emit(_ line: BenchLine, json: Bool) {
    print(json ? line.json : line.text)
    if let note = line.note { printError(note) }
}
