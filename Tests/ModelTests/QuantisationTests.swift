import Base
import Model
import Recipe
import Tensor
import Testing
import TestSupport

/// A recipe for the operands of linear layers, as flags have it.
struct PrecisionCase: Sendable, CustomStringConvertible {
    let description: String
    let precision: Recipe.Precision

    init(_ recipe: Recipe.PrecisionRecipe, smoothing: Recipe.Smoothing = .auto) {
        var precision = Recipe().precision
        precision.recipe = recipe
        precision.smoothSwiGLU = smoothing
        description = smoothing == .auto ? recipe.rawValue : "\(recipe.rawValue), smooth by \(smoothing.rawValue)"
        self.precision = precision
    }

    /// The six operands of `custom`, in their order.
    init(_ texts: [String], attention: Recipe.AttentionOperands = .auto) {
        var precision = Recipe().precision
        precision.recipe = .custom
        precision.attention = attention
        (precision.forwardInput, precision.forwardWeight) = (texts[0], texts[1])
        (precision.inputGradientOutput, precision.inputGradientWeight) = (texts[2], texts[3])
        (precision.weightGradientOutput, precision.weightGradientInput) = (texts[4], texts[5])
        description = texts.joined(separator: ", ")
        self.precision = precision
    }

    static let all = [
        PrecisionCase(.bf16), PrecisionCase(.fp8Hybrid), PrecisionCase(.fp8Block), PrecisionCase(.mxfp8),
        PrecisionCase(.fp8Paper), PrecisionCase(.fp8Hybrid, smoothing: .channel),
        PrecisionCase(.fp8Hybrid, smoothing: .token), PrecisionCase(.fp8Paper, smoothing: .none),
        // Every operand otherwise: rows, free scales, blocks that end in the middle of tiles, and integers.
        PrecisionCase(["E4M3 row free", "E3M4 tensor free", "E5M2 delayed", "INT8 7x10", "E5M2 tensor stochastic",
                       "E4M3 3x50"]),
        PrecisionCase(["MXFP6", "MXFP8-floor", "E5M2 1x32 floor", "MXFP4", "E5M2 delayed floor", "MXFP6-E3M2-floor"]),
        PrecisionCase(["NVFP4", "NVFP4", "MXFP8-E5M2", "NVFP4", "NVFP4 stochastic", "NVFP4"]),
    ]

    func formats() throws -> LinearFormats { try LinearFormats(#require(try precision.setting())) }
}

extension ModelCase {
    /// Some steps on the same batch, weights multiplied by `growth` between them: the gradients of each. `seed` draws
    /// the numbers of stochastic rounding.
    func steps(_ count: Int, _ precision: PrecisionCase, growth: Float = 1, threads: Int = 1, microRows: Int? = nil,
               recomputation: Recipe.Recomputation = .none, seed: Int = 0) throws -> [Result] {
        let memory = FencedMemory(), pool = Pool(threads: threads, spin: false)
        defer { pool.close() }
        let microRows = microRows ?? rows
        let model = try Transformer(table, maxTokens: microRows * batch.sequence, sequence: batch.sequence, pool: pool,
                                    recomputation: recomputation, formats: precision.formats(), seed: seed)
        let quantisation = try #require(model.quantisation)
        var factor: Float = 1
        return try (0..<count).map { step in
            let weights = Parameters(table, flat: memory.row(self.weights.map { $0 * factor }))
            let gradients = Parameters(table, flat: memory.row([Float](repeating: 0, count: table.count)))
            quantisation.begin(step: step)
            var losses: [Double] = []
            for first in stride(from: 0, to: rows, by: microRows) {
                let task = batch.rows(first, min(microRows, rows - first)).task(firstToken: first * batch.sequence)
                model.forward(task, weights: weights)
                losses.append(model.backward(task, weights: weights, gradients: gradients, scale: scale))
            }
            quantisation.finish { _ in }
            factor *= growth
            try #require(memory.isIntact)
            return Result(losses: losses, gradients: gradients.flat.array)
        }
    }
}

@Suite struct QuantisationTests {
    /// Grouped queries and documents; widths of no whole lanes; several token tiles.
    static let cases = [TransformerTests.cases[2], TransformerTests.cases[4], TransformerTests.cases[5]]

    /// The gradient of every parameter is that of a Double model which rounds the same operands, now and with scales
    /// that come from smaller weights the step before; and it is not the gradient without rounding. A number that lies
    /// between two of a format may fall to the other one in fp32, which moves what comes after it by a step of the
    /// format: less than a fifth of what all rounding does, while one operand that is rounded otherwise does more.
    @Test(arguments: cases, PrecisionCase.all)
    func gradientsEqualTheDoubleModel(_ each: ModelCase, _ precision: PrecisionCase) throws {
        let growth: Float = 1.7
        let got = try each.steps(2, precision, growth: growth, seed: 4)
        let oracle = QuantisedOracle(try precision.formats().setting, seed: 4)
        for (step, result) in got.enumerated() {
            let weights = doubles(each.weights.map { step == 0 ? $0 : $0 * growth })
            let (loss, want) = DoubleTransformer(table: each.table, oracle: oracle).lossAndGradient(
                weights, each.batch, seed: Double(each.scale))
            let exact = DoubleTransformer(table: each.table).lossAndGradient(weights, each.batch,
                                                                             seed: Double(each.scale)).gradient
            #expect(abs(result.losses[0] - loss) < 1e-3 * loss, "step \(step): \(result.losses[0]) for \(loss)")
            let error = relativeError(result.gradients, want), rounding = relativeError(want, exact)
            #expect(error < 0.2 * rounding, "\(precision), step \(step): \(error) beside \(rounding) of rounding")
            oracle.finish()
        }
    }

    /// A step whose delayed scales come from the same tensors is the one with current scales, bit for bit.
    @Test(arguments: cases) func delayedScalesFollow(_ each: ModelCase) throws {
        let delayed = try each.steps(3, PrecisionCase(.fp8Hybrid))
        let current = try each.steps(1, PrecisionCase(["E4M3 tensor", "E4M3 tensor", "E5M2 tensor", "E4M3 tensor",
                                                       "E5M2 tensor", "E4M3 tensor"], attention: .bf16))
        for result in delayed {
            #expect(result.losses == current[0].losses)
            #expect(mismatch(result.gradients, current[0].gradients) == nil)
        }
    }

    @Test(arguments: cases, PrecisionCase.all)
    func threadsAndRecomputationDoNotChangeBits(_ each: ModelCase, _ precision: PrecisionCase) throws {
        let one = try each.steps(2, precision, growth: 1.3)
        for (threads, mode) in [(2, Recipe.Recomputation.none), (3, .selective), (16, .full)] {
            let other = try each.steps(2, precision, growth: 1.3, threads: threads, recomputation: mode)
            for (a, b) in zip(other, one) {
                #expect(a.losses == b.losses, "\(threads) threads, \(mode)")
                #expect(mismatch(a.gradients, b.gradients) == nil, "\(threads) threads, \(mode)")
            }
        }
    }

    /// With delayed scales, operands are rounded alike however a batch is cut into micro-batches, stochastically too:
    /// only sums over tokens are rounded otherwise.
    @Test(arguments: cases, [PrecisionCase(.bf16), PrecisionCase(.fp8Hybrid),
                             PrecisionCase(.fp8Paper, smoothing: .none)])
    func microBatchesAreRoundedAlike(_ each: ModelCase, _ precision: PrecisionCase) throws {
        let whole = try each.steps(2, precision)[1]
        for microRows in 1..<each.rows {
            let parts = try each.steps(2, precision, microRows: microRows)[1]
            #expect(relativeError(parts.gradients, doubles(whole.gradients)) < 3e-6, "\(microRows) rows")
        }
        let other = try each.steps(2, precision, seed: 9)[1]
        let isStochastic = precision.precision.recipe == .fp8Paper
        #expect((mismatch(other.gradients, whole.gradients) != nil) == isStochastic)
    }

    /// fp32 is what it was: no layer is quantised.
    @Test func fp32HasNone() throws {
        #expect(try LinearFormats.of(Recipe()) == nil)
        let table = TransformerTests.cases[0].table
        let model = try Transformer(table, maxTokens: 8, sequence: 4, pool: Pool(threads: 1))
        #expect(model.quantisation == nil)
    }

    /// The arena is used up, and it is what the plan says, at every recipe.
    @Test(arguments: TransformerTests.cases, PrecisionCase.all)
    func theArenaIsPlanned(_ each: ModelCase, _ precision: PrecisionCase) throws {
        var recipe = Recipe()
        recipe.model = each.table.shape
        recipe.training.sequenceLength = each.batch.sequence
        recipe.training.localBatchSize = 7
        recipe.precision = precision.precision
        for (threads, mode) in [(1, Recipe.Recomputation.none), (3, .full)] {
            recipe.training.threads = threads
            recipe.activationCheckpoint.mode = mode
            let pool = Pool(threads: threads, spin: false)
            defer { pool.close() }
            let model = try Transformer(each.table, maxTokens: 7 * each.batch.sequence, sequence: each.batch.sequence,
                                        pool: pool, recomputation: mode, formats: precision.formats())
            #expect(model.arena.used == model.arena.capacity)
            let parts = MemoryPlan(recipe, .init(vocabulary: each.table.vocabulary, threads: 64, textBytes: 1,
                                                 processBytes: 1)).components.filter {
                ["activations", "logits", "attention scratch", "head scratch", "rotary tables", "quantisation"]
                    .contains($0.name)
            }
            #expect(parts.reduce(0) { $0 + $1.bytes } == 4 * model.arena.capacity)
        }
    }

    /// What a checkpoint keeps of the scales brings them back, and the next step is the same to the bit; what no run
    /// has left is refused.
    @Test func scalesComeBack() throws {
        let each = Self.cases[0], pool = Pool(threads: 1), memory = FencedMemory()
        let formats = try PrecisionCase(.fp8Hybrid).formats()
        func model() throws -> Transformer {
            try Transformer(each.table, maxTokens: each.batch.inputs.count, sequence: each.batch.sequence, pool: pool,
                            formats: formats)
        }
        func step(_ model: Transformer, _ number: Int) throws -> [Float] {
            let factor = 1 + Float(number)
            let weights = Parameters(each.table, flat: memory.row(each.weights.map { $0 * factor }))
            let gradients = Parameters(each.table, flat: memory.row([Float](repeating: 0, count: each.table.count)))
            model.quantisation?.begin(step: number)
            model.forward(each.batch.task, weights: weights)
            _ = model.backward(each.batch.task, weights: weights, gradients: gradients, scale: each.scale)
            model.quantisation?.finish { _ in }
            return gradients.flat.array
        }
        let whole = try model(), resumed = try model()
        for number in 0..<3 { _ = try step(whole, number) }
        let from = try #require(whole.quantisation), to = try #require(resumed.quantisation)
        from.writeState()
        to.state.copy(from.state)
        #expect(to.readState())
        let want = try step(whole, 3)
        #expect(try mismatch(step(resumed, 3), want) == nil)
        #expect(try mismatch(step(model(), 3), want) != nil, "without scales it is another step")
        for (index, value) in [(0, Float.nan), (0, -1), (16, 99), (16, 0.5), (17, 0), (18, -1)] {
            to.state.copy(from.state)
            to.state[index] = value
            #expect(!to.readState(), "\(value) at \(index)")
        }
        defer { withExtendedLifetime((whole, resumed)) {} }
    }

    /// Formats that do not exist, or that bf16 products cannot take, are refused by name.
    @Test func whatCannotBeMultiplied() throws {
        for (text, want) in [("E9M1", "E9M1 is no format here"), ("fp8", "fp8 is no number format"),
                             ("FP16", "more than bf16's seven bits of mantissa")] {
            var texts = [String](repeating: "BF16", count: 6)
            texts[4] = text
            let error = #expect(throws: BadInput.self) { try PrecisionCase(texts).formats() }
            let line = error.map { "\($0)" } ?? ""
            #expect(line.hasPrefix("precision.weight_gradient_output: ") && line.contains(want), "\(line)")
        }
    }
}
