import Base
import Recipe
import Tensor

/// The matrices that `ParameterTable` lays out: of the weights, or of their gradients. As a rule they are one flat
/// vector. Where a rank holds only some blocks at a time, each block has its own memory, which it may share with
/// others.
public struct Parameters: Sendable {
    public let table: ParameterTable
    /// The memory of each block.
    public let blocks: [Row]
    private let whole: Row?

    /// All values in the table's order, where they are one vector.
    public var flat: Row {
        guard let whole else { preconditionFailure("these parameters are no vector: each block lies by itself") }
        return whole
    }

    struct Layer: Sendable {
        let inputGain: Row       // [D]
        let qkv: Matrix          // [C, D]
        let qkvBias: Row?        // [C]
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
        self.init(table, blocks: table.blocks.map { flat.slice($0.lowerBound, $0.count) }, whole: flat)
    }

    /// `blocks`: memory for each of the table's blocks.
    public init(_ table: ParameterTable, blocks: [Row]) { self.init(table, blocks: blocks, whole: nil) }

    private init(_ table: ParameterTable, blocks: [Row], whole: Row?) {
        precondition(blocks.map(\.count) == table.blocks.map(\.count),
                     "the blocks' memory and the table disagree")
        self.table = table
        self.blocks = blocks
        self.whole = whole
        let shape = table.shape
        func part(_ name: String, _ count: Int) -> Row {
            let first = table[name]
            return blocks[first.block].slice(first.offset - table.blocks[first.block].lowerBound, count)
        }
        func gain(_ name: String) -> Row { part(name, shape.dim) }
        /// `name`, and the `more` parameters that follow it without a gap, as one matrix.
        func matrix(_ name: String, more: [String] = []) -> Matrix {
            let first = table[name]
            var rows = first.shape[0]
            for next in more {
                precondition(table[next].offset == first.offset + rows * first.shape[1], "\(next) is no neighbour")
                rows += table[next].shape[0]
            }
            return Matrix(part(name, rows * first.shape[1]), rows: rows, columns: first.shape[1])
        }
        /// Vectors without a gap between them, as one.
        func joined(_ names: [String]) -> Row { part(names[0], names.reduce(0) { $0 + table[$1].count }) }
        embedding = matrix("model.embed_tokens.weight")
        layers = (0..<shape.layers).map { index in
            let prefix = "model.layers.\(index)."
            return Layer(
                inputGain: gain(prefix + "input_layernorm.weight"),
                qkv: matrix(prefix + "self_attn.q_proj.weight",
                            more: [prefix + "self_attn.k_proj.weight", prefix + "self_attn.v_proj.weight"]),
                qkvBias: shape.hasBias ? joined(["q_proj", "k_proj", "v_proj"].map { "\(prefix)self_attn.\($0).bias" })
                    : nil,
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
        blocks[parameter.block].slice(parameter.offset - table.blocks[parameter.block].lowerBound, parameter.count)
    }

    /// Draws every initial value.
    public func initialize(seed: Int) {
        for number in table.parameters.indices {
            Self.initialize(values(table.parameters[number]), number, of: table, seed: seed)
        }
    }

    /// Draws the initial values of parameter `number` from (seed, parameter's number, element's number): the same on
    /// every rank, in any order.
    public static func initialize(_ row: Row, _ number: Int, of table: ParameterTable, seed: Int) {
        switch table.parameters[number].initial {
        case .ones:
            row.fill(1)
        case .zeros:
            row.fill(0)
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
