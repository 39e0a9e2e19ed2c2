import Base
import Model
import Recipe
import Tensor
import Testing
import TestSupport

/// A look at what quantising does: it sees every operand, changes none, and tells the same for any number of threads.
@Suite struct PrecisionHealthTests {
    private func look(_ each: ModelCase, _ precision: PrecisionCase, threads: Int, weights: [Float]? = nil)
        throws -> (gradients: [Float], health: PrecisionHealth) {
        let memory = FencedMemory(), pool = Pool(threads: threads, spin: false)
        defer { pool.close() }
        let model = try Transformer(each.table, maxTokens: each.batch.inputs.count, sequence: each.batch.sequence,
                                    pool: pool, recomputation: .selective, formats: precision.formats())
        let quantisation = try #require(model.quantisation)
        let parameters = Parameters(each.table, flat: memory.row(weights ?? each.weights))
        let gradients = Parameters(each.table, flat: memory.row([Float](repeating: 0, count: each.table.count)))
        quantisation.begin(step: 0)
        let (_, health) = quantisation.examine {
            model.forward(each.batch.task, weights: parameters)
            return model.backward(each.batch.task, weights: parameters, gradients: gradients, scale: each.scale)
        }
        quantisation.finish { _ in }
        #expect(memory.isIntact)
        return (gradients.flat.array, health)
    }

    @Test(arguments: PrecisionCase.all) func everyOperandAndNoBit(_ precision: PrecisionCase) throws {
        let each = QuantisationTests.cases[0], tokens = each.batch.inputs.count, shape = each.table.shape
        let one = try look(each, precision, threads: 1)
        let plain = try each.steps(1, precision)[0].gradients
        #expect(mismatch(one.gradients, plain) == nil)
        #expect(try look(each, precision, threads: 3).health == one.health)
        #expect(one.health.operands.count == shape.layers * 4 * 6)
        let names = Set(one.health.operands.map(\.name)), operands = try precision.formats().setting.operands
        #expect(names.count == 48 && names.contains("layers.1.down.weight_gradient_input"))
        for operand in one.health.operands {
            let health = operand.health, isWeight = operand.name.hasSuffix("weight")
            #expect(isWeight || health.elements % tokens == 0 && health.elements > 0, "\(operand)")
            #expect(health.amax > 0 && health.notFinite == 0, "\(operand)")
            // Scales are current in a first step: nothing is clipped, but by the rounding of a free scale or of
            // NVFP4's, and by OCP's; bf16 loses the least.
            let own = try #require(Operand.allCases.first { operand.name.hasSuffix($0.rawValue) })
            let setting = operands[own]
            #expect(health.sqnr > 15, "\(operand.name): \(health.sqnr)")
            #expect(health.saturated == 0 || setting.rule != .powerOfTwo, "\(operand.name): \(health.saturated)")
            if precision.precision.recipe == .bf16 { #expect(health.sqnr > 45) }
        }
    }

    /// Branches: rows that are alike are found, with their channel and length.
    @Test func branchesThatAreAlike() throws {
        let each = QuantisationTests.cases[0], shape = each.table.shape
        var weights = each.weights
        let gate = each.table["model.layers.1.mlp.gate_proj.weight"]
        let up = each.table["model.layers.1.mlp.up_proj.weight"]
        for column in 0..<shape.dim {
            weights[gate.offset + 13 * shape.dim + column] = 4 * Float(column - 7)
            weights[up.offset + 13 * shape.dim + column] = -2 * Float(column - 7)
        }
        let health = try look(each, PrecisionCase(.fp8Hybrid), threads: 2, weights: weights).health
        #expect(health.branches.count == 2)
        let (own, other) = (health.branches[1], health.branches[0])
        #expect(own.channel == 13 && abs(own.cosine - 1) < 1e-5 && abs(own.longestCosine - 1) < 1e-5)
        #expect(own.longestRatio > 10 && other.cosine < 0.95 && other.longestRatio < 5)
        var largest = 0.0
        for channel in 0..<shape.hiddenDim {
            let a = each.table["model.layers.0.mlp.gate_proj.weight"].offset + channel * shape.dim
            let b = each.table["model.layers.0.mlp.up_proj.weight"].offset + channel * shape.dim
            func sum(_ i: Int, _ j: Int) -> Double {
                (0..<shape.dim).reduce(0) { $0 + Double(weights[i + $1]) * Double(weights[j + $1]) }
            }
            largest = max(largest, abs(sum(a, b)) / (sum(a, a) * sum(b, b)).squareRoot())
        }
        #expect(abs(other.cosine - largest) < 1e-5)
    }

    /// The first tensor of the forward that is not finite is named; without one there is no name.
    @Test func whatIsNotFiniteHasAName() throws {
        let each = QuantisationTests.cases[0], memory = FencedMemory(), pool = Pool(threads: 1)
        let model = try Transformer(each.table, maxTokens: each.batch.inputs.count, sequence: each.batch.sequence,
                                    pool: pool, formats: PrecisionCase(.fp8Hybrid).formats())
        let quantisation = try #require(model.quantisation)
        func name(_ change: (inout [Float]) -> Void) -> String? {
            var weights = each.weights
            change(&weights)
            let parameters = Parameters(each.table, flat: memory.row(weights))
            let gradients = Parameters(each.table, flat: memory.row([Float](repeating: 0, count: each.table.count)))
            quantisation.begin(step: 0)
            model.forward(each.batch.task, weights: parameters)
            _ = model.backward(each.batch.task, weights: parameters, gradients: gradients, scale: each.scale)
            quantisation.finish { _ in }
            return quantisation.notFinite
        }
        let gain = each.table["model.layers.1.post_attention_layernorm.weight"]
        #expect(name { _ in } == nil)
        #expect(name { $0[gain.offset] = .nan } == "the input of layers.1.gate_up")
        #expect(name { $0[gain.offset] = .infinity } == "the input of layers.1.gate_up")
        #expect(name { $0[each.table["model.embed_tokens.weight"].offset + 24 * each.batch.inputs[0]] = .nan }
            == "the input of layers.0.qkv")
    }
}
