import Recipe
import Tensor

/// What a training state is kept in: fp32 but where a codec says otherwise.
public struct StateFormats: Sendable, Equatable {
    /// Of the first moment and of the second.
    let moments: [MomentCodec?]
    /// Of the weights. A step computes with fp32, made block by block.
    let weights: MomentCodec?

    public static let floats = StateFormats(moments: [nil, nil], weights: nil)

    private init(moments: [MomentCodec?], weights: MomentCodec?) {
        self.moments = moments
        self.weights = weights
    }

    public init(_ optimizer: Recipe.Optimizer) {
        self.init(moments: optimizer.moments.codecs, weights: optimizer.masterWeights.codec)
    }

    /// The vectors of an optimizer's state; `names` are those that hold moments.
    func vectors(_ layouts: [VectorLayout]) -> [VectorLayout] {
        let names = ["momentum.", "variance."]
        return layouts.flatMap { layout in
            guard let number = names.firstIndex(of: layout.prefix), let codec = moments[number] else { return [layout] }
            return layout.coded(codec)
        }
    }
}

extension Recipe.MomentFormat {
    fileprivate var codecs: [MomentCodec?] {
        let rounded = MomentCodec.secondMoment
        let second = MomentCodec(rounded.format, keepsFromZero: true, isStochastic: true)
        let root = MomentCodec(.e4m3, keepsFromZero: true, isStochastic: true, isRoot: true)
        let long = MomentCodec(.bf16, keepsFromZero: false)
        return switch self {
        case .fp32: [nil, nil]
        case .fp8: [.firstMoment, second]
        case .fp8Nearest: [.firstMoment, rounded]
        case .fp8Root: [.firstMoment, root]
        case .fp8FP16: [.firstMoment, MomentCodec(.fp16, keepsFromZero: true)]
        case .bf16: [long, long]
        }
    }
}

extension Recipe.MasterFormat {
    /// Stochastic, since gains near 1 would stand still under small rates otherwise.
    fileprivate var codec: MomentCodec? {
        self == .fp16 ? MomentCodec(.fp16, keepsFromZero: false, isStochastic: true) : nil
    }
}
