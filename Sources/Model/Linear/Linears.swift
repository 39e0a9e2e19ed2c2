import Recipe
import Tensor

/// Makes the linear layers of blocks: here it is chosen who multiplies, and in which formats.
struct Linears {
    let matmul: Recipe.Matmul
    /// Nil: fp32.
    let quantisation: Quantisation?

    /// Linear layer `kind` of the block that `saved` belongs to.
    func make(_ kind: LinearKind, _ saved: LayerSaved, _ weight: Matrix) -> Linear {
        guard let quantisation else { return Linear(weight: weight, matmul: matmul) }
        return Linear(weight: weight, matmul: matmul, quantised: quantisation.linear(kind, saved.index),
                      smoothing: kind == .down ? smoothing(saved, quantisation.formats.setting.smoothing) : nil)
    }

    /// Watches the two branches of a block's SwiGLU, where health is asked for.
    func watch(_ saved: LayerSaved, _ gateUp: Matrix, pool: Pool) {
        quantisation?.notes?.watch(gateUp, layer: saved.index, pool: pool)
    }

    private func smoothing(_ saved: LayerSaved, _ axis: Recipe.Smoothing) -> Smoothing? {
        switch axis {
        case .none, .auto: nil
        case .channel: Smoothing(.channel, count: saved.gateUp.columns / 2, memory: saved.smoothing)
        case .token: Smoothing(.token, count: saved.gateUp.rows, memory: saved.smoothing)
        }
    }
}

extension Pool {
    /// A stage that makes a product's left operand tile by tile (`first`) and multiplies it (`second`): in one visit to
    /// each tile, while it is in cache; or in two with `between` after the first, where the product must know all of
    /// it.
    func run(_ tiles: Int, stage: StaticString, flops: @autoclosure () -> Int = 0, split: Bool,
             _ first: @Sendable (_ tile: Int, _ worker: Int) -> Void, between: () -> Void,
             _ second: @Sendable (_ tile: Int, _ worker: Int) -> Void) {
        guard split else {
            return run(tiles, stage: stage, flops: flops()) { tile, worker in
                first(tile, worker)
                second(tile, worker)
            }
        }
        run(tiles, stage: stage, first)
        between()
        run(tiles, stage: stage, flops: flops(), second)
    }

    /// A chain of two such stages.
    func run(_ tiles: Int, stage: StaticString, flops: @autoclosure () -> Int = 0, splits: (Bool, Bool),
             _ first: @Sendable (_ tile: Int, _ worker: Int) -> Void, between: () -> Void,
             _ second: @Sendable (_ tile: Int, _ worker: Int) -> Void, between then: () -> Void,
             _ third: @Sendable (_ tile: Int, _ worker: Int) -> Void) {
        guard splits.0 else {
            return run(tiles, stage: stage, flops: flops(), split: splits.1, { tile, worker in
                first(tile, worker)
                second(tile, worker)
            }, between: then, third)
        }
        run(tiles, stage: stage, first)
        between()
        run(tiles, stage: stage, flops: flops(), split: splits.1, second, between: then, third)
    }
}
