import ArgumentParser
import Base
import Bench
import Planner

struct PlanBenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan", abstract: "Plans of a step's layout: how long they take, and what other layouts take.",
        discussion: """
            On modelled ranks of 100 GFLOP/s, in a throttled and a fast network. F/(hB), flops_per_dim_byte, says how \
            slow the network is beside the arithmetic: operations of a rank (F a second) in the time in which a byte \
            of each of the model's h dimensions comes (B a second). seconds is the median time of a plan, \
            cpu_seconds the processor's for it, step_seconds the mean modelled time of the step, of_ours its ratio to \
            our plan's, and mean_gap how far that is above the time before which no plan can end. With half of the \
            ranks at half speed, bound_over_counting and step_without_lp are what the linear program is worth.
            """)

    @Option(help: "Numbers of ranks, with commas, each up to 1,024.")
    var ranks = "8,16,32,64,1024"
    @Option(help: "Sequences of a batch.")
    var sequences = 512
    @Option(help: "Batches to plan.")
    var batches = 8
    @Option(help: "A file of sequence lengths, one a line, that batches are drawn from; otherwise long-tailed ones.")
    var lengths: String?
    @Flag(help: "One JSON object a line.")
    var json = false

    func validate() throws {
        _ = try rankCounts()
        try require("sequences", sequences, 1...16_384)
        try require("batches", batches, 1...1_000)
    }

    private func rankCounts() throws -> [Int] {
        let counts = ranks.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) ?? 0 }
        guard counts.allSatisfy({ (1...1_024).contains($0) }) else {
            throw ValidationError("--ranks must be numbers from 1 to 1024 with commas between them")
        }
        return counts
    }

    func run() throws {
        var setting = PlanBenchSetting()
        (setting.ranks, setting.sequences, setting.batches) = (try rankCounts(), sequences, batches)
        if let lengths { setting.lengths = try readLengths(file: lengths) }
        try benchPlan(setting) { emit($0, json: json) }
    }
}
