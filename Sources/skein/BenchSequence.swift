import ArgumentParser
import Base
import Bench
import Recipe

/// Training steps of several layouts between ranks; starts its own rank processes, or is one of them where a launcher
/// has set the rank.
struct SequenceBenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sequence",
        abstract: "Training steps whose sequences are shared in several ways, between real processes.",
        discussion: """
            steps: the documents of each step as we plan them, on one rank alone, with one degree (static: best-fit \
            or balanced), with the best one degree of each batch, and as FlexSP does, in lock-step micro-batches. \
            With --gflops products are waited for and not computed, so that more ranks than cores are studied \
            honestly, and Megatron's all-gather runs, too. flops_per_dim_byte is the regime F/(hB): operations of a \
            rank in the time in which a byte of each of the model's dimensions comes. volumes: bytes that a layer's \
            attention sends, as sequences grow with the ranks. attention: ranks together beside one rank's \
            materialised attention.
            """)

    @Option(help: "steps, volumes or attention.")
    var what = "steps"
    @Option(help: "A TOML file; without it, the defaults.")
    var config: String?
    @Option(help: "Rank processes to start; under a launcher, the launcher's count.")
    var ranks = 4
    @Option(help: "Timed rounds; the median is reported.")
    var rounds = 5
    @Option(help: "GFLOP/s of a rank whose products are waited for; 0: they are computed.")
    var gflops = 0.0
    @Option(help: "Gbit/s of a rank's link that plans reckon with; 0: measured at the start.")
    var linkGbit = 0.0
    @Option(help: "Tokens: of one rank (volumes), or of all (attention).")
    var tokens = 2_048
    @Option(help: "Query heads (volumes, attention).")
    var heads = 8
    @Option(help: "Key/value heads (volumes, attention); 0: as many as heads.")
    var kvHeads = 0
    @Option(help: "Width of a head (volumes, attention).")
    var headDim = 64
    @Flag(help: "One JSON object a line.")
    var json = false
    @Argument(parsing: .allUnrecognized, help: "Values that replace the file's: --section.key value.")
    var overrides: [String] = []

    func validate() throws {
        try requireRounds(rounds)
        try require("ranks", ranks, 2...64)
        try require("tokens", tokens, 64...1 << 20)
        try require("heads", heads, 1...1_024)
        try require("head-dim", headDim, 2...4_096)
        try require("kv-heads", kvHeads, 0...1_024)
        guard headDim % 2 == 0 else { throw ValidationError("--head-dim must be even") }
        guard heads % max(kvHeads, 1) == 0 else { throw ValidationError("--kv-heads must divide --heads") }
        guard ["steps", "volumes", "attention"].contains(what) else {
            throw ValidationError("--what must be steps, volumes or attention")
        }
        guard (0...1e6).contains(gflops) else { throw ValidationError("--gflops must be from 0 to 1000000") }
        guard (0...1e6).contains(linkGbit) else { throw ValidationError("--link-gbit must be from 0 to 1000000") }
    }

    func run() throws {
        let place = try rankSetting()
        func show(_ line: BenchLine) { if place?.rank ?? 0 == 0 { emit(line, json: json) } }
        guard what == "steps" else {
            var setting = AttentionSetting()
            (setting.heads, setting.headDim) = (heads, headDim)
            setting.keyHeads = kvHeads == 0 ? heads : kvHeads
            let each = what == "volumes" ? ranks * ranks * tokens * headDim : tokens * tokens
            try requireRoom("--tokens and --heads", floats: 2 * heads * each)
            guard let place else { return try launchBench(ranks: ranks) }
            let bench = SharedAttentionBench(rounds: rounds, tokens: tokens, setting: setting)
            return try what == "volumes" ? bench.volumes(place, show) : bench.beside(place, show)
        }
        let resolved = try ResolvedRecipe.load(file: config, flags: overrides + [
            "--parallelism.context_parallel_degree", "auto",
        ])
        guard let place else {
            try resolved.requireRows(worldSize: ranks)
            return try launchBench(ranks: ranks)
        }
        try SequenceBench(rounds: rounds, gflops: gflops, linkGbit: linkGbit).run(resolved, place, show)
    }
}
