import Base
import Corpus
import Recipe
import Telemetry
import Tensor
import Trainer

/// Whole optimizer steps, by the code that `skein train` runs: data, forward, backward, clipping, AdamW. With
/// `profiling.trace` also where their time goes; with `explainsCut`, on one thread, how evenly they are cut for more.
public func benchStep(_ resolved: ResolvedRecipe, rounds: Int, explainsCut: Bool = false) throws -> BenchLine {
    let recipe = resolved.recipe
    let threads = explainsCut ? 1 : recipe.training.threads == 0 ? Machine.cores() : recipe.training.threads
    let planned = try PlannedMemory(recipe)
    try planned.requireRoom()
    let pool = Pool(threads: threads, spin: threads <= Machine.cores())
    defer { pool.close() }
    let peak = try Machine.gemmPeak(pool: pool, matmul: recipe.training.matmul)
    let corpus = try openCorpus(recipe, threads: threads)
    let runner = try StepRunner(recipe: recipe, corpus: corpus, pool: pool)
    runner.state.weights.initialize(seed: recipe.debug.seed)
    let trace = recipe.profiling.trace ? Trace() : nil
    var tokens = 0
    var context = 0.0
    var loss = 0.0
    // The first two steps meet cold pages and make the views of the task sizes; they are not counted.
    _ = try runner.run(step: 0)
    runner.trace = trace
    let seconds = try medianSeconds(rounds: rounds) { round in
        let result = try runner.run(step: round + 1)
        (tokens, loss, context) = (result.tokens, result.loss, result.context)
    }
    // After two more steps than the counted ones need, so that nothing is made for the first time.
    let allocations = try countAllocations { _ = try runner.run(step: rounds + 2) }
    runner.trace = nil
    let cut = explainsCut ? try explainCut(steps: 5, pool: pool) { _ = try runner.run(step: rounds + 3 + $0) } : nil
    let table = runner.state.table
    let sequence = recipe.training.sequenceLength
    var line = BenchLine(bench: "step", threads: threads, seconds: seconds)
    line.add("parameters", table.parameterCount)
    line.add("sequence", sequence)
    line.add("batch", recipe.rowsPerStep(worldSize: 1))
    line.add("recipe", recipe.precision.recipe.rawValue)
    line.add("matmul", recipe.training.matmul.rawValue)
    line.add("tokens_per_s", Double(tokens) / seconds)
    line.add("gflops", Double(tokens) * table.flopsPerToken(context: context) / seconds / 1e9)
    line.add("peak_gflops", peak)
    line.add("allocations", allocations ?? -1)
    line.add("loss", loss)
    line.add("peak_bytes", Machine.peakResidentBytes)
    line.add("planned_bytes", planned.plan.peakBytes)
    line.note = cut
    // The ceiling moves with whatever else the machine does: what stages lose is held against that of the same minute.
    if let trace {
        let after = try Machine.gemmPeak(pool: pool, matmul: recipe.training.matmul)
        line.note = try TraceTable(trace, peak: (peak + after) / 2).text
    }
    return line
}
