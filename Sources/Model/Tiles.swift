import Recipe
import Tensor

/// The fixed cuts of work: functions of the shapes alone, so that results do not depend on the threads.
struct Tiles: Sendable {
    let tokens: Int

    var count: Int { (tokens + ActivationSlots.tileRows - 1) / ActivationSlots.tileRows }

    /// First token and number of tokens of a tile.
    func range(_ tile: Int) -> (start: Int, count: Int) {
        let start = tile * ActivationSlots.tileRows
        return (start, min(ActivationSlots.tileRows, tokens - start))
    }
}

/// A weight's gradient, dW[out, in] += dY[T, out]^T X[T, in], cut into strips of 256 output rows.
struct WeightGradient: Sendable {
    static let strip = 256
    let dW: Matrix
    let dY: Matrix
    let x: Matrix

    var tiles: Int { (dW.rows + Self.strip - 1) / Self.strip }
    var flops: Int { dW.flops(tokens: dY.rows) }

    func run(_ tile: Int) {
        let start = tile * Self.strip
        let rows = min(Self.strip, dW.rows - start)
        Gemm.transposedTimes(dW.rows(start, rows), dY.columns(start, rows), x)
    }

    /// In a run of the pool; with `other`, both in one, so that its threads have enough to share.
    func run(with other: WeightGradient? = nil, pool: Pool, stage: StaticString) {
        pool.run(tiles + (other?.tiles ?? 0), stage: stage, flops: flops + (other?.flops ?? 0)) { tile, _ in
            if tile < tiles { run(tile) } else { other?.run(tile - tiles) }
        }
    }
}

extension Matrix {
    /// Operations of this weight's product with `tokens` rows, of its transpose's, or of its gradient's.
    func flops(tokens: Int) -> Int { 2 * tokens * rows * columns }
}

/// gain += the tiles' shares, in ascending order.
func addShares(_ gain: Row, _ shares: Matrix) {
    for tile in 0..<shares.rows { add(gain, shares.row(tile)) }
}
