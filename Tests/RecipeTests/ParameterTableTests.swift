import Recipe
import Testing

@Suite struct ParameterTableTests {
    static func shape(_ dim: Int, _ layers: Int, _ heads: Int, _ keyHeads: Int, _ ffn: Int,
                      tied: Bool) -> Recipe.ModelShape {
        var shape = Recipe().model
        (shape.dim, shape.layers, shape.heads, shape.keyValueHeads) = (dim, layers, heads, keyHeads)
        (shape.ffnDim, shape.tieEmbeddings) = (ffn, tied)
        return shape
    }

    /// Heads of another width than dim / heads, and Qwen 2's biases.
    static func biased(_ shape: Recipe.ModelShape) -> Recipe.ModelShape {
        var shape = shape
        (shape.headWidth, shape.hasBias) = (12, true)
        return shape
    }

    static let tables = [false, true].flatMap { tied in
        [shape(8, 1, 1, 0, 0, tied: tied), shape(30, 3, 3, 1, 21, tied: tied), shape(64, 2, 8, 4, 100, tied: tied),
         shape(192, 4, 6, 0, 0, tied: tied), biased(shape(32, 2, 4, 2, 40, tied: tied))].flatMap { shape in
            [11, 257].map { ParameterTable(shape, vocabulary: $0) }
        }
    }

    /// Names and shapes as Hugging Face's LlamaForCausalLM has them, in the order of the forward.
    @Test(arguments: tables) func namesAndShapes(table: ParameterTable) {
        let shape = table.shape, head = shape.headWidth == 0 ? shape.dim / shape.heads : 12
        var want: [(String, [Int])] = [("model.embed_tokens.weight", [table.vocabulary, shape.dim])]
        for layer in 0..<shape.layers {
            let prefix = "model.layers.\(layer)."
            want += [
                (prefix + "input_layernorm.weight", [shape.dim]),
                (prefix + "self_attn.q_proj.weight", [shape.heads * head, shape.dim]),
                (prefix + "self_attn.k_proj.weight", [shape.keyHeads * head, shape.dim]),
                (prefix + "self_attn.v_proj.weight", [shape.keyHeads * head, shape.dim]),
                (prefix + "self_attn.o_proj.weight", [shape.dim, shape.heads * head]),
            ]
            if shape.hasBias {
                want += [("q", shape.heads), ("k", shape.keyHeads), ("v", shape.keyHeads)].map { name, heads in
                    ("\(prefix)self_attn.\(name)_proj.bias", [heads * head])
                }
            }
            want += [
                (prefix + "post_attention_layernorm.weight", [shape.dim]),
                (prefix + "mlp.gate_proj.weight", [shape.hiddenDim, shape.dim]),
                (prefix + "mlp.up_proj.weight", [shape.hiddenDim, shape.dim]),
                (prefix + "mlp.down_proj.weight", [shape.dim, shape.hiddenDim]),
            ]
        }
        want.append(("model.norm.weight", [shape.dim]))
        if !shape.tieEmbeddings { want.append(("lm_head.weight", [table.vocabulary, shape.dim])) }
        #expect(table.parameters.map(\.name) == want.map(\.0))
        #expect(table.parameters.map(\.shape) == want.map(\.1))
        for parameter in table.parameters {
            #expect(table[parameter.name] == parameter)
            #expect(parameter.decays == (parameter.shape.count == 2))
            #expect((parameter.initial == .ones) == parameter.name.hasSuffix("norm.weight"))
            #expect((parameter.initial == .zeros) == parameter.name.hasSuffix(".bias"))
        }
    }

    /// No two parameters overlap, gaps are shorter than a cache line, and what is fused has none.
    @Test(arguments: tables) func theFlatVector(table: ParameterTable) {
        var end = 0
        for parameter in table.parameters {
            #expect(parameter.offset >= end && parameter.offset - end < 16)
            #expect(parameter.range.count == parameter.shape.reduce(1, *))
            end = parameter.range.upperBound
        }
        #expect(table.count >= end && table.count - end < 16)
        #expect(table.parameterCount == table.parameters.reduce(0) { $0 + $1.range.count })
        for layer in 0..<table.shape.layers {
            let prefix = "model.layers.\(layer)."
            for (first, second) in [("self_attn.q_proj", "self_attn.k_proj"), ("self_attn.k_proj", "self_attn.v_proj"),
                                    ("mlp.gate_proj", "mlp.up_proj")] {
                #expect(table[prefix + first + ".weight"].range.upperBound == table[prefix + second + ".weight"].offset)
            }
        }
    }

    /// Blocks cut the vector without a gap, begin on cache lines, and hold the parameters that name them.
    @Test(arguments: tables) func blocks(table: ParameterTable) {
        #expect(table.blocks.count == table.shape.layers + 2)
        #expect(table.blocks.first?.lowerBound == 0)
        #expect(table.blocks.last?.upperBound == table.count)
        for (block, next) in zip(table.blocks, table.blocks.dropFirst()) {
            #expect(block.upperBound == next.lowerBound)
            #expect(next.lowerBound % 16 == 0)
        }
        for parameter in table.parameters {
            let block = table.blocks[parameter.block]
            #expect(block.contains(parameter.offset) && parameter.range.upperBound <= block.upperBound)
            let number = parameter.name.split(separator: ".").compactMap { Int($0) }.first
            let want = number.map { $0 + 1 } ?? (parameter.name.contains("embed") ? 0 : table.shape.layers + 1)
            #expect(parameter.block == want, "\(parameter.name)")
        }
    }

    /// The 26 M shape, reckoned by hand: a layer has 4 x 512^2 + 3 x 512 x 1408 + 2 x 512 = 3,212,288.
    @Test func the26MillionShape() {
        let untied = ParameterTable(Self.shape(512, 8, 8, 0, 1_408, tied: false), vocabulary: 257)
        #expect(untied.parameterCount == 8 * 3_212_288 + 2 * 257 * 512 + 512)
        #expect(untied.parameterCount == 25_961_984)
        #expect(untied.multipliedCount == 25_961_984 - 131_584)
        #expect(untied.count == 25_961_984)
        let tied = ParameterTable(Self.shape(512, 8, 8, 0, 1_408, tied: true), vocabulary: 257)
        #expect(tied.parameterCount == 25_830_400)
        #expect(tied.multipliedCount == 25_830_400)
        // 6 for each of 25,830,400, and 6 x 8 layers x 512 x 1,024 for attention.
        #expect(untied.flopsPerToken(sequence: 1_024) == 154_982_400 + 25_165_824)
        #expect(tied.flopsPerToken(sequence: 1_024) == untied.flopsPerToken(sequence: 1_024))
        // Two key heads of eight: three quarters of k and v are gone.
        let grouped = ParameterTable(Self.shape(512, 8, 8, 2, 1_408, tied: false), vocabulary: 257)
        #expect(untied.parameterCount - grouped.parameterCount == 8 * 2 * 384 * 512)
        // Attention costs what the query heads cost, however many key heads there are.
        let saved = untied.flopsPerToken(sequence: 512) - grouped.flopsPerToken(sequence: 512)
        #expect(saved == 18_874_368)
    }

    /// Two thirds of four widths, rounded up to 64, unless it is said.
    @Test func theHiddenWidth() {
        #expect(Self.shape(192, 1, 6, 0, 0, tied: true).hiddenDim == 512)
        #expect(Self.shape(512, 1, 8, 0, 0, tied: true).hiddenDim == 1_408)
        #expect(Self.shape(8, 1, 1, 0, 0, tied: true).hiddenDim == 64)
        #expect(Self.shape(8, 1, 1, 0, 7, tied: true).hiddenDim == 7)
    }
}

@Suite struct ActivationSlotsTests {
    /// Sizes by hand for one shape: 650 tokens are eleven tiles; 3 heads of 10 with 1 key head make 50 columns.
    @Test func sizes() {
        let shape = ParameterTableTests.shape(30, 3, 3, 1, 21, tied: false)
        let slots = ActivationSlots(shape, vocabulary: 257, tokens: 650)
        let want: [(String, Int, Int)] = [
            ("input", 650 * 30, 3), ("inputInverse", 650, 3), ("qkv", 650 * 50, 3), ("attended", 650 * 30, 3),
            ("logSum", 650 * 3, 3), ("middle", 650 * 30, 3), ("middleInverse", 650, 3), ("gateUp", 650 * 42, 3),
            ("final", 650 * 30, 1), ("finalInverse", 650, 1), ("normed", 650 * 30, 1), ("hidden", 650 * 21, 1),
            ("dResidual", 650 * 30, 1), ("dNormed", 650 * 30, 1), ("dQKV", 650 * 50, 1), ("dAttended", 650 * 30, 1),
            ("dGains", 11 * 30, 1), ("packedWeights", 30 * 320 + 257 * 64, 1), ("packedInput", 650 * 64, 1),
            ("headShares", 0, 1), ("headSums", 0, 1), ("logits", 650 * 257, 1),
        ]
        #expect(slots.slots.map(\.name) == want.map(\.0))
        for (slot, (name, floats, copies)) in zip(slots.slots, want) {
            #expect(slot.floats == floats && slot.copies == copies && slot.bytes == 4 * floats * copies, "\(name)")
            #expect(slots.floats(name) == floats)
            #expect(slot.isPerLayer == (copies == 3))
        }
        #expect(slots.totalFloats == want.reduce(0) { $0 + ($1.1 + 15) / 16 * 16 * $1.2 })
    }

    /// A head that is cut by words packs them elsewhere, so the blocks' packed weights lie where its logits will be.
    @Test func packedWeightsLieInTheLogits() {
        for (width, tokens) in [(30, 650), (1_024, 8)] {
            let shape = ParameterTableTests.shape(width, 3, 1, 1, 2 * width, tied: false)
            let small = ActivationSlots(shape, vocabulary: 4_095, tokens: tokens)
            let large = ActivationSlots(shape, vocabulary: 4_096, tokens: tokens)
            #expect(small.weightsInLogits == 0 && small.floats("logits") == small.head.logits)
            #expect(large.weightsInLogits > 0 && large.floats("packedWeights") == 0)
            #expect(large.floats("logits") == max(large.head.logits, large.weightsInLogits))
            #expect((large.head.logits < large.weightsInLogits) == (tokens == 8))
        }
    }

    /// What each way of recomputation shares: selective the widest slot, full all but the layers' inputs.
    @Test func recomputation() {
        let shape = ParameterTableTests.shape(30, 3, 3, 1, 21, tied: false)
        func shared(_ mode: Recipe.Recomputation) -> Set<String> {
            let slots = ActivationSlots(shape, vocabulary: 257, tokens: 650, recomputation: mode).slots
            let kept = ActivationSlots(shape, vocabulary: 257, tokens: 650).slots
            #expect(slots.map(\.name) == kept.map(\.name))
            #expect(slots.map(\.floats) == kept.map(\.floats))
            return Set(zip(slots, kept).filter { $0.0.copies < $0.1.copies }.map(\.0.name))
        }
        #expect(shared(.none) == [])
        #expect(shared(.selective) == ["gateUp"])
        #expect(shared(.full) == ["inputInverse", "qkv", "attended", "logSum", "middle", "middleInverse", "gateUp"])
    }

    /// Rows of logits: all of them while they fit 16 MiB, then whole 64s, never fewer than 384 (or all there are).
    @Test func rowsOfLogits() {
        for vocabulary in [2, 257, 1_000, 33_001, 50_257, 70_000, 1_000_000] {
            for tokens in [1, 63, 64, 65, 1_000, 100_000] {
                let slots = ActivationSlots(Recipe().model, vocabulary: vocabulary, tokens: tokens)
                let rows = slots.head.chunkRows
                #expect(rows == tokens || rows % 64 == 0)
                #expect(rows <= tokens)
                #expect(rows >= min(384, tokens))
                #expect(rows <= 384 || rows * vocabulary * 4 <= 16 << 20)
                // One block of 64 more would not be needed or would not fit.
                #expect(rows == tokens || (rows + 64) * vocabulary * 4 > 16 << 20)
                #expect(slots.head.logits == rows * vocabulary)
            }
        }
    }

    /// The blocks of a large vocabulary are all its words, once and in order; sixteen groups have equal shares but for
    /// a few words.
    @Test func blocksAreAllWords() {
        for vocabulary in [4_096, 4_097, 5_000, 8_192, 16_641, 32_000, 50_257, 65_536, 100_003, 151_936, 256_000] {
            let cut = HeadCut(vocabulary: vocabulary, tokens: 4_096)
            #expect(cut.isByWords)
            var next = 0
            for block in 0..<cut.blocks {
                let words = cut.words(block)
                #expect(words.start == next && 0...512 ~= words.count, "\(vocabulary): block \(block)")
                next += words.count
            }
            #expect(next == vocabulary)
            let last = cut.words(cut.blocks - cut.blocksPerGroup).start
            #expect(cut.groupWords - (vocabulary - last) <= 256 && vocabulary > last, "\(vocabulary)")
        }
        #expect(!HeadCut(vocabulary: 4_095, tokens: 64).isByWords)
    }
}
