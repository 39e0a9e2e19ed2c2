import Base
import Recipe
import Tensor

/// The matrices of one flat vector that `ParameterTable` lays out: of the weights, or of their gradients.
public struct Parameters: Sendable {
    public let table: ParameterTable
    public let flat: Row

    struct Layer: Sendable {
        let inputGain: Row       // [D]
        let qkv: Matrix          // [C, D]
        let output: Matrix       // [D, H * headDim]
        let middleGain: Row      // [D]
        let gateUp: Matrix       // [2F, D]
        let down: Matrix         // [D, F]
    }

    let embedding: Matrix        // [V, D]
    let layers: [Layer]
    let finalGain: Row           // [D]
    let head: Matrix             // [V, D]; the embedding itself when tied

    /// `flat` holds `table.count` floats.
    public init(_ table: ParameterTable, flat: Row) {
        precondition(flat.count == table.count, "the flat vector and the table disagree")
        self.table = table
        self.flat = flat
        let shape = table.shape
        func gain(_ name: String) -> Row { flat.slice(table[name].offset, shape.dim) }
        /// `name`, and the `more` parameters that follow it without a gap, as one matrix.
        func matrix(_ name: String, more: [String] = []) -> Matrix {
            let first = table[name]
            var rows = first.shape[0]
            for next in more {
                precondition(table[next].offset == first.offset + rows * first.shape[1], "\(next) is no neighbour")
                rows += table[next].shape[0]
            }
            return Matrix(flat.slice(first.offset, rows * first.shape[1]), rows: rows, columns: first.shape[1])
        }
        embedding = matrix("model.embed_tokens.weight")
        layers = (0..<shape.layers).map { index in
            let prefix = "model.layers.\(index)."
            return Layer(
                inputGain: gain(prefix + "input_layernorm.weight"),
                qkv: matrix(prefix + "self_attn.q_proj.weight",
                            more: [prefix + "self_attn.k_proj.weight", prefix + "self_attn.v_proj.weight"]),
                output: matrix(prefix + "self_attn.o_proj.weight"),
                middleGain: gain(prefix + "post_attention_layernorm.weight"),
                gateUp: matrix(prefix + "mlp.gate_proj.weight", more: [prefix + "mlp.up_proj.weight"]),
                down: matrix(prefix + "mlp.down_proj.weight"))
        }
        finalGain = gain("model.norm.weight")
        head = shape.tieEmbeddings ? embedding : matrix("lm_head.weight")
    }

    /// The values of one parameter.
    public func values(_ parameter: ParameterTable.Parameter) -> Row {
        flat.slice(parameter.offset, parameter.count)
    }

    /// Draws every initial value from (seed, parameter's number, element's number): the same on every rank,
    /// in any order.
    public func initialize(seed: Int) {
        for (number, parameter) in table.parameters.enumerated() {
            let row = values(parameter)
            switch parameter.initial {
            case .ones:
                row.fill(1)
            case .normal(let deviation):
                let rng = CounterRNG(seed: UInt64(seed), stream: UInt64(number))
                for index in stride(from: 0, to: row.count, by: 2) {
                    let (a, b) = rng.normalPair(at: UInt64(index / 2))
                    row[index] = Float(a * deviation)
                    if index + 1 < row.count { row[index + 1] = Float(b * deviation) }
                }
            }
        }
    }
}
