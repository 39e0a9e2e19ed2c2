/// The logits' memory is idle while blocks are computed. Behind what blocks have there anyway (`ActivationSlots`), what
/// their quantised products need beside fp32's memory is borrowed from it as far as it goes, so that a recipe of fewer
/// bits takes no more memory than fp32: first attention's scratch, where its operands are rounded, then each thread's
/// packed tile.
public struct BorrowedLogits: Sendable, Equatable {
    /// Floats in front that are not to be lent.
    public let taken: Int
    /// Floats of attention's scratch and of the tiles that come from the logits: all that were asked for, or none.
    public let attention: Int
    public let tiles: Int

    /// `logits`: floats that there are. `attention` and `tiles`: those that are needed, 0 of what is not to be lent.
    public init(logits: Int, taken: Int = 0, attention: Int, tiles: Int) {
        self.taken = padded(taken)
        self.attention = self.taken + padded(attention) <= logits ? attention : 0
        self.tiles = self.taken + padded(self.attention) + tiles <= logits ? tiles : 0
    }

    /// Where the tiles begin.
    public var tilesStart: Int { taken + padded(attention) }
}
