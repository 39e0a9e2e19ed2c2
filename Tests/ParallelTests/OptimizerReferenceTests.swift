import Collectives
import Model
import Parallel
import Recipe
import Simulation
import Tensor
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Each optimizer over 20 steps, at every stage and on several ranks, against the formulas of its paper in Double.
@Suite struct OptimizerReferenceTests {
    struct Case: Sendable, CustomStringConvertible {
        let name: Recipe.OptimizerName
        var beta1 = 0.9
        var beta2 = 0.95
        /// Of the weights' distance. A basis that gradients tell little is only as exact as their rounding.
        var limit: Double { name == .soap ? 1e-3 : 1e-5 }
        var description: String { "\(name), betas \(beta1) and \(beta2)" }
    }

    static let cases = [
        Case(name: .adamw), Case(name: .adamw, beta1: 0.999_999, beta2: 0.999_999_9), Case(name: .lamb),
        Case(name: .lamb, beta1: 0.99, beta2: 0.999_999_9), Case(name: .sgd), Case(name: .muon),
        Case(name: .muon, beta1: 0.99, beta2: 0.999_999_9), Case(name: .soap),
    ]

    private static func recipe(_ each: Case, zero: Int) -> Recipe {
        var recipe = Recipe()
        (recipe.optimizer.name, recipe.optimizer.beta1, recipe.optimizer.beta2) = (each.name, each.beta1, each.beta2)
        recipe.parallelism.zero = zero
        recipe.training.maxNorm = 1
        return recipe
    }

    /// The gradient of step `step` at a place of the flat vector: of many sizes, with zeros among them.
    static func gradient(_ step: Int, _ place: Int) -> Float {
        let phase = Double(place) * 0.7310585 + Double(step) * 1.61803
        return place % 17 == 0 ? 0 : Float(sin(phase) * exp(4 * sin(Double(place) * 0.01)) * 1e-2)
    }

    /// SOAP turns into the eigenbasis of gradients, which waves have too little of: two directions a matrix.
    static func gradient(_ step: Int, _ place: Int, _ name: Recipe.OptimizerName) -> Float {
        guard name == .soap else { return gradient(step, place) }
        var word = UInt64(place) &* 0x9E37_79B9_7F4A_7C15 ^ UInt64(step) &* 0xC2B2_AE3D_27D4_EB4F
        word = (word ^ (word >> 29)) &* 0xBF58_476D_1CE4_E5B9
        word ^= word >> 32
        return Float(Int32(truncatingIfNeeded: word)) * 0x1p-31 * 1e-2
    }

    private static let skipped = 7

    @Test(arguments: cases, [0, 1, 2, 3]) func weightsAreThoseOfTheFormulas(_ each: Case, zero: Int) throws {
        let table = table(3)
        var reference = Reference(table, Self.recipe(each, zero: zero))
        for step in 0..<20 where step != Self.skipped {
            reference.step(table.parameters.flatMap { parameter in
                parameter.range.map { (place: $0, value: Double(Self.gradient(step, $0, each.name))) }
            })
        }
        let expected = reference.weights
        for ranks in [1, 2, 4] where ranks > 1 || zero == 1 {
            let results = onThreads(ranks: ranks) { communicator -> Double in
                let pool = Pool(threads: 1), recipe = Self.recipe(each, zero: zero)
                let step = try ShardedStep(table, recipe: recipe, pool: pool, communicator: communicator)
                try step.state.initialize(seed: 5)
                var updates = 0
                for number in 0..<20 {
                    try Self.fill(step, number, each.name, isGiver: communicator.rank == ranks - 1)
                    let agreed = try step.update.agree(loss: 0, rate: 1e-2, stop: false)
                    if number == Self.skipped { continue }
                    updates += 1
                    _ = try step.update.update(number: updates, rate: agreed.rate, norm: agreed.norm)
                    step.changed()
                }
                var worst = 0.0
                for (unit, range) in step.state.ownRanges.enumerated() {
                    let row = step.state.weightShard.part(range, unit: unit)
                    for (index, place) in range.enumerated() {
                        worst = max(worst, abs(Double(row[index]) - expected[place]))
                    }
                }
                return worst
            }
            for result in results {
                let worst = try result.get()
                #expect(worst < each.limit, "\(worst) on \(ranks) ranks")
            }
        }
    }

    /// One rank gives the gradient, the others zeros: so the sum is exact.
    private static func fill(_ step: ShardedStep, _ number: Int, _ name: Recipe.OptimizerName,
                             isGiver: Bool) throws {
        let table = step.state.table
        step.beginForward(0, of: 1, tokens: .unknown, uses: [])
        let gradients = step.beginBackward(0, of: 1)
        for block in table.blocks.indices.reversed() {
            step.gradients.begin(block)
            for parameter in table.parameters where isGiver && parameter.block == block {
                for (index, place) in parameter.range.enumerated() {
                    gradients.values(parameter)[index] += gradient(number, place, name)
                }
            }
            step.gradients.ready(block)
        }
        step.endBackward(0, of: 1)
        try step.finish()
    }
}

/// AdamW (1711.05101, algorithm 2), LAMB (1904.00962, algorithm 2), momentum, Muon and SOAP, element by element in
/// Double.
private struct Reference {
    var weights: [Double]
    private let table: ParameterTable
    private let recipe: Recipe
    private var first: [Double]
    private var second: [Double]
    private var count = 0
    private var soap = SOAPReference()

    init(_ table: ParameterTable, _ recipe: Recipe) {
        self.table = table
        self.recipe = recipe
        weights = Array(repeating: 0, count: table.count)
        (first, second) = (weights, weights)
        guard let state = try? TrainingState(table), (try? state.initialize(seed: 5)) != nil else { return }
        for (place, value) in state.weights.flat.array.enumerated() { weights[place] = Double(value) }
    }

    mutating func step(_ gradient: [(place: Int, value: Double)]) {
        count += 1
        var g = Array(repeating: 0.0, count: table.count)
        for (place, value) in gradient { g[place] = value }
        let norm = g.reduce(0) { $0 + $1 * $1 }.squareRoot()
        if norm > 1 { g = g.map { $0 / norm } }
        let settings = recipe.optimizer, rate = 1e-2
        for parameter in table.parameters {
            let decay = parameter.decays ? settings.weightDecay : 0
            let isHidden = parameter.shape.count == 2 && parameter.block > 0
                && parameter.block < table.blocks.count - 1
            if settings.name == .sgd {
                for place in parameter.range {
                    first[place] = settings.momentum * first[place] + g[place]
                    weights[place] = weights[place] * (1 - rate * decay) - rate * first[place]
                }
            } else if settings.name == .muon, isHidden {
                let direction = parameter.range.map { place in
                    first[place] = settings.momentum * first[place] + g[place]
                    return g[place] + settings.momentum * first[place]
                }
                let factor = orthogonal(direction, parameter.shape[0], parameter.shape[1])
                let scale = 0.2 * Double(max(parameter.shape[0], parameter.shape[1])).squareRoot()
                for (index, place) in parameter.range.enumerated() {
                    weights[place] = weights[place] * (1 - rate * decay) - rate * scale * factor[index]
                }
            } else if settings.name == .soap, isHidden {
                guard let direction = soap.direction(parameter, parameter.range.map { g[$0] }, settings, count) else {
                    continue
                }
                for (index, place) in parameter.range.enumerated() {
                    weights[place] = weights[place] * (1 - rate * decay) - rate * direction[index]
                }
            } else {
                let direction = parameter.range.map { place in
                    first[place] = settings.beta1 * first[place] + (1 - settings.beta1) * g[place]
                    second[place] = settings.beta2 * second[place] + (1 - settings.beta2) * g[place] * g[place]
                    let (c1, c2) = (1 - pow(settings.beta1, Double(count)), 1 - pow(settings.beta2, Double(count)))
                    return first[place] / c1 / ((second[place] / c2).squareRoot() + settings.epsilon)
                        + decay * weights[place]
                }
                var ratio = 1.0
                if settings.name == .lamb, parameter.decays {
                    let w = parameter.range.reduce(0) { $0 + weights[$1] * weights[$1] }
                    let r = direction.reduce(0) { $0 + $1 * $1 }
                    if w > 0, r > 0 { ratio = (w / r).squareRoot() }
                }
                for (index, place) in parameter.range.enumerated() { weights[place] -= rate * ratio * direction[index] }
            }
        }
    }

    /// Five iterations of X = a X + (b X X^T + c (X X^T)^2) X.
    private func orthogonal(_ matrix: [Double], _ rows: Int, _ columns: Int) -> [Double] {
        let norm = matrix.reduce(0) { $0 + $1 * $1 }.squareRoot()
        guard norm > 0 else { return matrix }
        var x = matrix.map { $0 / norm }
        func product(_ a: [Double], _ b: [Double], _ n: Int, _ depth: Int, _ m: Int) -> [Double] {
            var out = Array(repeating: 0.0, count: n * m)
            for i in 0..<n {
                for k in 0..<depth { for j in 0..<m { out[i * m + j] += a[i * depth + k] * b[k * m + j] } }
            }
            return out
        }
        for _ in 0..<5 {
            var turned = Array(repeating: 0.0, count: x.count)
            for i in 0..<rows { for j in 0..<columns { turned[j * rows + i] = x[i * columns + j] } }
            let gram = product(x, turned, rows, columns, rows), square = product(gram, gram, rows, rows, rows)
            let blend = zip(gram, square).map { -4.7750 * $0 + 2.0315 * $1 }
            x = zip(x, product(blend, x, rows, rows, columns)).map { 3.4445 * $0 + $1 }
        }
        return x
    }
}
