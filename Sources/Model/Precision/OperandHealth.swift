import Recipe
import Tensor

/// What quantising did to the operands of one micro-batch, for people: it flows back into nothing.
public struct PrecisionHealth: Sendable, Equatable {
    /// One operand of one linear layer.
    public struct Operand: Sendable, Equatable {
        /// "layers.3.down.forward_input"
        public let name: String
        public let health: QuantizationHealth
    }

    /// How alike the two branches of a SwiGLU have become, |cos(w_gate, w_up)|: where both rows of a channel point the
    /// same way, its output is the square of either, and the channel becomes an outlier (2409.12517, section 4).
    public struct Branches: Sendable, Equatable {
        public let layer: Int
        /// The largest of all channels, and which.
        public let cosine: Double
        public let channel: Int
        /// Of the channel whose rows are the longest (the product of their norms), and that product over its mean.
        public let longestCosine: Double
        public let longestRatio: Double
    }

    public let operands: [Operand]
    public let branches: [Branches]
}

/// Where one micro-batch's health is noted: seven numbers for each operand of each linear layer, and four for each
/// block. A slot is written by the thread that runs the model, from what tiles have found, in the order of tiles.
struct HealthNotes: Sendable {
    private static let width = 7, watched = 4
    private let linears: Int
    private let blocks: Int
    private let numbers: Doubles

    init(_ shape: Recipe.ModelShape) {
        linears = shape.linearLayers
        blocks = shape.layers
        numbers = Doubles(count: linears * 6 * Self.width + blocks * Self.watched)
    }

    /// Looks at an operand, all of it, with its scales set. `linear`: number of the layer in the model.
    func look(_ x: Matrix, _ quantizer: Quantizer, _ operand: Operand, of linear: Int, pool: Pool) {
        let size = 64, tiles = (x.rows + size - 1) / size, parts = Doubles(count: tiles * Self.width)
        pool.run(tiles, stage: "health") { tile, _ in
            let start = tile * size
            let own = QuantizationHealth(x.rows(start, min(size, x.rows - start)), row: start, quantizer)
            Self.put(own, parts, tile * Self.width)
        }
        var all = QuantizationHealth()
        for tile in 0..<tiles { all.add(Self.take(parts, tile * Self.width)) }
        Self.put(all, numbers, (linear * 6 + operand.number) * Self.width)
    }

    private static func put(_ health: QuantizationHealth, _ numbers: Doubles, _ place: Int) {
        let values = (health.signal, health.noise, Double(health.saturated), Double(health.flushed),
                      Double(health.notFinite), Double(health.elements), Double(health.amax))
        (numbers[place], numbers[place + 1], numbers[place + 2]) = (values.0, values.1, values.2)
        (numbers[place + 3], numbers[place + 4]) = (values.3, values.4)
        (numbers[place + 5], numbers[place + 6]) = (values.5, values.6)
    }

    private static func take(_ numbers: Doubles, _ place: Int) -> QuantizationHealth {
        var health = QuantizationHealth()
        (health.signal, health.noise) = (numbers[place], numbers[place + 1])
        (health.saturated, health.flushed) = (Int(numbers[place + 2]), Int(numbers[place + 3]))
        (health.notFinite, health.elements) = (Int(numbers[place + 4]), Int(numbers[place + 5]))
        health.amax = Float(numbers[place + 6])
        return health
    }

    /// Watches the branches of block `layer`: gateUp [2F, D], gate above.
    func watch(_ gateUp: Matrix, layer: Int, pool: Pool) {
        let width = gateUp.rows / 2, cosines = Doubles(count: width), lengths = Doubles(count: width), size = 64
        pool.run((width + size - 1) / size, stage: "health") { tile, _ in
            for channel in (tile * size)..<min(width, tile * size + size) {
                let gate = gateUp.row(channel), up = gateUp.row(width + channel)
                let length = (Double(dot(gate, gate)) * Double(dot(up, up))).squareRoot()
                lengths[channel] = length
                cosines[channel] = length > 0 ? Double(dot(gate, up)) / length : 0
            }
        }
        var (likest, longest, total) = (0, 0, 0.0)
        for channel in 0..<width {
            if cosines[channel].magnitude > cosines[likest].magnitude { likest = channel }
            if lengths[channel] > lengths[longest] { longest = channel }
            total += lengths[channel]
        }
        let place = linears * 6 * Self.width + layer * Self.watched
        (numbers[place], numbers[place + 1]) = (cosines[likest].magnitude, Double(likest))
        numbers[place + 2] = cosines[longest].magnitude
        numbers[place + 3] = total > 0 ? lengths[longest] / (total / Double(width)) : 0
    }

    var all: PrecisionHealth {
        var operands: [PrecisionHealth.Operand] = []
        for linear in 0..<linears {
            let kind = LinearKind.allCases[linear % LinearKind.allCases.count]
            for operand in Operand.allCases {
                operands.append(PrecisionHealth.Operand(
                    name: "layers.\(linear / LinearKind.allCases.count).\(kind.name).\(operand.rawValue)",
                    health: Self.take(numbers, (linear * 6 + operand.number) * Self.width)))
            }
        }
        let branches = (0..<blocks).map { layer in
            let place = linears * 6 * Self.width + layer * Self.watched
            return PrecisionHealth.Branches(layer: layer, cosine: numbers[place], channel: Int(numbers[place + 1]),
                                            longestCosine: numbers[place + 2], longestRatio: numbers[place + 3])
        }
        return PrecisionHealth(operands: operands, branches: branches)
    }
}
