import Parallel
import Recipe
import Testing

/// Every (s_p, s_g, s_o) that divides its way up to `ranks`.
func allCounts(_ ranks: Int) -> [ShardCounts] {
    func divisors(_ whole: Int) -> [Int] { (1...whole).filter { whole % $0 == 0 } }
    return divisors(ranks).flatMap { optimizer in
        divisors(optimizer).flatMap { gradients in
            divisors(gradients).map { ShardCounts(parameters: $0, gradients: gradients, optimizer: optimizer) }
        }
    }
}

@Suite struct ShardPlanTests {
    /// Whatever the counts: units cover the vector, every float is held by as many ranks as must hold it, and whoever
    /// updates a float holds its gradient and its parameter.
    @Test func everyFloatHasItsHolders() {
        let table = table(3)
        for ranks in 1...9 {
            for counts in allCounts(ranks) {
                let plan = ShardPlan(table, counts: counts, worldSize: ranks)
                #expect(plan.units.map(\.range.lowerBound) == [0] + plan.units.dropLast().map(\.range.upperBound))
                #expect(plan.units.last?.range.upperBound == table.count)
                for (shares, ranges) in [(counts.optimizer, plan.optimizerRanges),
                                         (counts.gradients, plan.gradientRanges),
                                         (counts.parameters, plan.parameterRanges)] {
                    var holders = Array(repeating: 0, count: table.count)
                    for rank in 0..<ranks {
                        for range in ranges(rank) { for place in range { holders[place] += 1 } }
                    }
                    #expect(holders.allSatisfy { $0 == ranks / shares }, "\(ranks) ranks, \(counts.text)")
                }
                for rank in 0..<ranks {
                    for unit in plan.units.indices {
                        let own = plan.optimizerRanges(of: rank)[unit]
                        let gradient = plan.gradientRanges(of: rank)[unit]
                        #expect(gradient.lowerBound <= own.lowerBound && own.upperBound <= gradient.upperBound)
                        let parameter = plan.parameterRanges(of: rank)[unit]
                        #expect(parameter.lowerBound <= gradient.lowerBound
                            && gradient.upperBound <= parameter.upperBound)
                    }
                }
            }
        }
    }

    /// Cut along the fixed blocks, so that a block's sum is one rank's; and as even as that allows.
    @Test(arguments: [2, 3, 4, 8]) func sharesAreWholeBlocksAndEven(shares: Int) {
        var shape = Recipe().model
        (shape.dim, shape.layers) = (192, 6)
        let table = ParameterTable(shape, vocabulary: 257), blocks = NormBlocks(table)
        let starts = Set((0..<blocks.count).map { blocks.range($0).lowerBound })
        for stage in 1...3 {
            let plan = ShardPlan(table, counts: ShardCounts(stage: stage, ranks: shares), worldSize: shares)
            var held = Array(repeating: 0, count: shares)
            for rank in 0..<shares {
                for (unit, range) in zip(plan.units, plan.optimizerRanges(of: rank)) {
                    #expect(range.lowerBound == unit.range.lowerBound || starts.contains(range.lowerBound)
                        || range.lowerBound == unit.range.upperBound)
                    held[rank] += range.count
                }
            }
            let even = table.count / shares
            for count in held { #expect(abs(count - even) <= 2 * NormBlocks.size, "\(held)") }
        }
    }

    @Test func matricesWithOneOwnerAreNotCut() {
        var shape = Recipe().model
        (shape.dim, shape.layers) = (96, 4)
        let table = ParameterTable(shape, vocabulary: 600)
        for ranks in 1...8 {
            for stage in 1...3 {
                let plan = ShardPlan(table, counts: ShardCounts(stage: stage, ranks: ranks), worldSize: ranks,
                                     keepsMatrices: true)
                for rank in 0..<ranks {
                    for range in plan.optimizerRanges(of: rank) {
                        for parameter in table.parameters
                        where parameter.shape.count == 2 && (1...4).contains(parameter.block) {
                            let piece = range.clamped(to: parameter.range)
                            #expect(piece.isEmpty || piece == parameter.range)
                        }
                    }
                }
            }
        }
    }

    /// The keys, and what does not fit.
    @Test func countsComeFromTheRecipe() throws {
        func counts(_ flags: [String], _ ranks: Int) throws -> ShardCounts {
            let recipe = try ResolvedRecipe.load(file: nil, flags: ["--data.paths", "x"] + flags).recipe
            return try recipe.shardCounts(worldSize: ranks)
        }
        #expect(try counts(["--parallelism.zero", "0"], 4) == ShardCounts(parameters: 1, gradients: 1, optimizer: 1))
        #expect(try counts(["--parallelism.zero", "1"], 4) == ShardCounts(parameters: 1, gradients: 1, optimizer: 4))
        #expect(try counts(["--parallelism.zero", "2"], 4) == ShardCounts(parameters: 1, gradients: 4, optimizer: 4))
        #expect(try counts(["--parallelism.zero", "3"], 4) == ShardCounts(parameters: 4, gradients: 4, optimizer: 4))
        #expect(try counts(["--parallelism.zero", "1", "--parallelism.shard_gradients", "2"], 8)
            == ShardCounts(parameters: 1, gradients: 2, optimizer: 8))
        #expect(try counts(["--parallelism.zero", "0", "--parallelism.shard_parameters", "2"], 8)
            == ShardCounts(parameters: 2, gradients: 2, optimizer: 2))
        #expect(throws: (any Error).self) { try counts(["--parallelism.shard_optimizer", "3"], 8) }
        #expect(throws: (any Error).self) {
            try counts(["--parallelism.shard_gradients", "3", "--parallelism.shard_optimizer", "4"], 8)
        }
        #expect(throws: (any Error).self) {
            try counts(["--parallelism.shard_parameters", "4", "--parallelism.shard_gradients", "2"], 8)
        }
    }
}
