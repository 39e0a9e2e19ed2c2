import Base
import Collectives
import Model
import Parallel
import Recipe
import Tensor
import Trainer

/// Attention of one layer, forward and backward, between ranks: what it sends as sequences grow with the ranks, and how
/// it does beside one rank's that makes the whole matrix of weights.
public struct SharedAttentionBench {
    public var rounds: Int
    /// Tokens of one rank's sequence.
    public var tokens: Int
    public var setting: AttentionSetting

    public init(rounds: Int, tokens: Int, setting: AttentionSetting) {
        (self.rounds, self.tokens, self.setting) = (rounds, tokens, setting)
    }

    private var recipe: Recipe {
        var recipe = Recipe()
        recipe.job.name = "shared-attention"
        recipe.model.dim = setting.heads * setting.headDim
        (recipe.model.heads, recipe.model.keyValueHeads) = (setting.heads, setting.keyHeads)
        return recipe
    }

    private func joined(_ place: RankSetting) throws -> (World, Communicator) {
        let world = try World(joining: place, recipe: recipe, dataFingerprint: "attention", threads: 1)
        guard let communicator = world.communicator else { throw BadInput("this bench needs two ranks or more") }
        return (world, communicator)
    }

    /// Bytes that a rank sends for a layer of `tokens` tokens a rank, from groups of 1 rank to all, each twice as many
    /// as the one before, counted on the wire; the mean of the group's ranks. And what an exchange has in all, with the
    /// part that a rank has both ends of, beside that of two ranks: 1 where more ranks and tokens do not make it more.
    public func volumes(_ place: RankSetting, _ report: (BenchLine) -> Void) throws {
        let (world, communicator) = try joined(place)
        let pool = Pool(threads: 1)
        let width = recipe.model.dim
        let gathered = try Arena(name: "gathered", capacity: Arena.padded(world.size * tokens * width))
        let activations = gathered.take(world.size * tokens * width)
        var degree = 1, ofTwo: [String: Double] = [:]
        while degree <= world.size {
            let group = communicator.makeGroup(Array(0..<degree))
            for name in ["ulysses", "ring", "all-gather"] {
                try world.barrier()
                var sent = 0, stayed = 0, seconds = 0.0
                if let group, degree > 1 {
                    if let method = Recipe.ContextMethod(rawValue: name) {
                        let layer = try Layer(self, method, group, pool, communicator)
                        let before = communicator.statistics.bytesSent
                        seconds = try layer.run()
                        sent = communicator.statistics.bytesSent - before
                        stayed = layer.stayedBytes
                    } else {
                        let begin = MonotonicClock.seconds()
                        sent = try GatheredStep.bytes(tokens: degree * tokens, dim: width, in: group, communicator,
                                                      activations)
                        seconds = MonotonicClock.seconds() - begin
                        // As much as goes to each of the others.
                        stayed = sent / (degree - 1)
                    }
                }
                let all = try communicator.exchange([Double(sent), seconds, Double(stayed)])
                let mean = all.reduce(0) { $0 + $1[0] } / Double(degree)
                let whole = mean + all.reduce(0) { $0 + $1[2] } / Double(degree)
                if degree == 2 { ofTwo[name] = whole }
                var line = BenchLine(bench: "sequence-volume", threads: 1, ranks: degree, seconds: all[0][1])
                line.add("way", name)
                line.add("tokens", degree * tokens)
                line.add("sent_bytes_a_rank", Int(mean))
                line.add("bytes_a_token_and_rank", mean / Double(tokens))
                line.add("with_what_stays", whole / Double(tokens))
                if let first = ofTwo[name] { line.add("of_two_ranks", whole / first) }
                report(line)
            }
            degree *= 2
        }
        withExtendedLifetime(gathered) {}
        try world.leave()
    }

    /// All ranks together over `tokens` tokens, then rank 0 alone over as many, in turn: `factor` is how much longer
    /// that takes.
    public func beside(_ place: RankSetting, _ report: (BenchLine) -> Void) throws {
        let (world, communicator) = try joined(place)
        let pool = Pool(threads: 1), group = communicator.world
        var alone: [(name: String, run: () -> Void)] = []
        if world.rank == 0 {
            for way in [MaterialisedAttention.standard, .causalRows] {
                let name = way.rawValue.replacing("_ratio_1k", with: "")
                alone.append((name, try way.run(setting, tokens: tokens, pool)))
            }
        }
        var own = self
        own.tokens = tokens / world.size
        let layers = try [Recipe.ContextMethod.ulysses, .ring].filter { $0 == .ring || setting.heads >= world.size }
            .map { ($0.rawValue, try Layer(own, $0, group, pool, communicator)) }
        var times: [String: [Double]] = [:]
        for round in 0...rounds {
            for (name, layer) in layers {
                try world.barrier()
                let begin = MonotonicClock.seconds()
                _ = try layer.run()
                try world.barrier()
                if round > 0 { times[name, default: []].append(MonotonicClock.seconds() - begin) }
            }
            for (name, run) in alone {
                let begin = MonotonicClock.seconds()
                run()
                if round > 0 { times[name, default: []].append(MonotonicClock.seconds() - begin) }
            }
        }
        try world.barrier()
        for (name, _) in layers {
            guard world.rank == 0, let taken = times[name] else { continue }
            var line = BenchLine(bench: "shared-attention", threads: 1, ranks: world.size, seconds: median(taken))
            line.add("way", name)
            line.add("tokens", tokens)
            line.add("heads", setting.heads)
            line.add("kv_heads", setting.keyHeads)
            line.add("head_dim", setting.headDim)
            for (other, _) in alone {
                line.add("factor_over_\(other)", median(zip(times[other] ?? [], taken).map { $0.0 / $0.1 }))
            }
            report(line)
        }
        try world.leave()
    }

    /// One layer of a group's attention over one document, with what it works on.
    private final class Layer {
        private let strategy: any SharedAttention
        private let communicator: Communicator
        private let shape: AttentionShape
        private let starts: [Int32]
        private let memory: Arena
        private let qkv, out, dOut, dQKV, logSum: Matrix
        private let kept: Row

        init(_ bench: SharedAttentionBench, _ method: Recipe.ContextMethod, _ group: Group, _ pool: Pool,
             _ communicator: Communicator) throws {
            let model = bench.recipe.model, all = bench.tokens * group.size
            shape = bench.setting.shape
            let sizes = SequenceMemory(model, method: method, degree: group.size, tokens: all, sequence: all)
            let ends = [0, Int32(all)]
            let split = method == .ulysses ? SequenceSplit.contiguous(starts: ends, degree: group.size)
                : .zigzag(starts: ends, degree: group.size)
            let own = split.count(of: group.index), wide = shape.heads * shape.headDim
            let rows = [2 * own * shape.fusedColumns, 2 * own * wide, own * shape.heads, 128]
            memory = try Arena(name: "shared attention", capacity: rows.reduce(0) { $0 + Arena.padded($1) }
                + sizes.floats(model, threads: pool.threads) + Arena.padded(sizes.kept))
            let arena = memory
            func normal(_ columns: Int, _ stream: UInt64) -> Matrix {
                let random = CounterRNG(seed: 3, stream: stream), made = arena.take(rows: own, columns: columns)
                for index in 0..<made.all.count { made.all[index] = Float(random.normalPair(at: UInt64(index)).0) }
                return made
            }
            (qkv, dOut) = (normal(shape.fusedColumns, 0), normal(wide, 1))
            out = arena.take(rows: own, columns: wide)
            dQKV = arena.take(rows: own, columns: shape.fusedColumns)
            logSum = arena.take(rows: shape.heads, columns: own)
            kept = arena.take(sizes.kept)
            strategy = sharedAttention(model, method, sizes, pool: pool, communicator: communicator, memory: arena)
            strategy.begin(split, in: group)
            starts = split.localStarts(of: group.index)
            self.communicator = communicator
        }

        var stayedBytes: Int { strategy.stayedBytes }

        /// Forward and backward. Returns seconds.
        func run() throws -> Double {
            let begin = MonotonicClock.seconds()
            communicator.beginOverlap()
            Targets.lend(starts, count: starts.count) { starts in
                let segments = Segments(starts)
                strategy.wholeForward(out, logSum: logSum, kept: kept, qkv: qkv, shape: shape, segments: segments)
                strategy.wholeBackward(dQKV, dOut: dOut, out: out, logSum: logSum, kept: kept, qkv: qkv, shape: shape,
                                       segments: segments)
            }
            communicator.endOverlap()
            try strategy.check()
            return MonotonicClock.seconds() - begin
        }
    }
}
