import Base
import Recipe
import Telemetry
import Trainer

/// The metrics of an experiment's run, which is trained as far as it is missing: with checkpoints, so that an
/// interrupted experiment goes on where it was, and what is finished is only read. `begin` is called where there is
/// something to do. Returns nil where Ctrl-C ended it.
func finishedLog(_ resolved: ResolvedRecipe, begin: () -> Void) throws -> [[String: Double]]? {
    let recipe = resolved.recipe, path = "\(recipe.job.dumpFolder)/\(recipe.job.name)"
    var log = try MetricsLog.read("\(path)/metrics.jsonl")
    try requireSame(path, recipe)
    if log.count < recipe.training.steps {
        begin()
        try TrainingRun(continuing(resolved, begun: !log.isEmpty)).run()
        log = try MetricsLog.read("\(path)/metrics.jsonl")
    }
    return log.count < recipe.training.steps ? nil : log
}

/// Recipes of experiments are written in the program, and messages about them say so.
func experimentRecipe(_ text: String, flags: [String]) throws(BadInput) -> ResolvedRecipe {
    try ResolvedRecipe.load(text: text, name: "the experiment's recipe", flags: flags)
}

private func continuing(_ resolved: ResolvedRecipe, begun: Bool) throws(BadInput) -> ResolvedRecipe {
    begun ? try experimentRecipe(resolved.recipe.toml, flags: ["--checkpoint.load", "latest"]) : resolved
}

/// A run of another recipe in the same place is another experiment.
private func requireSame(_ path: String, _ recipe: Recipe) throws {
    guard var there = try? ResolvedRecipe.load(file: "\(path)/config.toml").recipe else { return }
    var own = recipe
    (there.checkpoint.load, own.checkpoint.load) = ("", "")
    (there.training.threads, own.training.threads) = (0, 0)
    if there != own {
        throw BadInput("\(path) is a run of another recipe; name another --out, or remove it")
    }
}

/// The mean of `values`, and with several half of their spread; how many they are, where not all `runs` have one.
func meanAndSpread(_ values: [Double], _ places: Int, of runs: Int) -> String {
    guard let low = values.min(), let high = values.max() else { return "never" }
    let mean = Units.fixed(values.reduce(0, +) / Double(values.count), places)
    let missing = values.count < runs ? " (\(values.count) of \(runs))" : ""
    return mean + (values.count > 1 ? " ± \(Units.fixed((high - low) / 2, places))" : "") + missing
}
