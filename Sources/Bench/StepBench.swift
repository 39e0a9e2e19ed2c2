import Base
import Corpus
import Recipe
import Telemetry
import Tensor
import Trainer

/// Whole optimizer steps, by the code that `skein train` runs: data, forward, backward, clipping, AdamW. With
/// `profiling.trace` also where their time goes; with `explainsCut`, on one thread, how evenly they are cut for more.
///
/// `ranks`: this process's place among several, whose steps are measured together; only rank 0's line is worth
/// printing.
public func benchStep(_ resolved: ResolvedRecipe, rounds: Int, explainsCut: Bool = false,
                      ranks: RankSetting? = nil) throws -> BenchLine {
    let recipe = resolved.recipe, size = ranks?.worldSize ?? 1
    let cores = max(1, Machine.cores() / (ranks?.localWorldSize ?? 1))
    let threads = explainsCut ? 1 : recipe.training.threads == 0 ? cores : recipe.training.threads
    try resolved.requireRows(worldSize: size)
    // Nothing is saved here.
    var unsaved = recipe
    unsaved.checkpoint.enable = false
    let planned = try PlannedMemory(unsaved, ranks: size, localRanks: ranks?.localWorldSize ?? 1)
    try planned.requireRoom()
    let pool = Pool(threads: threads, spin: threads <= Machine.cores())
    defer { pool.close() }
    let peak = try Machine.gemmPeak(pool: pool, recipe: recipe)
    let corpus = try openCorpus(recipe, threads: threads)
    let world = try ranks.map {
        try World(joining: $0, recipe: recipe, dataFingerprint: String(corpus.fingerprint, radix: 16), threads: threads)
    } ?? World()
    let runner = try StepRunner(recipe: recipe, corpus: corpus, pool: pool, world: world)
    try runner.state.initialize(seed: recipe.debug.seed)
    let trace = recipe.profiling.trace ? Trace() : nil
    var tokens = 0
    var context = 0.0
    var loss = 0.0
    var hidden = 0.0, sent = 0, wait = 0.0, exchanged = 0
    // Of all counted steps and all ranks, for what is late by a turn of a shared core differs much from step to step.
    var allExchanged = 0.0, allHidden = 0.0
    // The first two steps meet cold pages and make the views of the task sizes; they are not counted.
    _ = try runner.run(step: 0)
    runner.trace = trace
    let seconds = try medianSeconds(rounds: rounds) { round in
        let result = try runner.run(step: round + 1)
        (tokens, loss, context) = (result.tokens, result.loss, result.context)
        (hidden, sent, wait) = (result.hiddenShare, result.sentBytes, result.waitSeconds)
        exchanged = result.sequenceBytes
        allExchanged += Double(result.sequenceBytes)
        allHidden += Double(result.sequenceBytes) * result.hiddenSequenceShare
    }
    (allExchanged, allHidden) = try world.sum(allExchanged, allHidden)
    // After two more steps than the counted ones need, so that nothing is made for the first time.
    let allocations = try countAllocations { _ = try runner.run(step: rounds + 2) }
    runner.trace = nil
    try world.leave()
    // The same step again and again, for its data decide how attention is cut.
    let cut = explainsCut ? try explainCut(steps: 5, pool: pool) { _ in _ = try runner.run(step: rounds + 3) } : nil
    let table = runner.state.table
    let sequence = recipe.training.sequenceLength
    var line = BenchLine(bench: "step", threads: threads, ranks: size, seconds: seconds)
    line.add("parameters", table.parameterCount)
    line.add("sequence", sequence)
    line.add("batch", recipe.rowsPerStep(worldSize: size))
    line.add("recipe", recipe.precision.recipe.rawValue)
    line.add("matmul", recipe.training.matmul.rawValue)
    if recipe.precision.recipe != .fp32 { line.note = DotPath.reason }
    line.add("tokens_per_s", Double(tokens) / seconds)
    line.add("gflops", Double(tokens) * table.flopsPerToken(context: context) / seconds / 1e9)
    line.add("peak_gflops", peak)
    line.add("allocations", allocations ?? -1)
    line.add("loss", loss)
    line.add("peak_bytes", Machine.peakResidentBytes)
    line.add("planned_bytes", planned.plan.peakBytes)
    if size > 1 {
        let state = try heldBytes(runner, planned)
        line.add("zero", recipe.parallelism.zero)
        line.add("state_bytes", state.held)
        line.add("planned_state_bytes", state.planned)
        line.add("owner_imbalance", runner.state.plan.ownerImbalance)
        line.add("sent_bytes", sent)
        line.add("planned_sent_bytes", runner.plannedBytes)
        line.add("hidden", hidden)
        line.add("wait_s", wait)
        line.add("sequence_bytes", exchanged)
        line.add("sequence_hidden", allExchanged == 0 ? 1 : allHidden / allExchanged)
    }
    line.note = cut ?? line.note
    // The ceiling moves with whatever else the machine does: what stages lose is held against that of the same minute.
    if let trace {
        let after = try Machine.gemmPeak(pool: pool, recipe: recipe)
        line.note = TraceTable(trace, peak: (peak + after) / 2).text
    }
    return line
}

/// Bytes of parameters, gradients and moments that this rank holds, and what ZeRO's formula says (1910.02054, section
/// 5): each part over as many ranks as share it out.
private func heldBytes(_ runner: StepRunner, _ planned: PlannedMemory) throws -> (held: Int, planned: Int) {
    let state = runner.state, counts = state.plan.counts, whole = 4 * state.table.count
    let partial = planned.recipe.partialSums(worldSize: state.plan.worldSize)
    let gradients = partial.map { $0 * whole } ?? whole / counts.gradients
    return (state.heldBytes, gradients + state.sharedBytes)
}
