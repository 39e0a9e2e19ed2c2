import ArgumentParser
import Base
import Bench
import Recipe

struct CostCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cost", abstract: "What plans reckon with, beside what tasks take.",
        discussion: """
            Ranks measure the cost of tasks as a run with planned steps does at its start, and then run tasks that \
            were not measured: mean_error is the mean of |foretold / taken - 1|. With --adapt, some steps with equal \
            ranks follow, as many with the last rank at half its speed and unchanged plans, and as many with plans \
            that follow the ranks' speeds; of_ideal is the rate over that of all ranks' speeds together.
            """)

    @Option(help: "A TOML file; without it, the defaults.")
    var config: String?
    @Option(help: "Rank processes on this machine; under a launcher, the launcher's count.")
    var ranks = 2
    @Option(help: "Tasks of each degree and mode that were not measured; 0: none.")
    var tasks = 24
    @Option(help: "Times that each of them runs; medians count.")
    var repeats = 3
    @Option(help: "Steps in each part of a trial with a slow rank; 0: none.")
    var adapt = 0
    @Flag(help: "One JSON object a line.")
    var json = false
    @Argument(parsing: .allUnrecognized, help: "Values that replace the file's: --section.key value.")
    var overrides: [String] = []

    func validate() throws {
        try require("ranks", ranks, 2...64)
        try require("tasks", tasks, 0...10_000)
        try require("repeats", repeats, 1...1_000)
        try require("adapt", adapt, 0...1_000_000)
    }

    func run() throws {
        let flags = ["--parallelism.context_parallel_degree", "auto"]
        let resolved = try ResolvedRecipe.load(file: config, flags: flags + overrides)
        guard let setting = try rankSetting() else {
            try resolved.requireRows(worldSize: ranks)
            return try launchBench(ranks: ranks)
        }
        var bench = CostBenchSetting()
        (bench.tasks, bench.repeats, bench.adaptSteps) = (tasks, repeats, adapt)
        try benchCost(resolved, bench, ranks: setting) { line in
            if setting.rank == 0 { emit(line, json: json) }
        }
    }
}
