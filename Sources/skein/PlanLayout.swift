import Base
import Planner
import Recipe
import Trainer

/// `skein plan CONFIG --lengths FILE`: how the sequences of a step would be laid out over ranks, on machines that one
/// need not have.
struct PlanLayout {
    let recipe: Recipe
    let vocabulary: Int
    let ranks: Int
    let gflops: Double
    let linkGbit: Double
    let options: Planner.Options
    /// Ranks of each group; nil: as the planner likes.
    let degree: Int?

    /// What is printed.
    func report(lengthsFile: String, json: Bool) throws(BadInput) -> String {
        let lengths = try readLengths(file: lengthsFile)
        let table = ParameterTable(recipe.model, vocabulary: vocabulary)
        let cost = CostModel(table, recomputation: recipe.activationCheckpoint.mode, gflops: gflops,
                             linkGbit: linkGbit)
        let declared = recipe.training.maxTokensPerTask
        let cap = declared > 0 ? declared : recipe.rowsPerTask * recipe.training.sequenceLength
        let problem = try PlanProblem(lengths: lengths, rates: RankRates(equal: ranks), tokenCap: cap, cost: cost,
                                      degree: degree)
        let begin = MonotonicClock.seconds()
        let result = Planner(options).plan(problem)
        let planned = MonotonicClock.seconds() - begin
        // How much the network costs beside the arithmetic: operations a rank does in the time in which a byte of each
        // of the model's dimensions comes.
        let regime = gflops * 1e9 / (Double(recipe.model.dim) * linkGbit * 1e9 / 8)
        if json {
            return result.json(problem, extra: [("planning_seconds", "\(planned)"), ("flops_per_dim_byte", "\(regime)"),
                                                ("token_cap", "\(cap)")])
        }
        var rows = [("ranks", "\(ranks), \(Units.fixed(gflops, 0)) GFLOP/s and \(Units.fixed(linkGbit, 2)) Gbit/s "
            + "each; F/(hB) = \(Units.fixed(regime, 3))")]
        rows.append(("sequences", "\(Units.grouped(lengths.count)), \(Units.grouped(lengths.reduce(0, +))) tokens, the "
            + "longest \(Units.grouped(lengths.max() ?? 0)); a rank holds \(Units.grouped(cap))"))
        rows += result.rows(problem)
        rows.append(("planned in", "\(Units.fixed(planned * 1_000, 1)) ms"))
        let width = rows.map(\.0.count).max() ?? 0
        let text = rows.map { $0.0 + String(repeating: " ", count: width + 2 - $0.0.count) + $0.1 }
        return PlanChart(result.plan, result.times).text + "\n\n" + text.joined(separator: "\n")
    }
}
