import Collectives
import Model
import Parallel
import Recipe
import Simulation
import Tensor
import Testing

/// One problem for attention that ranks share: documents of some lengths, and inputs drawn from a seed.
struct SharedCase: Sendable, CustomStringConvertible {
    let keyHeads: Int
    let lengths: [Int]
    var heads = 12
    let headDim = 8

    var tokens: Int { lengths.reduce(0, +) }
    var starts: [Int32] { lengths.reduce(into: [Int32(0)]) { $0.append($0[$0.count - 1] + Int32($1)) } }
    var model: Recipe.ModelShape {
        var model = Recipe().model
        (model.heads, model.keyValueHeads, model.dim) = (heads, keyHeads, heads * headDim)
        return model
    }
    var shape: AttentionShape { AttentionShape(heads: heads, keyHeads: keyHeads, headDim: headDim) }
    var wide: Int { heads * headDim }
    var columns: Int { shape.fusedColumns }
    var description: String { "\(heads)/\(keyHeads) heads, documents of \(lengths)" }

    func values(_ count: Int, _ seed: UInt64) -> [Float] {
        var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
        return (0..<count).map { _ in
            var sum: Float = 0
            for _ in 0..<4 {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                sum += Float(Int32(truncatingIfNeeded: state >> 32)) / Float(1 << 31)
            }
            return sum
        }
    }

    /// What attention leaves: out [T, wide] and dQKV [T, columns], over all tokens.
    struct Result: Sendable {
        var out: [Float]
        var slopes: [Float]
    }

    /// One rank alone, by the kernels.
    func alone() throws -> Result {
        let scratchFloats = shape.scratchFloats(segment: tokens)
        let memory = try Arena(name: "test", capacity: floats(tokens) + Arena.padded(scratchFloats))
        defer { withExtendedLifetime(memory) {} }
        let pool = Pool(threads: 1), rows = Rows(self, tokens, memory)
        let scratch = memory.take(rows: 1, columns: scratchFloats)
        rows.qkv.all.copy(values(tokens * columns, 1))
        rows.dOut.all.copy(values(tokens * wide, 2))
        Targets.lend(starts, count: starts.count) { starts in
            attention(rows.out, logSum: rows.logSum, qkv: rows.qkv, shape: shape, segments: Segments(starts),
                      scratch: scratch, pool: pool)
            attentionBackward(rows.dQKV, dOut: rows.dOut, out: rows.out, logSum: rows.logSum, qkv: rows.qkv,
                              shape: shape, segments: Segments(starts), scratch: scratch, pool: pool)
        }
        return Result(out: rows.out.all.array, slopes: rows.dQKV.all.array)
    }

    func floats(_ tokens: Int) -> Int {
        [columns, wide, wide, columns, heads].reduce(0) { $0 + Arena.padded(tokens * $1) }
    }

    struct Rows {
        let qkv, out, dOut, dQKV, logSum: Matrix

        init(_ each: SharedCase, _ tokens: Int, _ memory: Arena) {
            qkv = memory.take(rows: tokens, columns: each.columns)
            out = memory.take(rows: tokens, columns: each.wide)
            dOut = memory.take(rows: tokens, columns: each.wide)
            dQKV = memory.take(rows: tokens, columns: each.columns)
            logSum = memory.take(rows: each.heads, columns: tokens)
        }
    }

    func sizes(_ method: Recipe.ContextMethod, _ degree: Int) -> SequenceMemory {
        SequenceMemory(model, method: method, degree: degree, tokens: tokens, sequence: tokens)
    }

    func split(_ method: Recipe.ContextMethod, _ degree: Int) -> SequenceSplit {
        method == .ulysses ? .contiguous(starts: starts, degree: degree) : .zigzag(starts: starts, degree: degree)
    }

    /// A group of `degree` ranks, each with `threads` workers, in two layers one after the other whose second has the
    /// inputs of this case; what ranks find for their tokens is put together. `bytes`: what all have sent for a layer,
    /// and what stayed of each rank's exchanges.
    func shared(_ method: Recipe.ContextMethod, _ degree: Int, threads: Int = 1) throws
        -> (Result, bytes: Int, stayed: Int) {
        let split = split(method, degree), sizes = sizes(method, degree)
        let results = onThreads(ranks: degree) { communicator -> (Result, Int, Int) in
            try part(communicator, method, split, sizes, threads: threads)
        }
        var whole = Result(out: Array(repeating: .nan, count: tokens * wide),
                           slopes: Array(repeating: .nan, count: tokens * columns))
        var bytes = 0, stayed = 0
        for (rank, result) in results.enumerated() {
            let (part, sent, kept) = try result.get()
            (bytes, stayed) = (bytes + sent, stayed + kept)
            for piece in split.pieces[rank] {
                func place(_ all: inout [Float], _ own: [Float], _ width: Int) {
                    all.replaceSubrange((piece.tokens.lowerBound * width)..<(piece.tokens.upperBound * width),
                                        with: own[(piece.rows.lowerBound * width)..<(piece.rows.upperBound * width)])
                }
                place(&whole.out, part.out, wide)
                place(&whole.slopes, part.slopes, columns)
            }
        }
        return (whole, bytes, stayed)
    }

    private func part(_ communicator: Communicator, _ method: Recipe.ContextMethod, _ split: SequenceSplit,
                      _ sizes: SequenceMemory, threads: Int) throws -> (Result, Int, Int) {
        let rank = communicator.rank, own = split.count(of: rank), pool = Pool(threads: threads, spin: false)
        defer { pool.close() }
        let memory = try Arena(name: "test", capacity: sizes.floats(model, threads: threads)
            + 2 * (floats(own) + Arena.padded(sizes.kept)))
        defer { withExtendedLifetime(memory) {} }
        let strategy = sharedAttention(model, method, sizes, pool: pool, communicator: communicator, memory: memory)
        let layers = (0..<2).map { _ in (rows: Rows(self, own, memory), kept: memory.take(strategy.keptFloats)) }
        let qkv = values(tokens * columns, 1), dOut = values(tokens * wide, 2)
        for (index, layer) in layers.enumerated() {
            for piece in split.pieces[rank] {
                for (token, row) in zip(piece.tokens, piece.rows) {
                    layer.rows.qkv.row(row).copy(Array(qkv[(token * columns)..<((token + 1) * columns)]))
                    layer.rows.dOut.row(row).copy(Array(dOut[(token * wide)..<((token + 1) * wide)]))
                    if index == 0 { layer.rows.qkv.row(row).fill(Float(token % 7) / 3) }
                }
            }
            layer.rows.dQKV.fill(.nan)
        }
        strategy.begin(split, in: communicator.world)
        let starts = own == 0 ? [0, 0] : split.localStarts(of: rank)
        Targets.lend(starts, count: starts.count) { starts in
            let segments = Segments(starts)
            for (rows, kept) in layers {
                strategy.wholeForward(rows.out, logSum: rows.logSum, kept: kept, qkv: rows.qkv, shape: shape,
                                 segments: segments)
            }
            for (rows, kept) in layers.reversed() {
                strategy.wholeBackward(rows.dQKV, dOut: rows.dOut, out: rows.out, logSum: rows.logSum, kept: kept,
                                  qkv: rows.qkv, shape: shape, segments: segments)
            }
        }
        try strategy.check()
        let last = layers[1].rows
        return (Result(out: last.out.all.array, slopes: last.dQKV.all.array), communicator.statistics.bytesSent / 2,
                strategy.stayedBytes / 2)
    }
}

@Suite struct SharedAttentionTests {
    static let lengths = [[1], [7], [100], [1_000], [1, 7, 100, 3], [5, 300, 1, 1, 64, 250, 131]]
    static let cases = [1, 2, 4, 12].flatMap { keyHeads in
        lengths.map { SharedCase(keyHeads: keyHeads, lengths: $0) }
    }

    /// Output and gradients are those of one rank, for any degree and any lengths.
    @Test(arguments: cases) func theResultIsThatOfOneRank(_ each: SharedCase) throws {
        let alone = try each.alone(), exact = DoubleAttention(each)
        for degree in 1...8 {
            for method in [Recipe.ContextMethod.ulysses, .ring] {
                let shared = try each.shared(method, degree).0
                let name = "\(method.rawValue) on \(degree) ranks"
                func compare(_ got: [Float], _ one: [Float], _ oracle: [Double], _ what: String) {
                    let apart = distance(got.map(Double.init), one.map(Double.init))
                    #expect(apart <= 1e-6 || distance(got.map(Double.init), oracle)
                        <= 2 * distance(one.map(Double.init), oracle), "\(name): \(what) \(apart)")
                }
                compare(shared.out, alone.out, exact.out, "out")
                for (part, what) in zip(parts(each), ["dQ", "dK", "dV"]) {
                    let cut = { (all: [Float]) in part.map { all[$0] } }
                    compare(cut(shared.slopes), cut(alone.slopes), part.map { exact.slopes[$0] }, what)
                }
                // Where nothing is added up in another order, the bits are the same.
                if method == .ulysses || degree == 1 { #expect(shared.out == alone.out, "\(name)") }
                if degree == 1 || method == .ulysses && each.keyHeads % degree == 0 {
                    #expect(shared.slopes == alone.slopes, "\(name)")
                }
            }
        }
    }

    /// The kernels of one rank against sums in Double, so that the comparison above has a ground.
    @Test(arguments: [[1, 7, 100, 3], [131]]) func oneRankIsNearTheOracle(lengths: [Int]) throws {
        let each = SharedCase(keyHeads: 4, lengths: lengths), alone = try each.alone(), exact = DoubleAttention(each)
        #expect(distance(alone.out.map(Double.init), exact.out) < 2e-6)
        #expect(distance(alone.slopes.map(Double.init), exact.slopes) < 5e-6)
    }

    /// The number of threads changes no bit, nor does another run.
    @Test(arguments: [Recipe.ContextMethod.ulysses, .ring]) func threadsDoNotChangeBits(method: Recipe.ContextMethod)
        throws {
        let each = SharedCase(keyHeads: 2, lengths: [5, 300, 1, 700])
        let one = try each.shared(method, 3).0
        for threads in [1, 2, 3] {
            let again = try each.shared(method, 3, threads: threads).0
            #expect(again.out == one.out && again.slopes == one.slopes)
        }
    }

    /// What goes over the wire is what the choice between the two reckons with.
    @Test(arguments: [1, 2, 4, 12], [2, 3, 4, 6]) func bytesOnTheWire(keyHeads: Int, degree: Int) throws {
        let each = SharedCase(keyHeads: keyHeads, lengths: [48])
        var recipe = Recipe()
        recipe.model = each.model
        recipe.parallelism.contextDegree = degree
        for method in [Recipe.ContextMethod.ulysses, .ring] {
            let expected = 4 * 48 * Double(each.headDim) * recipe.elementsPerToken(method)
            #expect(try each.shared(method, degree).bytes == Int(expected.rounded()), "\(method.rawValue)")
        }
    }

    /// As sequences and ranks grow together, a rank's exchange has as many bytes as ever by heads, of which more and
    /// more go over the wire; by keys it grows with the ranks.
    @Test func bytesOfARankStayAsTheyAre() throws {
        var ofRing: [Double] = []
        for degree in 1...8 {
            let each = SharedCase(keyHeads: 12, lengths: [48 * degree])
            let exact = 4 * 48 * Double(each.headDim * 2 * (3 * each.heads + each.heads))
            let (_, bytes, stayed) = try each.shared(.ulysses, degree)
            #expect(abs(Double(bytes + stayed) / Double(degree) / exact - 1) < 0.02, "\(degree) ranks")
            #expect(degree == 1 ? bytes == 0 : bytes > 0)
            ofRing.append(Double(try each.shared(.ring, degree).bytes) / Double(degree) / exact)
        }
        for (degree, share) in ofRing.enumerated().dropFirst(2) { #expect(share > 0.9 * Double(degree) * ofRing[1]) }
    }

    /// A rank that gives up takes the others out of their waits, with its name.
    @Test(arguments: [Recipe.ContextMethod.ulysses, .ring]) func aFaultIsToldOfLater(method: Recipe.ContextMethod)
        throws {
        let each = SharedCase(keyHeads: 4, lengths: [90]), split = each.split(method, 3), sizes = each.sizes(method, 3)
        let results = onThreads(ranks: 3) { communicator -> Bool in
            guard communicator.rank != 1 else {
                communicator.abort("enough of it", during: "a test")
                return true
            }
            let memory = try Arena(name: "test", capacity: sizes.floats(each.model, threads: 1) + each.floats(30)
                + Arena.padded(sizes.kept))
            defer { withExtendedLifetime(memory) {} }
            let strategy = sharedAttention(each.model, method, sizes, pool: Pool(threads: 1),
                                           communicator: communicator, memory: memory)
            let rows = SharedCase.Rows(each, 30, memory), kept = memory.take(strategy.keptFloats)
            strategy.begin(split, in: communicator.world)
            let starts = split.localStarts(of: communicator.rank)
            Targets.lend(starts, count: starts.count) { starts in
                strategy.wholeForward(rows.out, logSum: rows.logSum, kept: kept, qkv: rows.qkv, shape: each.shape,
                                 segments: Segments(starts))
                strategy.wholeBackward(rows.dQKV, dOut: rows.dOut, out: rows.out, logSum: rows.logSum, kept: kept,
                                  qkv: rows.qkv, shape: each.shape, segments: Segments(starts))
            }
            do {
                try strategy.check()
                return false
            } catch {
                return "\(error)".contains("rank 1") && "\(error)".contains("enough of it")
            }
        }
        for result in results { #expect(try result.get()) }
    }

    /// Places of dQ, dK and dV in dQKV.
    private func parts(_ each: SharedCase) -> [[Int]] {
        let bounds = [0, each.wide, each.wide + each.keyHeads * each.headDim, each.columns]
        return zip(bounds, bounds.dropFirst()).map { from, to in
            (0..<each.tokens).flatMap { token in (from..<to).map { token * each.columns + $0 } }
        }
    }

    private func distance(_ a: [Double], _ b: [Double]) -> Double {
        var (apart, size) = (0.0, 0.0)
        for (x, y) in zip(a, b) {
            apart += (x - y) * (x - y)
            size += y * y
        }
        // A document of one token has no gradient but dV's.
        return apart == 0 ? 0 : (apart / size).squareRoot()
    }
}
