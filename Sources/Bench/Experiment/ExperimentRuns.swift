import Base
import Recipe
import Storage
import Telemetry
import Trainer

/// Recipes of experiments are written in the program, and messages about them say so. Their runs go on from what was
/// saved.
func experimentRecipe(_ text: String, flags: [String]) throws(BadInput) -> ResolvedRecipe {
    try ResolvedRecipe.load(text: text, name: "the experiment's recipe", flags: ["--checkpoint.load", "latest"] + flags)
}

/// Throws `BadInput` unless all `runs` may be in `folder`: what is wrong with the last should not come out after hours.
/// `overrides`: the flags that were given for them.
func requireRuns(_ runs: [ResolvedRecipe], in folder: String, _ overrides: [String]) throws {
    guard !overrides.contains(where: { $0.hasPrefix("--job.") }) else {
        throw BadInput("the experiment names its runs; leave the keys of job out, and name the folder by --out")
    }
    if let kind = try RealDisk().kind(folder), kind != .folder {
        throw BadInput("--out \(folder) is no folder; name one that is, or that can be made")
    }
    for run in runs { try requireSame(run.recipe) }
}

/// A run of another recipe in the same place is another experiment.
private func requireSame(_ recipe: Recipe) throws {
    let path = "\(recipe.job.dumpFolder)/\(recipe.job.name)"
    guard try RealDisk().kind("\(path)/config.toml") != nil else { return }
    var there = try ResolvedRecipe.load(file: "\(path)/config.toml").recipe, own = recipe
    (there.checkpoint.load, own.checkpoint.load) = ("", "")
    (there.training.threads, own.training.threads) = (0, 0)
    (there.job.dumpFolder, own.job.dumpFolder) = ("", "")
    if there != own {
        throw BadInput("\(path) is a run of another recipe; name another --out, or remove it")
    }
}

/// The metrics of an experiment's run, which is trained as far as it is missing: with checkpoints, so that an
/// interrupted experiment goes on where it was, and what is finished is only read. `begin` is called where there is
/// something to do. Returns nil where Ctrl-C ended it.
func finishedLog(_ resolved: ResolvedRecipe, begin: () -> Void) throws -> [[String: Double]]? {
    let recipe = resolved.recipe, metrics = "\(recipe.job.dumpFolder)/\(recipe.job.name)/metrics.jsonl"
    var log = try MetricsLog.read(metrics)
    if log.count < recipe.training.steps {
        begin()
        try TrainingRun(resolved, beginsWhereNothingIsSaved: true).run()
        log = try MetricsLog.read(metrics)
    }
    return log.count < recipe.training.steps ? nil : log
}

/// The mean of `values`, and with several half of their spread; how many they are, where not all `runs` have one.
func meanAndSpread(_ values: [Double], _ places: Int, of runs: Int) -> String {
    guard let low = values.min(), let high = values.max() else { return "never" }
    let mean = Units.fixed(values.reduce(0, +) / Double(values.count), places)
    let missing = values.count < runs ? " (\(values.count) of \(runs))" : ""
    return mean + (values.count > 1 ? " ± \(Units.fixed((high - low) / 2, places))" : "") + missing
}
