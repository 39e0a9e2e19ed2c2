import Recipe
import Tensor

/// The fixed cut of tokens into tiles: a function of the shapes alone, so that results do not depend on the threads.
struct Tiles: Sendable {
    let tokens: Int

    var count: Int { (tokens + ActivationSlots.tileRows - 1) / ActivationSlots.tileRows }

    /// First token and number of tokens of a tile.
    func range(_ tile: Int) -> (start: Int, count: Int) {
        let start = tile * ActivationSlots.tileRows
        return (start, min(ActivationSlots.tileRows, tokens - start))
    }

    /// Tiles of part `part` of `parts`.
    func part(_ part: Int, of parts: Int) -> Range<Int> { (count * part / parts)..<(count * (part + 1) / parts) }
}

/// gain += the tiles' shares, in ascending order.
func addShares(_ gain: Row, _ shares: Matrix) {
    for tile in 0..<shares.rows { add(gain, shares.row(tile)) }
}
