import Collectives
import Parallel
import Recipe
import Simulation
import Tensor
import Testing

/// Gradients that travel in E4M3, without a model.
@Suite struct WireScalesTests {
    private static func recipe(_ counts: ShardCounts, ranks: Int, batches: Int) -> Recipe {
        var recipe = Recipe()
        recipe.parallelism.zero = 0
        recipe.parallelism.shardParameters = counts.parameters
        recipe.parallelism.shardGradients = counts.gradients
        recipe.parallelism.shardOptimizer = counts.optimizer
        recipe.communication.gradients = .fp8
        recipe.training.localBatchSize = 1
        recipe.training.globalBatchSize = ranks * batches
        return recipe
    }

    /// Small whole numbers, whose sums E4M3 has exactly: at every layout, of one micro-batch and of three, scaled and
    /// not, the gradient is the sum. Parameters differ by powers of two from 2^-30 to 2^30.
    @Test(arguments: 1...4) func exactSumsStayExact(ranks: Int) throws {
        let table = table(3)
        for counts in allCounts(ranks) {
            for batches in [1, 3] {
                let results = onThreads(ranks: ranks) { communicator -> Bool in
                    let pool = Pool(threads: 1), recipe = Self.recipe(counts, ranks: ranks, batches: batches)
                    let step = try ShardedStep(table, recipe: recipe, pool: pool, communicator: communicator)
                    for number in 0..<3 {
                        Self.run(step, batches) { place, _ in Self.value(table, place, number) }
                        try step.finish()
                        for (unit, range) in step.state.ownRanges.enumerated() {
                            let sums = step.state.gradientShard.part(range, unit: unit)
                            for (index, place) in range.enumerated() {
                                let one = Self.value(table, place, number)
                                guard sums[index] == Float(ranks * batches) * one else { return false }
                            }
                        }
                    }
                    return true
                }
                for result in results { #expect(try result.get(), "\(counts.text), \(batches) micro-batches") }
            }
        }
    }

    private static func value(_ table: ParameterTable, _ place: Int, _ number: Int) -> Float {
        guard let parameter = table.parameters.firstIndex(where: { $0.range.contains(place) }) else { return 0 }
        return Float((place + number) % 2) * Float(sign: .plus, exponent: parameter * 13 % 61 - 30, significand: 1)
    }

    private static func run(_ step: ShardedStep, _ batches: Int, _ value: (Int, Int) -> Float) {
        let table = step.state.table
        for batch in 0..<batches {
            step.beginForward(batch, of: batches, tokens: .unknown, uses: [])
            let gradients = step.beginBackward(batch, of: batches)
            for block in table.blocks.indices.reversed() {
                step.gradients.begin(block)
                for (index, place) in table.blocks[block].enumerated() {
                    gradients.blocks[block][index] += value(place, batch)
                }
                step.gradients.ready(block)
            }
            step.endBackward(batch, of: batches)
        }
    }

    /// Two ranks at stage 1, against the formula: the owner has its own part as it is, and the other's rounded under
    /// the scale of the step before; what has grown too fast becomes the largest number, and is counted. A step that is
    /// not finite says so, and leaves the scales as they were.
    @Test func roundingIsThatOfTheLastStepsScale() throws {
        let table = table(1)
        let results = onThreads(ranks: 2) { communicator -> [String] in
            let counts = ShardCounts(parameters: 1, gradients: 1, optimizer: 2)
            let step = try ShardedStep(table, recipe: Self.recipe(counts, ranks: 2, batches: 1),
                                       pool: Pool(threads: 1), communicator: communicator)
            var expected = Expected(table, rank: communicator.rank, own: step.state.ownRanges), wrong: [String] = []
            for number in Expected.sizes.indices {
                let before = communicator.statistics
                Self.run(step, 1) { place, _ in expected.gradient(communicator.rank, place, number) }
                try step.finish()
                let statistics = communicator.statistics.since(before)
                for (unit, range) in step.state.ownRanges.enumerated() {
                    let sums = step.state.gradientShard.part(range, unit: unit)
                    for (index, place) in range.enumerated() {
                        let sum = expected.sum(place, number)
                        if sums[index].bitPattern != sum.bitPattern, !(sums[index].isNaN && sum.isNaN) {
                            wrong.append("step \(number), place \(place): \(sums[index]), not \(sum)")
                        }
                    }
                }
                let saturated = expected.saturated(number)
                if statistics.saturated != saturated {
                    wrong.append("step \(number): \(statistics.saturated) saturated, not \(saturated)")
                }
                if number == 2, saturated == 0 { wrong.append("nothing was saturated") }
                expected.end(number)
                if step.gradientMagnitudes?.array != expected.magnitudes { wrong.append("step \(number): magnitudes") }
                // A byte for each float of the other's share, and the magnitudes.
                let other = table.count - step.state.ownRanges.reduce(0) { $0 + $1.count }
                if number > 0, statistics.bytesSent > other + 8 * table.parameters.count {
                    wrong.append("\(statistics.bytesSent) bytes sent for \(other) floats")
                }
            }
            return wrong
        }
        for result in results {
            let wrong = try result.get()
            #expect(wrong.isEmpty, "\(wrong.prefix(3)) of \(wrong.count)")
        }
    }

    /// What two ranks' gradients come to, reckoned once more.
    private struct Expected {
        /// What some gradients are multiplied by in each step.
        static let sizes: [Float] = [1, 1.5, 40, .infinity, 40]
        private let table: ParameterTable
        private let rank: Int
        private let own: [Range<Int>]
        /// Of each float: its parameter.
        private let parameter: [Int?]
        var magnitudes: [Float]

        init(_ table: ParameterTable, rank: Int, own: [Range<Int>]) {
            self.table = table
            self.rank = rank
            self.own = own
            var parameter = [Int?](repeating: nil, count: table.count)
            for (number, each) in table.parameters.enumerated() {
                for place in each.range { parameter[place] = number }
            }
            self.parameter = parameter
            magnitudes = [Float](repeating: 0, count: table.parameters.count)
        }

        func gradient(_ rank: Int, _ place: Int, _ number: Int) -> Float {
            guard parameter[place] != nil else { return 0 }
            let value = (Float((place * 37 + rank * 101 + number * 11) % 1_009) / 1_009 - 0.5) * 0.01
            return place % 211 == rank ? value * Self.sizes[number] : value
        }

        /// The largest power of two with which twice the last step's magnitude is within 448.
        private func factor(_ parameter: Int) -> Float {
            var factor: Float = 1
            while 2 * magnitudes[parameter] * factor <= 448 { factor *= 2 }
            while 2 * magnitudes[parameter] * factor > 448 { factor /= 2 }
            return factor
        }

        func sum(_ place: Int, _ number: Int) -> Float {
            let mine = gradient(rank, place, number), other = gradient(1 - rank, place, number)
            guard number > 0, let parameter = parameter[place] else { return mine + other }
            let factor = factor(parameter)
            return mine + (other.isFinite ? NumberFormat.e4m3.rounded(other * factor) / factor : .nan)
        }

        /// Numbers that this rank sends and that are too large.
        func saturated(_ number: Int) -> Int {
            guard number > 0 else { return 0 }
            let factors = table.parameters.indices.map(factor)
            return (0..<table.count).count { place in
                let isOwn = own.contains { $0.contains(place) }
                guard let parameter = parameter[place], !isOwn else { return false }
                let value = gradient(rank, place, number).magnitude
                return value.isFinite && value * factors[parameter] > 448
            }
        }

        mutating func end(_ number: Int) {
            let all = table.parameters.map { parameter in
                parameter.range.reduce(Float(0)) { peak, place in
                    max(peak, gradient(0, place, number).magnitude, gradient(1, place, number).magnitude)
                }
            }
            if all.allSatisfy(\.isFinite) { magnitudes = all }
        }
    }
}
