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
            step.beginForward(batch, of: batches, uses: [])
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

    /// Two ranks at stage 1, against the formula: the owner has its own part as it is, and the other's rounded under the
    /// scale of the step before; what has grown too fast becomes the largest number, and is counted. A step that is not
    /// finite says so, and leaves the scales as they were.
    @Test func roundingIsThatOfTheLastStepsScale() throws {
        let table = table(1), count = table.count
        let sizes: [Float] = [1, 1.5, 40, .infinity, 40]
        @Sendable func gradient(_ rank: Int, _ place: Int, _ number: Int) -> Float {
            guard table.parameters.contains(where: { $0.range.contains(place) }) else { return 0 }
            let phase = Float((place * 37 + rank * 101 + number * 11) % 1_009) / 1_009
            let value = (phase - 0.5) * 0.01
            return place % 211 == rank ? value * sizes[number] : value
        }
        let results = onThreads(ranks: 2) { communicator -> [String] in
            var recipe = Self.recipe(ShardCounts(parameters: 1, gradients: 1, optimizer: 2), ranks: 2, batches: 1)
            recipe.training.globalBatchSize = 2
            let step = try ShardedStep(table, recipe: recipe, pool: Pool(threads: 1), communicator: communicator)
            let rank = communicator.rank
            var magnitudes = [Float](repeating: 0, count: table.parameters.count), wrong: [String] = [], sent = 0
            for number in sizes.indices {
                let before = communicator.statistics
                Self.run(step, 1) { place, _ in gradient(rank, place, number) }
                try step.finish()
                let statistics = communicator.statistics.since(before)
                var saturated = 0
                for (unit, range) in step.state.ownRanges.enumerated() {
                    let sums = step.state.gradientShard.part(range, unit: unit)
                    for (index, place) in range.enumerated() {
                        guard let tensor = table.parameters.firstIndex(where: { $0.range.contains(place) }) else {
                            continue
                        }
                        let own = gradient(rank, place, number), other = gradient(1 - rank, place, number)
                        var came = other
                        if number > 0 {
                            // The largest power of two with which twice the amax is within 448.
                            var factor: Float = 1
                            while 2 * magnitudes[tensor] * factor <= 448 { factor *= 2 }
                            while 2 * magnitudes[tensor] * factor > 448 { factor /= 2 }
                            came = other.isFinite ? NumberFormat.e4m3.rounded(other * factor) / factor : .nan
                        }
                        let expected = own + came
                        if sums[index].bitPattern != expected.bitPattern, !(sums[index].isNaN && expected.isNaN) {
                            wrong.append("step \(number), place \(place): \(sums[index]), not \(expected)")
                        }
                    }
                }
                for (tensor, parameter) in table.parameters.enumerated() where number > 0 {
                    var factor: Float = 1
                    while 2 * magnitudes[tensor] * factor <= 448 { factor *= 2 }
                    while 2 * magnitudes[tensor] * factor > 448 { factor /= 2 }
                    for place in parameter.range
                    where !step.state.ownRanges.contains(where: { $0.contains(place) }) {
                        let value = gradient(rank, place, number).magnitude
                        if value.isFinite, value * factor > 448 { saturated += 1 }
                    }
                }
                if statistics.saturated != saturated { wrong.append("\(statistics.saturated) saturated, not \(saturated)") }
                if number == 2, saturated == 0 { wrong.append("nothing was saturated") }
                sent = statistics.bytesSent
                let all = table.parameters.map { parameter in
                    parameter.range.reduce(Float(0)) { peak, place in
                        max(peak, gradient(0, place, number).magnitude, gradient(1, place, number).magnitude)
                    }
                }
                if all.allSatisfy(\.isFinite) { magnitudes = all }
                if step.gradientMagnitudes?.array != magnitudes { wrong.append("magnitudes after step \(number)") }
            }
            // A byte for each float of the other's share, and the magnitudes.
            let other = count - step.state.ownRanges.reduce(0) { $0 + $1.count }
            if sent > other + 8 * table.parameters.count { wrong.append("\(sent) bytes sent for \(other) floats") }
            return wrong
        }
        for result in results {
            let wrong = try result.get()
            #expect(wrong.isEmpty, "\(wrong.prefix(3)) of \(wrong.count)")
        }
    }
}
