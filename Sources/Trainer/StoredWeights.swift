import Checkpoint
import Parallel
import Recipe
import Tensor

/// The weights of a checkpoint as floats: they may lie there as codes in FP16 with a scale for every block
/// (`optimizer.master_weights`).
struct StoredWeights {
    private let checkpoint: Checkpoint
    private let reader: TensorReader
    private let isCoded: Bool

    /// Refuses weights of another model.
    init(_ checkpoint: Checkpoint, _ table: ParameterTable) throws {
        self.checkpoint = checkpoint
        reader = checkpoint.reader()
        isCoded = table.parameters.first.map { checkpoint.tensor(Self.scales($0).name) != nil } ?? false
        let scales = isCoded ? table.parameters.map(Self.scales) : []
        try checkpoint.requireModel(table.parameters.map(spec) + scales)
    }

    private func spec(_ parameter: ParameterTable.Parameter) -> TensorSpec {
        TensorSpec(parameter.name, isCoded ? .float16 : .float32, parameter.shape)
    }

    private static func scales(_ parameter: ParameterTable.Parameter) -> TensorSpec {
        TensorSpec(StateVector.scalePrefix("") + parameter.name, .float32, [MomentCodec.blocks(parameter.count)])
    }

    /// Fills `row` with a parameter's values.
    func read(_ parameter: ParameterTable.Parameter, into row: Row) throws {
        let spec = spec(parameter)
        guard isCoded else { return try unsafe checkpoint.read(spec, into: row.bytes, with: reader) }
        let codec = MomentCodec.masterWeight, blocks = MomentCodec.blocks(row.count)
        let memory = try Arena(name: "codes of a tensor",
                               capacity: Arena.padded(blocks * codec.blockFloats) + Arena.padded(blocks))
        let codes = memory.take(blocks * codec.blockFloats), factors = memory.take(blocks)
        defer { withExtendedLifetime(memory) {} }
        let bytes = unsafe UnsafeMutableRawBufferPointer(rebasing: codes.bytes[..<spec.byteCount])
        try unsafe checkpoint.read(spec, into: bytes, with: reader)
        try unsafe checkpoint.read(Self.scales(parameter), into: factors.bytes, with: reader)
        codec.load(codes.slice(0, Codes.floats(codec.format, rows: 1, columns: row.count)), scales: factors, to: row)
    }
}

extension StateVector {
    /// What a checkpoint has of parameter `number`.
    func spec(_ number: Int) -> TensorSpec {
        let parameter = values.parameters[number]
        return TensorSpec(prefix + parameter.name, type, parameter.shape)
    }

    /// The elements of the values of parameter `number` whose memory a range of the vector is.
    func elements(_ number: Int, _ range: Range<Int>) -> Range<Int> {
        let start = table.parameters[number].offset, count = values.parameters[number].count
        let perFloat = 4 / type.width
        return ((range.lowerBound - start) * perFloat)..<min((range.upperBound - start) * perFloat, count)
    }

    private var type: ElementType {
        guard case .codes(let codec) = numbers else { return .float32 }
        return switch codec.format {
        case .e4m3: .float8E4M3
        case .e5m2: .float8E5M2
        case .fp16: .float16
        case .bf16: .bfloat16
        default: preconditionFailure("safetensors has no \(codec.format)")
        }
    }
}
