import Base
import Model
import Recipe
import Tensor
import TestSupport

/// Whole rows of tokens with their targets and documents.
struct Batch: Sendable {
    let sequence: Int
    let inputs: [Int]
    /// Negative where there is none.
    let targets: [Int]
    /// First tokens of the documents' parts, and the number of tokens at the end.
    let starts: [Int]

    /// Random tokens. Every row begins a segment; `documents` are further beginnings within each row. One
    /// target in six is none.
    init(rows: Int, sequence: Int, documents: [Int], vocabulary: Int, seed: Int) {
        self.sequence = sequence
        let rng = CounterRNG(seed: UInt64(seed), stream: 0xBA7C)
        let count = rows * sequence
        inputs = (0..<count).map { rng.integer(below: vocabulary, at: UInt64($0)) }
        targets = (0..<count).map { token in
            let none = rng.integer(below: 6, at: UInt64(2 * count + token)) == 0
            return none ? -1 : rng.integer(below: vocabulary, at: UInt64(count + token))
        }
        starts = (0..<rows).flatMap { row in ([0] + documents).map { row * sequence + $0 } } + [count]
    }

    private init(sequence: Int, inputs: [Int], targets: [Int], starts: [Int]) {
        (self.sequence, self.inputs, self.targets, self.starts) = (sequence, inputs, targets, starts)
    }

    /// The same tokens with one target.
    init(of other: Batch, target place: Int) {
        self.init(sequence: other.sequence, inputs: other.inputs,
                  targets: other.targets.indices.map { $0 == place ? other.targets[$0] : -1 }, starts: other.starts)
    }

    var targetCount: Int { targets.count { $0 >= 0 } }

    /// A micro-batch of `count` rows.
    func rows(_ first: Int, _ count: Int) -> Batch {
        let tokens = (first * sequence)..<((first + count) * sequence)
        let within = starts.filter { $0 >= tokens.lowerBound && $0 <= tokens.upperBound }
        return Batch(sequence: sequence, inputs: Array(inputs[tokens]), targets: Array(targets[tokens]),
                     starts: within.map { $0 - tokens.lowerBound })
    }

    /// Every document's part as a row of its own.
    var documents: [Batch] {
        zip(starts, starts.dropFirst()).map { start, end in
            Batch(sequence: end - start, inputs: Array(inputs[start..<end]), targets: Array(targets[start..<end]),
                  starts: [0, end - start])
        }
    }

    var task: MicroBatch {
        MicroBatch(inputs: TestSupport.targets(inputs), targets: TestSupport.targets(targets),
             segments: Segments(TestSupport.targets(starts)), sequence: sequence)
    }
}

/// A small model and a batch for it.
struct ModelCase: Sendable, CustomStringConvertible {
    let description: String
    let table: ParameterTable
    let rows: Int
    let batch: Batch

    init(_ description: String, dim: Int, layers: Int, heads: Int, keyHeads: Int, ffn: Int, vocabulary: Int,
         tied: Bool = false, rows: Int, sequence: Int, documents: [Int] = [],
         change: (inout Recipe.ModelShape) -> Void = { _ in }) {
        self.description = description
        var recipe = Recipe()
        recipe.model.dim = dim
        recipe.model.layers = layers
        recipe.model.heads = heads
        recipe.model.keyValueHeads = keyHeads
        recipe.model.ffnDim = ffn
        recipe.model.tieEmbeddings = tied
        recipe.model.normEpsilon = 1e-3
        recipe.model.ropeTheta = 300
        change(&recipe.model)
        table = ParameterTable(recipe.model, vocabulary: vocabulary)
        self.rows = rows
        batch = Batch(rows: rows, sequence: sequence, documents: documents, vocabulary: vocabulary, seed: rows + dim)
    }

    /// Weights large enough that every gradient matters: an initial model is nearly linear. Gains around one.
    var weights: [Float] {
        var flat = [Float](repeating: 0, count: table.count)
        for (number, parameter) in table.parameters.enumerated() {
            let size = parameter.decays ? 1 / Double(parameter.shape[1]).squareRoot() : 0.2
            let offset: Float = parameter.decays ? 0 : 1
            let values = normals(parameter.count, seed: 100 + number, size: size).map { $0 + offset }
            flat.replaceSubrange(parameter.range, with: values)
        }
        return flat
    }

    /// 1 over the batch's targets, as a step has it.
    var scale: Float { 1 / Float(batch.targetCount) }

    struct Result {
        let losses: [Double]
        let gradients: [Float]
    }

    /// Forward and backward of micro-batches of `microRows` rows, one after the other, into one gradient. The
    /// gradient begins as `initial`.
    func run(threads: Int = 1, microRows: Int? = nil, initial: [Float]? = nil,
             recomputation: Recipe.Recomputation = .none, matmul: Recipe.Matmul = .own,
             attention: (Pool) throws -> (any AttentionStrategy)? = { _ in nil },
             sink: (Parameters) -> (any GradientSink)? = { _ in nil }) throws -> Result {
        let memory = FencedMemory()
        let pool = Pool(threads: threads, spin: false)
        defer { pool.close() }
        let microRows = microRows ?? rows
        let model = try Transformer(table, maxTokens: microRows * batch.sequence, sequence: batch.sequence, pool: pool,
                                    recomputation: recomputation, matmul: matmul, attention: attention(pool))
        let weights = Parameters(table, flat: memory.row(weights))
        let start = initial ?? [Float](repeating: 0, count: table.count)
        let gradients = Parameters(table, flat: memory.row(start))
        var losses: [Double] = []
        let sink = sink(gradients)
        for first in stride(from: 0, to: rows, by: microRows) {
            let task = batch.rows(first, min(microRows, rows - first)).task
            model.forward(task, weights: weights)
            losses.append(model.backward(task, weights: weights, gradients: gradients, scale: scale, into: sink))
        }
        precondition(memory.isIntact && weights.flat.array == self.weights, "the model wrote outside its memory")
        return Result(losses: losses, gradients: gradients.flat.array)
    }
}
