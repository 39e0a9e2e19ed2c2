import ArgumentParser
import Base
import Parallel
import Planner
import Recipe
import Telemetry
import Tensor
import Trainer

struct Plan: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows what a run would take: memory by component, time for a step, and a step's layout.",
        discussion: """
            With --ranks, of one rank of several: of as many on this machine, as skein launch starts them, or, with \
            --link-gbit, of one on each of as many machines with such a link.
            Read are the config, the tokenizer, the sizes of the data's files, and, for the mean attention context, \
            the lengths of documents where that is quick: prepared data, or up to 256 MiB of bytes. A run that this \
            machine (or the cgroup it is in) has no memory for is refused with exit code 2, as train would refuse it.
            With --lengths, instead: which ranks would compute which sequences of a step together, as a chart, beside \
            the time before which no plan can end, for up to 1,024 ranks on machines that need not be there. A rank \
            then holds training.max_tokens_per_task tokens.
            With --search, instead: over how many ranks the parts of the training state are cut, how many ranks share \
            a sequence, and what the backward computes again, chosen together: the quickest that fit into a rank's \
            memory.
            """)

    @Argument(help: "A TOML file.")
    var config: String
    @Option(help: "Ranks that share the work.")
    var ranks = 1
    @Option(help: "Gbit/s of the link of each rank, each way.")
    var linkGbit: Double?
    @Option(help: "A file of sequence lengths, one a line: shows their layout over ranks. Needs --link-gbit.")
    var lengths: String?
    @Option(help: "With --lengths: fast, or exact (then branch-and-cut).")
    var solver = "fast"
    @Option(help: "With --lengths: ranks of each group; auto: as it is best.")
    var degree = "auto"
    @Flag(help: "With --lengths: without the linear program.")
    var noLp = false
    @Flag(help: "Prints the best settings of sharding, sequence parallelism and recomputation. Needs --link-gbit.")
    var search = false
    @Option(help: "With --search: how many of them.")
    var best = 5
    @Option(help: "With --search: GiB of memory of a rank; without it, what this machine leaves.")
    var memory: Double?
    @Flag(help: "Also every slot of the activations.")
    var slots = false
    @Option(help: "GFLOP/s of matrix products, all threads of a rank together; without it, they are measured.")
    var flops: Double?
    @Flag(help: "One JSON object a line.")
    var json = false
    @Argument(parsing: .allUnrecognized, help: "Values that replace the file's: --section.key value.")
    var overrides: [String] = []

    func validate() throws {
        guard (1e-6...1e9).contains(flops ?? 1) else {
            throw ValidationError("--flops must be from 0.000001 to 1000000000")
        }
        guard (1e-6...1e6).contains(linkGbit ?? 1) else {
            throw ValidationError("--link-gbit must be from 0.000001 to 1000000")
        }
        guard (1...4_096).contains(ranks) else { throw ValidationError("--ranks must be from 1 to 4,096") }
        guard Planner.Solver(rawValue: solver) != nil else { throw ValidationError("--solver must be fast or exact") }
        guard degree == "auto" || (1...ranks).contains(Int(degree) ?? 0) else {
            throw ValidationError("--degree must be auto or from 1 to the number of ranks")
        }
        try require("best", best, 1...1_000)
        guard (1e-3...1e6).contains(memory ?? 1) else {
            throw ValidationError("--memory must be from 0.001 to 1000000")
        }
        guard !search || ranks == 1 || linkGbit != nil else {
            throw ValidationError("--search with several ranks needs --link-gbit: the ranks' links")
        }
        guard lengths != nil else { return }
        guard linkGbit != nil else { throw ValidationError("--lengths needs --link-gbit: the ranks' links") }
        guard ranks <= 1_024 else { throw ValidationError("--ranks must be from 1 to 1,024 with --lengths") }
    }

    func run() throws {
        let resolved = try ResolvedRecipe.load(file: config, flags: overrides), recipe = resolved.recipe
        if recipe.isSearched, !search {
            printError("skein: what is \"auto\" counts as its default here; --search shows what a run would take")
        }
        if let lengths, let linkGbit { return try printLayout(recipe, lengths: lengths, linkGbit: linkGbit) }
        try resolved.requireRows(worldSize: ranks)
        let planned = try PlannedMemory(recipe, ranks: ranks, localRanks: linkGbit == nil ? ranks : 1)
        let setting = planned.setting
        let threads = recipe.training.threads == 0 ? setting.threads : recipe.training.threads
        // More threads than cores would not measure more.
        let pool = Pool(threads: min(threads, Machine.cores()))
        defer { pool.close() }
        let peak = try flops ?? Machine.gemmPeak(pool: pool, recipe: recipe)
        // What a quantised step leaves in fp32 is as fast as that.
        let exactPeak = try flops != nil || recipe.precision.recipe == .fp32 ? nil : Machine.gemmPeak(pool: pool)
        // What cannot run needs no look at its data.
        let context = planned.hasRoom ? try meanContext(recipe, textBytes: setting.textBytes) : nil
        let step = StepCost(recipe, vocabulary: setting.vocabulary, ranks: ranks, context: context)
        let compute = try flops == nil && planned.hasRoom ? measured(step, recipe, exactPeak ?? peak, pool) : nil
        let rate = compute.map { step.gflops(seconds: $0) } ?? peak
        if search { return try printSearch(resolved, planned, gflops: rate, context: context) }
        let traffic = try linkGbit.map {
            try PlannedTraffic(recipe, vocabulary: setting.vocabulary, step: step, ranks: ranks, gflops: rate,
                               linkGbit: $0)
        }
        let shards = try ShardPlan(ParameterTable(recipe.model, vocabulary: setting.vocabulary), recipe: recipe,
                                   worldSize: ranks)
        let report = PlanReport(planned: planned, step: step, threads: threads, peak: peak, exactPeak: exactPeak,
                                measuredSeconds: compute, ranks: ranks, hasContext: context != nil,
                                linkGbit: linkGbit, shards: shards, traffic: traffic, hasSlots: slots)
        print(json ? report.json : report.text)
        try planned.requireRoom()
    }

    /// Seconds of a step, by what a layer takes this machine; nil where that would take too much memory.
    private func measured(_ step: StepCost, _ recipe: Recipe, _ rate: Double, _ pool: Pool) throws -> Double? {
        let memory = Machine.availableMemory()?.bytes ?? .max
        return try LayerTime(of: recipe, pool: pool, memory: memory).map { step.seconds(layer: $0, rate: rate) }
    }

    private func printSearch(_ resolved: ResolvedRecipe, _ planned: PlannedMemory, gflops: Double, context: Double?)
        throws {
        let search = SettingSearch(resolved, memory: planned, ranks: ranks, gflops: gflops, linkGbit: linkGbit ?? 1,
                                   context: context, freedom: .all)
        let room = memory.map { Int($0 * 1_073_741_824) } ?? planned.roomBytes ?? .max
        for candidate in try search.best(within: room).prefix(best) {
            print(json ? candidate.json : "\(Units.duration(candidate.seconds)) a step, "
                + "\(Units.bytes(candidate.peakBytes)) a rank: \(candidate.text)")
        }
    }

    private func printLayout(_ recipe: Recipe, lengths: String, linkGbit: Double) throws {
        let gflops = try flops ?? {
            let threads = recipe.training.threads == 0 ? Machine.cores() : recipe.training.threads
            let pool = Pool(threads: min(threads, Machine.cores()))
            defer { pool.close() }
            return try Machine.gemmPeak(pool: pool, recipe: recipe)
        }()
        var options = Planner.Options()
        options.solver = Planner.Solver(rawValue: solver) ?? .fast
        options.usesLinearProgram = !noLp
        let vocabulary = try recipe.vocabulary(ofTokens: openTokenizer(recipe).vocabularySize)
        let layout = PlanLayout(recipe: recipe, vocabulary: vocabulary, ranks: ranks, gflops: gflops,
                                linkGbit: linkGbit, options: options, degree: Int(degree))
        print(try layout.report(lengthsFile: lengths, json: json))
    }
}

/// What `skein plan` prints.
private struct PlanReport {
    let planned: PlannedMemory
    let step: StepCost
    let threads: Int
    let peak: Double
    /// Of fp32 products beside quantised ones.
    let exactPeak: Double?
    /// Of a step's forwards and backwards, from a layer of it; nil where none was measured.
    let measuredSeconds: Double?
    let ranks: Int
    /// Whether `step.context` is the data's.
    let hasContext: Bool
    let linkGbit: Double?
    let shards: ShardPlan
    let traffic: PlannedTraffic?
    let hasSlots: Bool

    private var peakSeconds: Double { step.seconds(atGflops: peak, exact: exactPeak) }
    private var computeSeconds: Double { measuredSeconds ?? peakSeconds }
    private var seconds: Double { computeSeconds + (traffic?.visibleSeconds ?? 0) + (sequenceSeconds ?? 0) }
    private var wire: ShardTraffic { PlannedTraffic.traffic(shards, planned.recipe, step) }
    private var wireBytes: Int { wire.bytes }
    private var recipe: Recipe { planned.recipe }
    private var sequenceBytes: Int { recipe.sequenceBytes(tokens: step.tokens / recipe.groups(worldSize: ranks)) }
    /// For which attention waits: what goes round in a ring goes under the computation.
    private var sequenceSeconds: Double? {
        linkGbit.map { recipe.contextMethod == .ring ? 0 : Double(sequenceBytes) * 8 / ($0 * 1e9) }
    }

    var text: String {
        let rows = memory + work + network
        let width = rows.map(\.0.count).max() ?? 0
        return rows.map { $0.0 + String(repeating: " ", count: width + 2 - $0.0.count) + $0.1 }.joined(separator: "\n")
    }

    private var memory: [(String, String)] {
        var rows: [(String, String)] = []
        let components = planned.plan.components
        let whole = Double(max(components.reduce(0) { $0 + $1.bytes }, 1))
        func row(_ name: String, _ bytes: Int) {
            let text = Units.bytes(bytes), percent = Units.fixed(Double(bytes) / whole * 100, 1)
            rows.append((name, text + String(repeating: " ", count: max(1, 18 - text.count - percent.count)) + percent
                + " %"))
        }
        for component in components {
            row(component.name, component.bytes)
            if hasSlots { for slot in component.slots { row("  " + slot.name, slot.bytes) } }
        }
        rows.append(("peak" + (ranks > 1 ? " of a rank" : ""), Units.bytes(planned.plan.peakBytes)))
        if planned.plan.peakBytes == planned.plan.readingBytes { rows.append(("", "while the data is read")) }
        if let room = Machine.availableMemory() { rows.append((room.limit + " leaves", Units.bytes(room.bytes))) }
        return rows
    }

    private var work: [(String, String)] {
        var rows = [("parameters", Units.count(Double(step.parameters)))]
        if ranks > 1 {
            rows.append(("ranks", "\(ranks), \(linkGbit == nil ? "all on this machine" : "each on its own machine")"))
        }
        rows.append(("tokens a step", Units.grouped(step.tokens)))
        if hasContext {
            rows.append(("mean context", "\(Units.fixed(step.context, 0)) tokens, in rows of up to "
                + Units.grouped(planned.recipe.training.sequenceLength)))
        }
        rows.append(("model FLOPs a step", Units.count(step.modelFlops)))
        if step.recomputedFlops > 0 { rows.append(("computed again", Units.count(step.recomputedFlops))) }
        let names = "\(threads) thread\(threads == 1 ? "" : "s")"
        rows.append(("GEMM peak, \(names)", "\(Units.fixed(peak, 0)) GFLOP/s" + (exactPeak.map {
            " in \(recipe.precision.recipe.rawValue), \(Units.fixed($0, 0)) of fp32 for "
                + "\(Units.fixed(step.exactFlops / step.modelFlops * 100, 1)) % of the work"
        } ?? "")))
        rows.append(("a step at that peak", Units.duration(peakSeconds)))
        if let measuredSeconds {
            rows.append(("a step, by one layer", Units.duration(measuredSeconds) + ", measured; without the update"))
        }
        return rows
    }

    private var network: [(String, String)] {
        guard ranks > 1 else { return [] }
        let owners = planned.recipe.optimizer.name.keepsMatrices && shards.counts.optimizer > 1
            ? "; matrices are whole, so the busiest rank updates "
                + "\(Units.fixed(shards.ownerImbalance, 2)) times the mean" : ""
        var rows = [("state shared over", shards.counts.text + owners),
                    ("on the wire", "\(Units.bytes(wireBytes)) a step and rank, each way: gradients "
                        + "\(Units.bytes(wire.gradients)), parameters \(Units.bytes(wire.updated + wire.gathered))")]
        if recipe.isElastic, recipe.launch.redundancy > 0 {
            let sent = PlannedMemory.copiedBytes(recipe, shards)
            rows.append(("copies for lost ranks", "\(Units.bytes(sent)) a step and rank, each way, beside that"))
        }
        if let traffic, let linkGbit {
            rows.append(("  at \(Units.fixed(linkGbit, 1)) Gbit/s", "\(Units.duration(traffic.seconds)), of which "
                + "\(Units.duration(traffic.seconds - traffic.visibleSeconds)) hidden by computation, "
                + "\(Units.duration(traffic.visibleSeconds)) visible"))
        }
        if recipe.contextDegree > 1 { rows += sequences }
        if recipe.plansSequences {
            rows.append(("sequences shared", "as each step is planned; a rank holds up to "
                + "\(Units.grouped(recipe.tokensPerRank)) tokens at a time"))
        }
        if linkGbit != nil { rows.append(("a step with the link", Units.duration(seconds))) }
        return rows
    }

    private var sequences: [(String, String)] {
        var rows = [("sequences shared over", "\(recipe.contextDegree) ranks by \(recipe.contextMethod.rawValue), of "
            + "which one holds up to \(Units.grouped(recipe.tokensPerRank)) tokens at a time"),
                    ("on the wire for them", "\(Units.bytes(sequenceBytes)) a step and rank, each way")]
        if let linkGbit, let sequenceSeconds {
            rows.append(("  at \(Units.fixed(linkGbit, 1)) Gbit/s", recipe.contextMethod == .ring
                ? "hidden by computation, as far as that takes longer"
                : "\(Units.duration(sequenceSeconds)), visible"))
        }
        return rows
    }

    var json: String {
        func object(_ parts: [(String, Int)]) -> String {
            "{" + parts.map { "\"\($0.0)\":\($0.1)" }.joined(separator: ",") + "}"
        }
        func number(_ value: Double?) -> String { value.map { "\($0)" } ?? "null" }
        let components = planned.plan.components
        let fields = [
            ("plan", "\"memory\""), ("threads", "\(threads)"), ("ranks", "\(ranks)"),
            ("peak_bytes", "\(planned.plan.peakBytes)"),
            ("available_bytes", Machine.availableMemory().map { "\($0.bytes)" } ?? "null"),
            ("components", object(components.map { ($0.name, $0.bytes) })),
            ("slots", object(components.flatMap(\.slots).map { ($0.name, $0.bytes) })),
            ("parameters", "\(step.parameters)"), ("tokens", "\(step.tokens)"), ("context", "\(step.context)"),
            ("flops", "\(step.modelFlops)"), ("recomputed_flops", "\(step.recomputedFlops)"),
            ("peak_gflops", "\(peak)"), ("exact_peak_gflops", number(exactPeak)),
            ("peak_seconds", "\(peakSeconds)"),
            ("compute_seconds", "\(computeSeconds)"), ("wire_bytes", "\(wireBytes)"),
            ("context_parallel_degree", recipe.plansSequences ? "\"auto\"" : "\(recipe.contextDegree)"),
            ("context_parallel_method", recipe.contextDegree > 1 ? "\"\(recipe.contextMethod.rawValue)\"" : "null"),
            ("sequence_bytes", "\(sequenceBytes)"), ("link_gbit", number(linkGbit)),
            ("wire_seconds", number(traffic?.seconds)),
            ("visible_seconds", number(traffic?.visibleSeconds)), ("seconds", "\(seconds)"),
        ]
        return "{" + fields.map { "\"\($0.0)\":\($0.1)" }.joined(separator: ",") + "}"
    }
}
