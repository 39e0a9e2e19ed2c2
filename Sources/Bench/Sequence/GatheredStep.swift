import Collectives
import Planner
import Recipe
import Tensor
import Trainer

/// What Megatron-LM's sequence parallelism moves (2205.05198, section 4.2.2), for ranks whose products are waited for:
/// each half of a block gathers all tokens' activations and scatters its sums, forward and backward, and the backward
/// gathers its input once more. Nothing is computed meanwhile, as there.
struct GatheredStep {
    static let name = "all-gather"
    private let communicator: Communicator
    private let layers: Int
    private let dim: Int
    private let cap: Int
    private let memory: Arena
    private let activations: Row
    private let gradients: Row

    init(_ recipe: Recipe, _ runner: StepRunner, _ communicator: Communicator) throws {
        self.communicator = communicator
        (layers, dim) = (recipe.model.layers, recipe.model.dim)
        cap = recipe.plannedCap * communicator.worldSize
        let parameters = runner.state.table.count
        memory = try Arena(name: "gathered activations", capacity: Arena.padded(cap * dim) + Arena.padded(parameters))
        activations = memory.take(cap * dim)
        gradients = memory.take(parameters)
    }

    /// A step of sequences of these lengths, as many at a time as all ranks hold together.
    func run(_ lengths: [Int], _ cost: CostModel, _ pool: Pool) throws {
        var tasks: [[Int]] = [], tokens = cap
        for length in lengths.sorted(by: >) {
            if tokens + length > cap {
                tasks.append([])
                tokens = 0
            }
            tasks[tasks.count - 1].append(length)
            tokens += length
        }
        communicator.beginOverlap()
        for task in tasks {
            let seconds = task.reduce(0.0) { $0 + cost.compute($1) } / Double(communicator.worldSize)
            let row = activations.slice(0, task.reduce(0, +) * dim)
            for (share, gathers) in [(1.0 / 3, 1), (2.0 / 3, 2)] {
                for _ in 0..<(2 * layers) {
                    for _ in 0..<gathers {
                        let ticket = unsafe communicator.allGather(row.floats)
                        try ticket.wait()
                    }
                    pool.wait(seconds: seconds * share / Double(2 * layers))
                    let ticket = unsafe communicator.reduceScatter(row.floats)
                    try ticket.wait()
                }
            }
        }
        communicator.endOverlap()
        let ticket = unsafe communicator.allReduce(gradients.floats)
        try ticket.wait()
    }

    /// Bytes that a rank sends for `tokens` tokens of a layer, forward and backward, counted on the wire.
    static func bytes(tokens: Int, dim: Int, in group: Group, _ communicator: Communicator, _ row: Row) throws -> Int {
        let before = communicator.statistics.bytesSent, row = row.slice(0, tokens * dim)
        for gathers in [1, 1, 2, 2] {
            for _ in 0..<gathers {
                let ticket = unsafe communicator.allGather(row.floats, in: group)
                try ticket.wait()
            }
            let ticket = unsafe communicator.reduceScatter(row.floats, in: group)
            try ticket.wait()
        }
        return communicator.statistics.bytesSent - before
    }
}
