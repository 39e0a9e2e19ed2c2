import Base
import Recipe
import Tensor

/// The linear layers of a block, in the order of a forward.
enum LinearKind: Int, CaseIterable {
    case qkv, output, gateUp, down

    var name: String {
        switch self {
        case .qkv: "qkv"
        case .output: "output"
        case .gateUp: "gate_up"
        case .down: "down"
        }
    }
}

/// What a model's linear layers are quantised by, and what a run has to remember for it: the delayed scales.
///
/// A scale does not change within a step. Meanwhile each thread notes the largest magnitudes that it sees of each
/// layer's input, weight and gradient of the output; `finish` brings them together over threads and ranks, and sets the
/// scales of the next step. Largest magnitudes have no order, and the random numbers of stochastic rounding are those
/// of (seed, step, layer, operand, row among all ranks' rows, column): neither threads, nor ranks, nor the cut into
/// micro-batches change what an operand is rounded to, as long as its scale is delayed. A current scale is that of its
/// micro-batch. A tensor whose delayed scale has no step behind it yet takes its current one.
public final class Quantisation {
    public let formats: LinearFormats
    private let seed: UInt64
    private let linears: Int
    /// [threads, floats] a packed tile of each thread.
    private let workers: Matrix
    /// [threads, 3 x linears] the largest magnitudes of this step that each thread has seen.
    private let peaks: Matrix
    /// The same of all threads and ranks, of the last step.
    private let amaxes: Row
    /// Of each linear layer, those of its operands that have one.
    private var scales: [DelayedScale]
    private let delayed: [Operand]
    /// The scales as a checkpoint has them: [scales, history + 3].
    private let memory: Row
    private var step = 0
    private let shape: Recipe.ModelShape
    /// Of the micro-batch at hand; nil where nobody wants to know.
    private(set) var notes: HealthNotes?
    /// Where the micro-batch's first token lies among those of all ranks in this step.
    var firstRow = 0

    /// Of each linear layer's forward and input gradient, where its packed weight stays for the rest of a step.
    private var kept: [KeptSlot] = []

    /// `tiles`: memory of the threads' packed tiles, which hold nothing between two stages; empty: of their own.
    init(_ formats: LinearFormats, shape: Recipe.ModelShape, tokens: Int, threads: Int, seed: UInt64,
         keepsWeights: Bool, tiles: Row, memory: Arena) {
        let setting = formats.setting
        self.formats = formats
        self.seed = seed
        self.shape = shape
        linears = shape.linearLayers
        let tile = shape.quantisedTileFloats(tokens: tokens)
        workers = Matrix(tiles.count > 0 ? tiles : memory.take(threads * tile), rows: threads, columns: tile)
        let noted = PrecisionSetting.tensors * linears
        peaks = memory.take(rows: threads, columns: Arena.padded(noted))
        amaxes = memory.take(noted)
        delayed = Operand.allCases.filter { setting.operands[$0].scaling == .delayed }
        let count = setting.delayedScales(shape)
        scales = (0..<count).map { _ in DelayedScale(length: setting.history) }
        self.memory = memory.take(count * setting.scaleStateFloats)
        guard keepsWeights else { return }
        for _ in 0..<shape.layers { kept += setting.keptWeights(shape).map { KeptSlot($0, memory) } }
    }

    /// What linear layer `kind` of block `layer` is quantised by, in this step.
    func linear(_ kind: LinearKind, _ layer: Int) -> QuantisedLinear {
        let number = layer * LinearKind.allCases.count + kind.rawValue
        return QuantisedLinear(
            operands: Operands { operand($0, of: number) }, workers: workers, peaks: peaks,
            place: PrecisionSetting.tensors * number, health: notes, path: formats.path,
            kept: formats.path == .portable || kept.isEmpty ? nil : (kept[2 * number], kept[2 * number + 1]))
    }

    private func operand(_ operand: Operand, of linear: Int) -> QuantisedOperand {
        let format = formats.operands[operand], isWeight = operand.tensor == .weight
        let rounding: Rounding = format.setting.isStochastic
            ? .stochastic(RoundingKey(seed: seed, step: step, tensor: linear, operand: operand.number,
                                      firstRow: isWeight ? 0 : firstRow)) : .nearest
        var factor: Float?
        switch format.setting.scaling {
        case .none: factor = 1
        case .current: factor = nil
        case .delayed:
            let scale = scales[linear * delayed.count + (delayed.firstIndex(of: operand) ?? 0)]
            factor = scale.hasHistory ? scale.factor : nil
        }
        return QuantisedOperand(format: format, factor: factor, rounding: rounding)
    }

    /// Before the forwards of step number `step`. What was seen since the last step, a validation's, is forgotten.
    public func begin(step: Int) {
        self.step = step
        peaks.fill(0)
        forgetWeights()
    }

    /// After the backwards of a step: `exchange` makes the numbers the largest of all ranks', not-a-numbers above all.
    public func finish<Failure>(_ exchange: (Row) throws(Failure) -> Void) throws(Failure) {
        forgetWeights()
        for index in 0..<amaxes.count {
            amaxes[index] = (0..<peaks.rows).reduce(0) { largerMagnitude($0, peaks.row($1)[index]) }
        }
        guard !delayed.isEmpty else { return }
        try exchange(amaxes)
        for linear in 0..<linears {
            for (index, operand) in delayed.enumerated() {
                let place = linear * delayed.count + index
                scales[place].record(amaxes[PrecisionSetting.tensors * linear + operand.tensor.rawValue])
                scales[place].update(formats.operands[operand].rule, format: formats.operands[operand].number)
            }
        }
    }

    /// Weights are about to change, or have.
    private func forgetWeights() { for slot in kept { slot.isPacked[0] = 0 } }

    /// Notes what quantising does to each operand of the micro-batch in `body`: forward and backward. It costs a pass
    /// over every operand, and changes none.
    public func examine<Result>(_ body: () throws -> Result) rethrows -> (Result, PrecisionHealth) {
        let notes = HealthNotes(shape)
        self.notes = notes
        defer { self.notes = nil }
        return (try body(), notes.all)
    }

    /// The first tensor of a forward, or else the first of a backward, that held something infinite or not a number in
    /// the last step. Nil where all were finite.
    public var notFinite: String? {
        let order = (0..<linears).map { ($0, OperandTensor.input) } + (0..<linears).map { ($0, .weight) }
            + (0..<linears).reversed().map { ($0, .outputGradient) }
        return order.first { linear, tensor in
            !amaxes[PrecisionSetting.tensors * linear + tensor.rawValue].isFinite
        }.map { linear, tensor in
            let kinds = LinearKind.allCases
            return "the \(tensor.text) of layers.\(linear / kinds.count).\(kinds[linear % kinds.count].name)"
        }
    }
}

// MARK: State

extension Quantisation {
    /// Of the tensor that a checkpoint keeps; nil where no scale is delayed.
    public var stateShape: [Int]? { scales.isEmpty ? nil : [scales.count, formats.setting.scaleStateFloats] }

    /// Where a checkpoint's tensor of `stateShape` is read to, before `readState`.
    public var state: Row { memory }

    /// Fills `state` with the scales as they are: for each its history, where that goes on, its factor, and how many
    /// steps it passed over.
    public func writeState() {
        let width = formats.setting.scaleStateFloats, history = formats.setting.history
        for (index, scale) in scales.enumerated() {
            let row = memory.slice(index * width, width)
            row.slice(0, history).copy(scale.history)
            row[history] = Float(scale.next)
            row[history + 1] = scale.factor
            row[history + 2] = Float(scale.skipped)
        }
    }

    /// Takes the scales from `state`. False, and nothing is changed, where it holds what no run has left.
    public func readState() -> Bool {
        let width = formats.setting.scaleStateFloats, history = formats.setting.history
        var found: [DelayedScale] = []
        for index in scales.indices {
            let row = memory.slice(index * width, width)
            guard let next = Int(exactly: row[history]), let skipped = Int(exactly: row[history + 2]),
                  let scale = DelayedScale(history: row.slice(0, history).array, next: next, factor: row[history + 1],
                                           skipped: skipped) else { return false }
            found.append(scale)
        }
        scales = found
        return true
    }
}

/// The tensors of a linear layer.
enum OperandTensor: Int, CaseIterable {
    case input, weight, outputGradient

    var text: String {
        switch self {
        case .input: "input"
        case .weight: "weight"
        case .outputGradient: "output's gradient"
        }
    }
}

extension Operand {
    /// The tensor that this operand is.
    var tensor: OperandTensor {
        switch self {
        case .forwardInput, .weightGradientInput: .input
        case .forwardWeight, .inputGradientWeight: .weight
        case .inputGradientOutput, .weightGradientOutput: .outputGradient
        }
    }
}
