import Base
import Tensor

/// A kernel, described once and used three ways: its results are held against `reference` in Double, its backward
/// against differences of `reference`, and both passes are timed beside the machine's own limits.
public struct Kernel: Sendable {
    /// A matrix that a pass reads or writes.
    public struct Operand: Sendable {
        public enum Content: Sendable {
            /// Normal with this deviation.
            case normal(Double)
            case zero
            /// As input number ... has it: for passes that work in place.
            case copy(Int)
        }

        public let rows: Int
        public let columns: Int
        public let content: Content

        public init(_ rows: Int, _ columns: Int, _ content: Content = .zero) {
            self.rows = rows
            self.columns = columns
            self.content = content
        }

        public var count: Int { rows * columns }
    }

    public struct Pass: Sendable {
        public let outputs: [Operand]
        /// Memory that must be moved if nothing stays in a cache: each operand once each way it is used.
        public let bytes: Double
        public let flops: Double
        public let run: @Sendable (_ operands: Operands) -> Void
    }

    /// What a pass computes on. `gradients` is empty in the forward.
    public struct Operands {
        public var inputs: [Matrix]
        public var outputs: [Matrix]
        public var gradients: [Matrix] = []
    }

    public let name: String
    public let inputs: [Operand]
    public let forward: Pass
    /// The outputs of the forward that matter, in Double, from the inputs.
    public let reference: @Sendable ([[Double]]) -> [[Double]]
    public let backward: Backward?

    /// Its outputs are gradients of sum(output 0 * input `seed`) for the inputs in `of`, one after the other. It may
    /// use what the forward left in its outputs.
    public struct Backward: Sendable {
        public let of: [Int]
        public let seed: Int
        public let pass: Pass
    }
}

/// A kernel's operands in memory of their own.
public final class KernelMemory {
    public private(set) var operands: Kernel.Operands
    public let kernel: Kernel
    private let arena: Arena

    public init(_ kernel: Kernel) throws {
        self.kernel = kernel
        let outputs = kernel.forward.outputs, gradients = kernel.backward?.pass.outputs ?? []
        let all = kernel.inputs + outputs + gradients
        arena = try Arena(name: "bench \(kernel.name)", capacity: all.reduce(64) { $0 + Arena.padded($1.count) })
        let memory = arena
        func take(_ operand: Kernel.Operand) -> Matrix { memory.take(rows: operand.rows, columns: operand.columns) }
        operands = Kernel.Operands(inputs: kernel.inputs.map(take), outputs: outputs.map(take),
                                   gradients: gradients.map(take))
        reset()
    }

    /// Every operand as its description has it.
    public func reset() {
        let outputs = kernel.forward.outputs, gradients = kernel.backward?.pass.outputs ?? []
        for (number, (operand, matrix)) in zip(kernel.inputs, operands.inputs).enumerated() {
            fill(matrix, operand, number)
        }
        for (operand, matrix) in zip(outputs + gradients, operands.outputs + operands.gradients) {
            fill(matrix, operand, 0)
        }
    }

    private func fill(_ matrix: Matrix, _ operand: Kernel.Operand, _ number: Int) {
        switch operand.content {
        case .zero: matrix.fill(0)
        case .copy(let input): matrix.copy(operands.inputs[input])
        case .normal(let size):
            let rng = CounterRNG(seed: 7, stream: UInt64(number))
            for index in 0..<matrix.all.count { matrix.all[index] = Float(rng.normalPair(at: UInt64(index)).0 * size) }
        }
    }

    public func runForward() { kernel.forward.run(operands) }
    public func runBackward() { kernel.backward?.pass.run(operands) }
}
