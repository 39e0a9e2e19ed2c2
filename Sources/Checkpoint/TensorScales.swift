import Base
import Recipe

/// What the codes of a tensor are divided by, where state is kept in few bits: one number for every 128 elements in
/// row-major order (docs/checkpoints.md).
public struct TensorScales: Sendable {
    /// Of the tensor that they are in.
    public let name: String
    /// Elements that share one.
    static let block = 128
    private let scales: [Double]
    /// Whether it is the root of each element that is stored.
    private let isRoot: Bool

    init(name: String, scales: [Double], isRoot: Bool) {
        self.name = name
        self.scales = scales
        self.isRoot = isRoot
    }

    /// Makes of codes what they stand for. first: the place of values[0] in the tensor.
    func apply(to values: inout [Double], first: Int) {
        for index in values.indices {
            let value = values[index] / scales[(first + index) / Self.block]
            values[index] = isRoot ? value * value : value
        }
    }
}

extension TensorArchive {
    /// The scales of a tensor of codes; nil where its numbers are what they stand for.
    public func scales(of tensor: StoredTensor, with reader: TensorReader) throws(CheckpointError) -> TensorScales? {
        var names = ["scale." + tensor.name]
        if let dot = tensor.name.firstIndex(of: ".") {
            names.append(tensor.name[..<dot] + "_scale" + tensor.name[dot...])
        }
        let blocks = (tensor.count + TensorScales.block - 1) / TensorScales.block
        guard tensor.dtype.isFloat, tensor.dtype.width < 4, let found = names.lazy.compactMap(named).first,
              found.dtype == .float32, found.shape == [blocks] else { return nil }
        var scales: [Double] = []
        try reader.read(found, 0..<blocks, into: &scales)
        // Only the second moment may be there as its root, and only the recipe says so.
        let isRoot = tensor.name.hasPrefix("variance.") ? try keepsRoots : false
        return TensorScales(name: found.name, scales: scales, isRoot: isRoot)
    }

    private var keepsRoots: Bool {
        get throws(CheckpointError) {
            guard let checkpoint else { return false }
            let text = try checkpoint.recipe(), name = "\(checkpoint.path)/\(Manifest.recipeFile)"
            do {
                return try ResolvedRecipe.load(text: text, name: name).recipe.optimizer.moments == .fp8Root
            } catch {
                throw .damaged(name, "\(error)")
            }
        }
    }

    /// The values of a part of a tensor, row-major; of codes what they stand for.
    public func values(of tensor: StoredTensor, _ part: SliceExpression, with reader: TensorReader)
        throws(CheckpointError) -> [Double] {
        let scales = try scales(of: tensor, with: reader)
        var all: [Double] = [], values: [Double] = []
        for run in part.runs(in: tensor.shape) {
            try reader.read(tensor, run, into: &values)
            scales?.apply(to: &values, first: run.lowerBound)
            all += values
        }
        return all
    }
}
