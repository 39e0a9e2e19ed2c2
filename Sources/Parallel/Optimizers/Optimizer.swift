import Collectives
import Recipe
import Tensor

/// What one update takes from the schedule and from the agreement before it.
public struct OptimizerStep: Sendable {
    /// Updates so far, this one included: steps that were skipped are not among them.
    public var number: Int
    public var rate: Double
    /// What the gradient is multiplied by: clipping by the global norm.
    public var gradientScale: Double

    public init(number: Int, rate: Double, gradientScale: Double) {
        self.number = number
        self.rate = rate
        self.gradientScale = gradientScale
    }
}

/// A run of floats of one parameter, within one rank's share of one unit.
public struct ShardRun: Sendable, Equatable {
    /// Its number in the table.
    public let parameter: Int
    public let unit: Int
    /// Of the flat vector.
    public let range: Range<Int>
}

/// An optimizer over one rank's share of the state. A new one is a file, and a line in `makeOptimizer`.
///
/// `update` is element by element and may be called for any runs in any order, on any thread, each float once a step.
/// What needs more of a tensor than a run belongs into `begin`, which all ranks call together.
protocol ShardOptimizer: AnyObject {
    /// Its state vectors.
    static func vectors(_ table: ParameterTable) -> [VectorLayout]
    /// Whether a matrix must not be cut: its owner computes with all of it.
    static var keepsMatrices: Bool { get }

    /// Memory that it computes in, on a rank.
    static func scratchFloats(_ plan: ShardPlan, rank: Int) -> Int

    func begin(_ step: OptimizerStep, _ shard: OptimizerShard, _ tools: OptimizerTools) throws(CollectiveFault)

    /// Returns what AdamW's second moment looks like, where there is one.
    func update(_ run: ShardRun, _ shard: OptimizerShard) -> VarianceRoots?
}

extension ShardOptimizer {
    /// Adam's two, as most have them.
    static func vectors(_ table: ParameterTable) -> [VectorLayout] {
        [VectorLayout("momentum.", table), VectorLayout("variance.", table)]
    }

    static func scratchFloats(_ plan: ShardPlan, rank: Int) -> Int { 0 }
}

/// What `begin` may use besides: the sums that ranks exchange, and the threads.
struct OptimizerTools {
    let sums: BlockSums
    let pool: Pool
}

/// What an optimizer works on: a rank's share of everything.
struct OptimizerShard: Sendable {
    let state: TrainingState
    let settings: Recipe.Optimizer
    /// Of random numbers.
    let seed: Int
    /// The update's number, for the same.
    var number = 0

    init(_ state: TrainingState, _ recipe: Recipe) {
        self.state = state
        settings = recipe.optimizer
        seed = recipe.debug.seed
    }

    func gradient(_ run: ShardRun) -> Row { state.gradientShard.part(run.range, unit: run.unit) }
    /// Of state that is never codes.
    func moment(_ index: Int, _ run: ShardRun) -> Row { state.momentParts[index].floats(run) }

    /// Decay of a parameter's weights: 0 for gains.
    func decay(_ parameter: Int) -> Double { state.table.parameters[parameter].decays ? settings.weightDecay : 0 }

    /// Adam's step for parameters that decay or do not.
    func adam(_ step: OptimizerStep, decay: Double) -> AdamWStep {
        AdamWStep(learningRate: Float(step.rate), beta1: settings.beta1, beta2: settings.beta2,
                  epsilon: Float(settings.epsilon), weightDecay: Float(decay),
                  correction1: Float(1 - power(settings.beta1, step.number)),
                  correction2: Float(1 - power(settings.beta2, step.number)),
                  gradientScale: Float(step.gradientScale))
    }
}

extension ParameterTable {
    /// Whether a parameter is a matrix of a layer: neither embedding nor head, nor a gain.
    func isHiddenMatrix(_ number: Int) -> Bool {
        let parameter = parameters[number]
        return parameter.shape.count == 2 && parameter.block > 0 && parameter.block < blocks.count - 1
    }
}

extension ShardPlan {
    /// Shapes of the matrices between embedding and head that `rank` updates.
    func hiddenShapes(of rank: Int) -> [[Int]] {
        let own = optimizerRanges(of: rank)
        return table.parameters.indices.filter { number in
            table.isHiddenMatrix(number) && own.contains { $0.overlaps(table.parameters[number].range) }
        }.map { table.parameters[$0].shape }
    }
}

extension Recipe.OptimizerName {
    private var kind: any ShardOptimizer.Type {
        switch self {
        case .adamw: AdamW.self
        case .lamb: LAMB.self
        case .sgd: MomentumSGD.self
        case .muon: Muon.self
        case .soap: SOAP.self
        }
    }

    func vectors(_ table: ParameterTable) -> [VectorLayout] { kind.vectors(table) }

    /// Whether each matrix has one owner.
    public var keepsMatrices: Bool { kind.keepsMatrices }

    func scratchFloats(_ plan: ShardPlan, rank: Int) -> Int { kind.scratchFloats(plan, rank: rank) }

    func make(_ state: TrainingState, _ settings: Recipe.Optimizer, _ pool: Pool) throws(OutOfMemory)
        -> any ShardOptimizer {
        switch self {
        case .adamw: AdamW()
        case .lamb: LAMB()
        case .sgd: MomentumSGD()
        case .muon: try Muon(state, settings, pool)
        case .soap: try SOAP(state, pool)
        }
    }
}

/// base^exponent by squaring, so that a bias correction is the same with every C library.
func power(_ base: Double, _ exponent: Int) -> Double {
    var (result, factor, rest) = (1.0, base, exponent)
    while rest > 0 {
        if rest & 1 == 1 { result *= factor }
        factor *= factor
        rest >>= 1
    }
    return result
}
