import Recipe
import Tensor

/// A model's weights as writing wants them: every matrix packed for products, none kept beside. Gains are as they were;
/// so is the embedding, unless the head is the embedding itself, whose packed columns are its rows then.
final class PackedModel {
    struct Layer: Sendable {
        let inputGain: Row           // [D]
        let qkv: PackedMatrix        // [D, C]
        let qkvBias: Row?            // [C]
        let output: PackedMatrix     // [H * headDim, D]
        let middleGain: Row          // [D]
        let gateUp: PackedMatrix     // [D, 2F]
        let down: PackedMatrix       // [F, D]
    }

    let table: ParameterTable
    let layers: [Layer]
    let finalGain: Row
    let head: PackedMatrix           // [D, V]
    private let embedding: Matrix?   // [V, D]

    /// Floats of `memory` that it takes.
    static func floats(_ table: ParameterTable) -> Int {
        matrices(table).reduce(gains(table)) { sum, matrix in
            sum + (matrix.isPacked ? Arena.padded(PackedMatrix.floats(rows: matrix.columns, columns: matrix.rows))
                : Arena.padded(matrix.rows * matrix.columns))
        }
    }

    private static func gains(_ table: ParameterTable) -> Int {
        let shape = table.shape, fused = (shape.heads + 2 * shape.keyHeads) * shape.headDim
        let biases = shape.hasBias ? shape.layers * Arena.padded(fused) : 0
        return (2 * shape.layers + 1) * Arena.padded(shape.dim) + biases
    }

    private static func matrices(_ table: ParameterTable) -> [(rows: Int, columns: Int, isPacked: Bool)] {
        let shape = table.shape, dim = shape.dim, heads = shape.heads * shape.headDim
        let layer = [(heads + 2 * shape.keyHeads * shape.headDim, dim, true), (dim, heads, true),
                     (2 * shape.hiddenDim, dim, true), (dim, shape.hiddenDim, true)]
        let embedding = shape.tieEmbeddings ? [] : [(table.vocabulary, dim, false)]
        return (0..<shape.layers).flatMap { _ in layer } + embedding + [(table.vocabulary, dim, true)]
    }

    /// `load` fills a row with a parameter's values; it is asked for one after the other, so that beside the packed
    /// copy the largest matrix alone is held for the time of loading.
    init(_ table: ParameterTable, memory: Arena, load: (ParameterTable.Parameter, Row) throws -> Void) throws {
        let largest = Self.matrices(table).map { $0.rows * $0.columns }.max() ?? 0
        let arena = try Arena(name: "weights while they are read", capacity: Arena.padded(largest))
        defer { withExtendedLifetime(arena) {} }
        let staging = arena.take(largest)
        func gain(_ name: String) throws -> Row {
            let row = memory.take(table.shape.dim)
            try load(table[name], row)
            return row
        }
        func bias(_ names: String...) throws -> Row {
            let row = memory.take(names.reduce(0) { $0 + table[$1].count })
            var place = 0
            for name in names {
                try load(table[name], row.slice(place, table[name].count))
                place += table[name].count
            }
            return row
        }
        func packed(_ names: String...) throws -> PackedMatrix {
            let columns = table[names[0]].shape[1]
            var rows = 0
            for name in names {
                try load(table[name], staging.slice(rows * columns, table[name].count))
                rows += table[name].shape[0]
            }
            let matrix = PackedMatrix(memory.take(PackedMatrix.floats(rows: columns, columns: rows)),
                                      rows: columns, columns: rows)
            matrix.pack(Matrix(staging, rows: rows, columns: columns), transposed: true)
            return matrix
        }
        self.table = table
        layers = try (0..<table.shape.layers).map { index in
            let prefix = "model.layers.\(index)."
            return Layer(
                inputGain: try gain(prefix + "input_layernorm.weight"),
                qkv: try packed(prefix + "self_attn.q_proj.weight", prefix + "self_attn.k_proj.weight",
                                prefix + "self_attn.v_proj.weight"),
                qkvBias: table.shape.hasBias ? try bias(prefix + "self_attn.q_proj.bias",
                                                        prefix + "self_attn.k_proj.bias",
                                                        prefix + "self_attn.v_proj.bias") : nil,
                output: try packed(prefix + "self_attn.o_proj.weight"),
                middleGain: try gain(prefix + "post_attention_layernorm.weight"),
                gateUp: try packed(prefix + "mlp.gate_proj.weight", prefix + "mlp.up_proj.weight"),
                down: try packed(prefix + "mlp.down_proj.weight"))
        }
        finalGain = try gain("model.norm.weight")
        if table.shape.tieEmbeddings {
            embedding = nil
            head = try packed("model.embed_tokens.weight")
        } else {
            let rows = memory.take(rows: table.vocabulary, columns: table.shape.dim)
            try load(table["model.embed_tokens.weight"], rows.all)
            embedding = rows
            head = try packed("lm_head.weight")
        }
    }

    /// Copies a token's embedding.
    func embed(_ token: Int, to row: Row) {
        if let embedding { row.copy(embedding.row(token)) } else { head.copy(column: token, to: row) }
    }
}
