import Recipe
import Tensor

/// Memory that the blocks of a model take turns with, where a rank cannot hold all of them at once.
///
/// Layers go round a few slots, so that one is computed with while another is on its way. The embedding and the head
/// are used at the two ends of a pass and share one; where they are the same matrix, it is needed at both ends, and has
/// its own.
struct BlockSlots: Sendable {
    /// The slot of each block.
    let ofBlock: [Int]
    /// The memory of each block.
    let rows: [Row]
    let count: Int

    init(_ table: ParameterTable, copies: Int, memory: Arena) {
        let layout = Self.layout(table, copies: copies)
        let slots = layout.floats.map { memory.take($0) }
        ofBlock = layout.ofBlock
        rows = table.blocks.indices.map { slots[layout.ofBlock[$0]].slice(0, table.blocks[$0].count) }
        count = slots.count
    }

    static func floats(_ table: ParameterTable, copies: Int) -> Int {
        layout(table, copies: copies).floats.reduce(0) { $0 + Arena.padded($1) }
    }

    /// The slot of each block.
    static func slots(_ table: ParameterTable, copies: Int) -> [Int] { layout(table, copies: copies).ofBlock }

    private static func layout(_ table: ParameterTable, copies: Int) -> (ofBlock: [Int], floats: [Int]) {
        let last = table.blocks.count - 1, headSlot = table.shape.tieEmbeddings ? copies + 1 : copies
        let ofBlock = table.blocks.indices.map { block in
            block == 0 ? copies : block == last ? headSlot : (block - 1) % copies
        }
        var floats = Array(repeating: 0, count: headSlot + 1)
        for (block, slot) in ofBlock.enumerated() { floats[slot] = max(floats[slot], table.blocks[block].count) }
        return (ofBlock, floats)
    }
}
