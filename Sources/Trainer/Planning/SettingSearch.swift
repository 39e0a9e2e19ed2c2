import Base
import Parallel
import Planner
import Recipe

/// Buff's search (InternEvo, 2401.09149, with AMSP's rule for the counts, 2311.00257): over how many ranks each part of
/// the training state is cut, how many ranks share a sequence, and what the backward computes again, chosen together:
/// the quickest step of all that fit into a rank's memory.
///
/// A step is reckoned as `skein plan` reckons it, and memory as `PlannedMemory` does; all candidates are looked at.
public struct SettingSearch {
    public struct Candidate: Sendable, Equatable {
        public var counts: ShardCounts
        /// Ranks that share a sequence; 0: as each step is planned.
        public var degree: Int
        public var recomputation: Recipe.Recomputation
        /// Of a rank, at most.
        public var peakBytes: Int
        /// Of a step.
        public var seconds: Double

        /// The values as flags of a command line.
        public var flags: [String] {
            ["--parallelism.zero", "0", "--parallelism.shard_parameters", "\(counts.parameters)",
             "--parallelism.shard_gradients", "\(counts.gradients)", "--parallelism.shard_optimizer",
             "\(counts.optimizer)", "--parallelism.context_parallel_degree", degree == 0 ? "auto" : "\(degree)",
             "--activation_checkpoint.mode", recomputation.rawValue]
        }

        public var json: String {
            "{\"search\":\"setting\",\"seconds\":\(seconds),\"peak_bytes\":\(peakBytes),"
                + "\"shard_parameters\":\(counts.parameters),\"shard_gradients\":\(counts.gradients),"
                + "\"shard_optimizer\":\(counts.optimizer),\"context_parallel_degree\":"
                + (degree == 0 ? "\"auto\"" : "\(degree)") + ",\"recomputation\":\"\(recomputation.rawValue)\"}"
        }

        /// For people.
        public var text: String {
            let shared = degree == 0 ? "sequences as planned" : degree == 1 ? "sequences not shared"
                : "sequences shared by \(degree) ranks"
            return "\(counts.text); \(shared); recomputation \(recomputation.rawValue)"
        }
    }

    /// Which values may change: all, or those that the recipe says "auto" for.
    public enum Freedom: Sendable { case all, declared }

    private let resolved: ResolvedRecipe
    private let memory: PlannedMemory
    private let ranks: Int
    private let gflops: Double
    private let linkGbit: Double
    private let context: Double?
    private let freedom: Freedom

    /// `memory`: of the recipe as it is, for what does not change. `gflops`, `linkGbit`: of one rank. `context`: how
    /// many tokens the data's look back at in the mean, if that is known.
    public init(_ resolved: ResolvedRecipe, memory: PlannedMemory, ranks: Int, gflops: Double, linkGbit: Double,
                context: Double? = nil, freedom: Freedom = .declared) {
        (self.resolved, self.memory, self.ranks) = (resolved, memory, ranks)
        (self.gflops, self.linkGbit, self.context, self.freedom) = (gflops, linkGbit, context, freedom)
    }

    /// What fits into `bytes` of a rank's memory, the quickest first, and of equally quick ones the smallest.
    ///
    /// Throws where nothing does, with the least that would.
    public func best(within bytes: Int) throws(BadInput) -> [Candidate] {
        let all = try candidates()
        let fitting = all.filter { $0.peakBytes <= bytes }
        guard fitting.isEmpty else {
            return fitting.sorted { ($0.seconds, $0.peakBytes) < ($1.seconds, $1.peakBytes) }
        }
        guard let least = all.min(by: { $0.peakBytes < $1.peakBytes }) else {
            throw BadInput("nothing that parallelism.zero, context_parallel_degree and activation_checkpoint.mode may "
                + "be fits \(ranks) ranks; give them values, and the first that does not fit is named")
        }
        throw BadInput("no setting of \(ranks) ranks fits into \(Units.bytes(bytes)) of memory each; the least takes "
            + "\(Units.bytes(least.peakBytes)) (\(least.text)): use more ranks, or lower training.local_batch_size")
    }

    private func candidates() throws(BadInput) -> [Candidate] {
        let recipe = resolved.recipe, all = freedom == .all
        let divisors = (1...ranks).filter { ranks % $0 == 0 }
        let counts = all || recipe.parallelism.isSearched ? Self.chains(divisors).filter(isGiven)
            : [try recipe.shardCounts(worldSize: ranks)]
        let degrees = all || recipe.plansSequences ? (ranks > 1 ? [0] : []) + divisors : [recipe.contextDegree]
        let modes = all || recipe.activationCheckpoint.isSearched ? Recipe.Recomputation.allCases
            : [recipe.activationCheckpoint.mode]
        var found: [Candidate] = [], states: [ShardCounts: MemoryPlan.State] = [:]
        for counts in counts {
            for degree in degrees {
                for mode in modes {
                    var candidate = Candidate(counts: counts, degree: degree, recomputation: mode, peakBytes: 0,
                                              seconds: 0)
                    // What does not fit the recipe is none.
                    guard let own = try? resolved.choosing(candidate.flags),
                          (try? own.requireRows(worldSize: ranks)) != nil else { continue }
                    if states[counts] == nil {
                        states[counts] = try PlannedMemory.state(own.recipe, vocabulary: memory.setting.vocabulary,
                                                                 ranks: ranks)
                    }
                    var setting = memory.setting
                    setting.state = states[counts]
                    candidate.peakBytes = MemoryPlan(own.recipe, setting).peakBytes
                    candidate.seconds = try seconds(own.recipe)
                    found.append(candidate)
                }
            }
        }
        return found
    }

    /// Every part is cut at least as finely as the one before it, and gradients as one of their neighbours (AMSP,
    /// section 4.1).
    private static func chains(_ divisors: [Int]) -> [ShardCounts] {
        var chains: [ShardCounts] = []
        for parameters in divisors {
            for optimizer in divisors where optimizer % parameters == 0 {
                for gradients in Set([parameters, optimizer]).sorted() {
                    chains.append(ShardCounts(parameters: parameters, gradients: gradients, optimizer: optimizer))
                }
            }
        }
        return chains
    }

    /// Counts that the recipe gives stay.
    private func isGiven(_ counts: ShardCounts) -> Bool {
        let own = resolved.recipe.parallelism
        return [(own.shardParameters, counts.parameters), (own.shardGradients, counts.gradients),
                (own.shardOptimizer, counts.optimizer)].allSatisfy { $0.0 == 0 || $0.0 == $0.1 }
    }

    private func seconds(_ recipe: Recipe) throws(BadInput) -> Double {
        let vocabulary = memory.setting.vocabulary
        let step = StepCost(recipe, vocabulary: vocabulary, ranks: ranks, context: context)
        let traffic = try PlannedTraffic(recipe, vocabulary: vocabulary, step: step, ranks: ranks, gflops: gflops,
                                         linkGbit: linkGbit)
        if recipe.plansSequences, ranks > 1 { return try planned(recipe, step) + traffic.visibleSeconds }
        // What goes round in a ring goes under the computation.
        let bytes = recipe.contextMethod == .ring ? 0
            : recipe.sequenceBytes(tokens: step.tokens / recipe.groups(worldSize: ranks))
        return step.seconds(atGflops: gflops) + Double(bytes) * 8 / (linkGbit * 1e9) + traffic.visibleSeconds
    }

    /// When the plan of a step ends whose documents all have the length that its mean context speaks of. A task's own
    /// cost is left out, as it is for steps without a plan.
    private func planned(_ recipe: Recipe, _ step: StepCost) throws(BadInput) -> Double {
        let table = ParameterTable(recipe.model, vocabulary: memory.setting.vocabulary)
        var cost = CostModel(table, recomputation: recipe.activationCheckpoint.mode, gflops: gflops,
                             linkGbit: linkGbit)
        cost.taskSeconds = 0
        let length = max(1, min(recipe.training.sequenceLength, Int(2 * step.context)))
        let count = max(1, step.tokens / length)
        let problem = try PlanProblem(lengths: Array(repeating: length, count: min(count, 4_096)),
                                      rates: RankRates(equal: ranks), tokenCap: recipe.plannedCap, cost: cost)
        return Planner().plan(problem).times.makespan * Double(count) / Double(min(count, 4_096))
    }
}

extension Recipe {
    /// Whether a search is to find what the recipe leaves open.
    public var isSearched: Bool { parallelism.isSearched || activationCheckpoint.isSearched }

    /// Refuses a recipe whose settings nobody has searched for yet.
    func requireSettings() throws(BadInput) {
        guard isSearched else { return }
        let key = parallelism.isSearched ? "parallelism.zero" : "activation_checkpoint.mode"
        throw BadInput("\(key) = \"auto\" is searched for by skein train, and by skein plan CONFIG --search, which "
            + "says what to put there; give it a value here")
    }
}
