import Recipe
import Tensor

/// Keys (rotated) and values of the tokens so far, of every layer: a token costs its own forward and one look back, not
/// the whole row again. A key head's tokens lie one after the other, as the look back reads them.
struct KeyValueCache: Sendable {
    let capacity: Int
    private let shape: AttentionShape
    private let keys: [Matrix]           // a layer: [K * capacity, headDim]
    private let values: [Matrix]
    private let scores: Matrix           // [H, capacity]

    static func floats(_ shape: AttentionShape, layers: Int, capacity: Int) -> Int {
        2 * layers * Arena.padded(shape.keyHeads * capacity * shape.headDim) + Arena.padded(shape.heads * capacity)
    }

    init(_ shape: AttentionShape, layers: Int, capacity: Int, memory: Arena) {
        self.capacity = capacity
        self.shape = shape
        keys = (0..<layers).map { _ in memory.take(rows: shape.keyHeads * capacity, columns: shape.headDim) }
        values = (0..<layers).map { _ in memory.take(rows: shape.keyHeads * capacity, columns: shape.headDim) }
        scores = memory.take(rows: shape.heads, columns: capacity)
    }

    /// Keeps a token's keys and values: qkv is one row in `AttentionShape`'s layout.
    func store(_ qkv: Row, layer: Int, position: Int) {
        let width = shape.headDim
        for head in 0..<shape.keyHeads {
            let row = head * capacity + position
            keys[layer].row(row).copy(qkv.slice((shape.heads + head) * width, width))
            values[layer].row(row).copy(qkv.slice((shape.heads + shape.keyHeads + head) * width, width))
        }
    }

    /// The query heads of one key head look back over `count` tokens, the newest included. out: [H * headDim].
    /// Softmax of q . k / sqrt(headDim), the maximum subtracted first.
    func attend(_ out: Row, qkv: Row, layer: Int, keyHead: Int, count: Int) {
        let width = shape.headDim, first = keyHead * capacity
        let keys = keys[layer].rows(first, count), values = values[layer].rows(first, count)
        for member in 0..<shape.group {
            let head = keyHead * shape.group + member
            let query = qkv.slice(head * width, width), weights = scores.row(head).slice(0, count)
            for t in 0..<count { weights[t] = dot(query, keys.row(t)) * shape.temperature }
            let total = exponentials(weights, minus: maximum(weights))
            let own = out.slice(head * width, width)
            own.fill(0)
            for t in 0..<count { addScaled(own, values.row(t), weights[t] / total) }
        }
    }
}
