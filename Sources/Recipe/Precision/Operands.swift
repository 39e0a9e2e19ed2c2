/// The six operands of a linear layer's three products, in the order of a step: y = X W^T; dX = dY W; dW = dY^T X. A
/// tensor that takes part in two of them may be rounded differently for each. The raw value is the operand's key in a
/// config.
public enum Operand: String, Sendable, CaseIterable {
    case forwardInput = "forward_input"
    case forwardWeight = "forward_weight"
    case inputGradientOutput = "input_gradient_output"
    case inputGradientWeight = "input_gradient_weight"
    case weightGradientOutput = "weight_gradient_output"
    case weightGradientInput = "weight_gradient_input"

    /// Its place among the six.
    public var number: Int {
        switch self {
        case .forwardInput: 0
        case .forwardWeight: 1
        case .inputGradientOutput: 2
        case .inputGradientWeight: 3
        case .weightGradientOutput: 4
        case .weightGradientInput: 5
        }
    }
}

/// A value for each of the six operands.
public struct Operands<Value> {
    public var forwardInput: Value
    public var forwardWeight: Value
    public var inputGradientOutput: Value
    public var inputGradientWeight: Value
    public var weightGradientOutput: Value
    public var weightGradientInput: Value

    public init<Failure>(_ make: (Operand) throws(Failure) -> Value) throws(Failure) {
        forwardInput = try make(.forwardInput)
        forwardWeight = try make(.forwardWeight)
        inputGradientOutput = try make(.inputGradientOutput)
        inputGradientWeight = try make(.inputGradientWeight)
        weightGradientOutput = try make(.weightGradientOutput)
        weightGradientInput = try make(.weightGradientInput)
    }

    public subscript(_ operand: Operand) -> Value {
        switch operand {
        case .forwardInput: forwardInput
        case .forwardWeight: forwardWeight
        case .inputGradientOutput: inputGradientOutput
        case .inputGradientWeight: inputGradientWeight
        case .weightGradientOutput: weightGradientOutput
        case .weightGradientInput: weightGradientInput
        }
    }
}

extension Operands: Sendable where Value: Sendable {}
extension Operands: Equatable where Value: Equatable {}
