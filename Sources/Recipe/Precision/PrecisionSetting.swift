import Base

/// The number formats of a model's linear layers, as data: what a recipe's name, or the keys of `custom`, stand for.
public struct PrecisionSetting: Sendable, Equatable {
    public let operands: Operands<OperandSetting>
    /// Optimizer steps whose largest magnitudes a delayed scale looks back on.
    public let history: Int
    public let smoothing: Recipe.Smoothing
    /// Whether the operands of attention's products are rounded to bf16.
    public let roundsAttention: Bool

    /// Whether any scale follows its tensor with a delay, and so is state of the run.
    public var hasDelayed: Bool { Operand.allCases.contains { operands[$0].scaling == .delayed } }
}

extension Recipe.Precision {
    /// Nil for fp32, whose products are those of `Gemm`. Throws where a key of `custom` cannot be read, or where keys
    /// do not fit together.
    public func setting() throws(BadInput) -> PrecisionSetting? {
        guard recipe != .fp32 else {
            guard smoothSwiGLU == .none || smoothSwiGLU == .auto else {
                throw BadInput("precision.smooth_swiglu = \"\(smoothSwiGLU.rawValue)\" scales what is quantised, and "
                    + "precision.recipe = \"fp32\" quantises nothing; take another recipe, or none")
            }
            guard attention != .bf16 else {
                throw BadInput("precision.attention = \"bf16\" comes with linear layers in few bits; take "
                    + "precision.recipe = \"bf16\", or leave attention in fp32")
            }
            return nil
        }
        let operands = try Operands { (operand: Operand) throws(BadInput) -> OperandSetting in
            try OperandSetting(text(operand), key: "precision.\(operand.rawValue)")
        }
        let own = smoothSwiGLU == .auto ? (recipe == .fp8Paper ? .channel : .none) : smoothSwiGLU
        if own != .none {
            for operand in [Operand.forwardInput, .weightGradientInput] where !operands[operand].isWhole {
                throw BadInput("precision.smooth_swiglu = \"\(own.rawValue)\" smooths a tensor that has one scale, and "
                    + "precision.\(operand.rawValue) has many; take smooth_swiglu = \"none\" with them")
            }
        }
        return PrecisionSetting(operands: operands, history: amaxHistory == 0 ? standardHistory : amaxHistory,
                                smoothing: own,
                                roundsAttention: attention == .auto ? recipe == .bf16 || recipe == .fp8Hybrid
                                    : attention == .bf16)
    }

    /// The same after `validate`, which has found nothing wrong.
    public var checked: PrecisionSetting? { try? setting() }

    /// 2409.12517 looks back on one optimizer step: its history is as many micro-batches as make a global batch.
    private var standardHistory: Int { recipe == .fp8Paper ? 1 : 16 }

    /// What the recipe says of an operand.
    private func text(_ operand: Operand) -> String {
        let isGradient = operand == .inputGradientOutput || operand == .weightGradientOutput
        let isWeight = operand == .forwardWeight || operand == .inputGradientWeight
        let isForward = operand == .forwardInput || operand == .forwardWeight
        switch recipe {
        case .fp32, .bf16: return "BF16"
        case .fp8Hybrid: return isGradient ? "E5M2 delayed" : "E4M3 delayed"
        case .fp8Block: return isWeight ? "E4M3 128x128" : "E4M3 1x128"
        case .mxfp8: return "E4M3 1x32"
        case .fp8Paper:
            return isForward ? "E4M3-ieee delayed" : isGradient ? "E5M2 delayed stochastic" : "E5M2 delayed"
        case .custom: return own(operand)
        }
    }

    private func own(_ operand: Operand) -> String {
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

extension Recipe {
    /// Refuses formats that cannot be read, and products that somebody else makes.
    func validatePrecision(_ at: (String) -> String) throws(BadInput) {
        guard try precision.setting() != nil else { return }
        if training.matmul != .own {
            throw BadInput("\(at("precision.recipe")) = \"\(precision.recipe.rawValue)\" has products of its own, "
                + "which training.matmul = \"openblas\" cannot make; take one of them")
        }
    }
}
