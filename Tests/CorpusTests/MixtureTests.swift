import Base
import Corpus
import Testing

@Suite struct SourceWeightsTests {
    @Test func phasesAreRead() throws {
        let plain = try SourceWeights(["3", "1"], sources: 2)
        #expect(plain.phases == [.init(step: 0, weights: [0.75, 0.25])])
        #expect(try SourceWeights(["0: 3 1"], sources: 2) == plain)
        let two = try SourceWeights(["0: 0.5, 0.5", "100: 0 2"], sources: 2)
        #expect(two.phases == [.init(step: 0, weights: [0.5, 0.5]), .init(step: 100, weights: [0, 1])])
        #expect([0, 99, 100, 5_000].map { two.phase(at: $0) } == [0, 0, 1, 1])
    }

    /// A phase may be added where the run is or later, and nothing before it may change.
    @Test func thePastHasAFingerprint() throws {
        let short = try SourceWeights(["0: 1 1"], sources: 2)
        let long = try SourceWeights(["0: 1 1", "100: 1 3"], sources: 2)
        for step in 0...100 { #expect(short.fingerprint(before: step) == long.fingerprint(before: step)) }
        #expect(short.fingerprint(before: 101) != long.fingerprint(before: 101))
        let other = try SourceWeights(["0: 1 2", "100: 1 3"], sources: 2)
        #expect(other.fingerprint(before: 1) != short.fingerprint(before: 1))
    }

    @Test func linesThatAreNoWeightsAreNamed() {
        let cases: [([String], String)] = [
            (["1"], "1 weights for 2 sources (data.paths)"), (["0: 1 2 3"], "3 weights for 2 sources"),
            (["a: 1 2"], "expected \"STEP: w1 w2 ...\""), (["0: 1 b"], "`b` is no weight"), (["0: 1 -1"], "`-1` is no"),
            (["0: 1 inf"], "`inf` is no weight"), (["0: 0 0"], "no source has a weight"),
            (["5: 1 1"], "phases begin at step 0"), (["0: 1 1", "9: 1 2", "9: 2 1"], "\"9: 2 1\": phases begin"),
            (["0: 1 1", "1 2"], "expected \"STEP"), (["0: 1: 2"], "expected \"STEP"),
        ]
        for (lines, text) in cases {
            let message = complaint { _ = try SourceWeights(lines, sources: 2) }
            #expect(message?.hasPrefix("data.weights \"") == true && message?.contains(text) == true, "\(lines)")
        }
        #expect(complaint { _ = try SourceWeights(["1"], sources: 17) }
            == "data.weights: 17 sources, 16 are the most; put several into one folder")
    }
}

@Suite struct SourceSharesTests {
    private static let weights: [[Double]] = {
        var all: [[Double]] = [[1], [1, 1], [0.7, 0.3], [0.999, 0.001], [0, 1, 0, 1], [1, 2, 3], [5, 8, 13, 21, 34, 55]]
        for seed in 0..<60 {
            let rng = CounterRNG(seed: UInt64(seed), stream: 1), count = 1 + seed % 16
            // Some nearly equal, some over several magnitudes.
            all.append((0..<count).map { index in
                let value = rng.uniform(at: UInt64(index)) + 1e-3
                return seed % 2 == 0 ? value : value * value * value * value
            })
        }
        return all
    }()

    /// Each row has one owner, who counts its own without gaps, and nobody strays from the weights.
    @Test(arguments: weights) func everyRowHasItsPlace(weights: [Double]) {
        let shares = SourceShares(weights), sum = weights.reduce(0, +)
        var taken = [Int](repeating: 0, count: weights.count)
        let positive = weights.count { $0 > 0 }
        for row in 0..<4_000 {
            #expect(shares.counts(row, of: weights.count) == taken)
            let (source, index) = shares.place(of: row)
            #expect(index == taken[source] && weights[source] > 0)
            taken[source] += 1
            for (count, weight) in zip(taken, weights) {
                let error = abs(Double(count) - Double(row + 1) * weight / sum)
                #expect(error < (positive <= 3 ? 1 : 1.68), "\(weights) after \(row + 1): \(taken)")
            }
        }
        // Far into a run it is the same sum.
        let far = 3_000_000_017
        let counts = shares.counts(far, of: weights.count), (source, index) = shares.place(of: far)
        #expect(counts.reduce(0, +) == far && index == counts[source])
    }
}

@Suite struct MixtureTests {
    private static let phases = ["0: 5 3 2", "37: 1 1 8", "61: 0 1 0", "90: 2 2 2"]

    /// Three sources whose buckets hold rows as given, without text behind them.
    private func tables(_ counts: [[Int]]) -> [[RowTable]] {
        counts.map { buckets in
            buckets.enumerated().map { bucket, count in
                var table = RowTable(sequence: 8 << bucket)
                for row in 0..<count { table.append([Piece(position: row, count: 8 << bucket)]) }
                return table
            }
        }
    }

    private static let shapes = [[[100], [40], [7]], [[80, 40, 10], [3, 20, 30], [0, 9, 0]]]

    private func opened(_ counts: [[Int]], _ lines: [String] = phases) throws -> Mixture {
        try Mixture(tables(counts), SourceWeights(lines, sources: 3), sources: ["a", "b", "c"])
    }

    private struct Taken: Equatable {
        var bucket: Int, source: Int, row: Int
    }

    private func run(_ mixture: inout Mixture, _ position: inout DataPosition, steps: Int) -> [[Taken]] {
        (0..<steps).map { _ in
            let step = mixture.next(&position, tokens: 128, Curriculum(.growP2, cycles: 2))
            return step.rows.map { number in
                let (source, row) = mixture.place(number, bucket: step.bucket)
                return Taken(bucket: step.bucket, source: source, row: row)
            }
        }
    }

    /// Over all changes of weights each source gives its rows in order, none twice and none left out, so each of its
    /// epochs has each row once.
    @Test(arguments: shapes) func noRowIsLostOrRepeated(counts: [[Int]]) throws {
        var mixture = try opened(counts), position = DataPosition(fingerprint: 0, seed: 3)
        var next = counts.map { $0.map { _ in 0 } }
        for taken in run(&mixture, &position, steps: 200).joined() {
            #expect(taken.row == next[taken.source][taken.bucket])
            #expect(counts[taken.source][taken.bucket] > 0)
            next[taken.source][taken.bucket] += 1
        }
        #expect(next.joined().reduce(0, +) == position.rows.reduce(0) { $0 + Int($1) })
    }

    /// With one bucket, each phase's rows are shared out to within a row at every step.
    @Test func sharesFollowTheWeights() throws {
        let counts = Self.shapes[0], weights = try SourceWeights(Self.phases, sources: 3)
        var mixture = try opened(counts), position = DataPosition(fingerprint: 0, seed: 3)
        let steps = run(&mixture, &position, steps: 140)
        for (index, phase) in weights.phases.enumerated() {
            let end = index + 1 < weights.phases.count ? weights.phases[index + 1].step : steps.count
            var taken = [0.0, 0, 0], total = 0.0
            for step in phase.step..<end {
                for row in steps[step] { taken[row.source] += 1 }
                total += Double(steps[step].count)
                for source in 0..<3 { #expect(abs(taken[source] - phase.weights[source] * total) < 1) }
            }
        }
    }

    /// With several buckets, a source's share of the tokens follows its weight, and its buckets end together.
    @Test func tokensFollowTheWeights() throws {
        let counts = [[800, 400, 100], [30, 200, 300], [0, 90, 0]]
        var mixture = try opened(counts, ["5", "3", "2"]), position = DataPosition(fingerprint: 0, seed: 3)
        var tokens = [0.0, 0, 0], rows = counts.map { $0.map { _ in 0.0 } }
        for taken in run(&mixture, &position, steps: 4_000).joined() {
            tokens[taken.source] += Double(8 << taken.bucket)
            rows[taken.source][taken.bucket] += 1
        }
        for (source, weight) in [0.5, 0.3, 0.2].enumerated() {
            #expect(abs(tokens[source] / tokens.reduce(0, +) - weight) < 0.01, "\(tokens)")
            let epochs = zip(rows[source], counts[source]).filter { $0.1 > 0 }.map { $0 / Double($1) }
            #expect(epochs.max()! - epochs.min()! < 0.06 * epochs.max()! + 1, "\(epochs)")
        }
    }

    /// From the 64 bytes of any step, with tables opened anew, the rest is what it would have been; and a phase that
    /// is added at that step leaves everything before it alone.
    @Test(arguments: shapes) func anyStepIsASeek(counts: [[Int]]) throws {
        var whole = try opened(counts), end = DataPosition(fingerprint: 0, seed: 3)
        let all = run(&whole, &end, steps: 120)
        for stop in 0...120 {
            let known = Self.phases.filter { Int($0.prefix { $0 != ":" })! < max(stop, 1) }
            var first = try opened(counts, known), position = DataPosition(fingerprint: 0, seed: 3)
            #expect(run(&first, &position, steps: stop) == Array(all[..<stop]), "stopped at \(stop)")
            var second = try opened(counts), copy = try DataPosition(bytes: position.bytes)
            #expect(run(&second, &copy, steps: 120 - stop) == Array(all[stop...]), "stopped at \(stop)")
            #expect(copy == end)
        }
    }

    @Test func sourcesWithoutRowsAreNamed() throws {
        #expect(complaint { _ = try opened([[5], [0], [3]]) }
            == "data.weights: b has a weight but no documents to train on; set it to 0")
        var mixture = try opened([[5], [0], [3]], ["1", "0", "1"]), position = DataPosition(fingerprint: 0, seed: 3)
        #expect(!run(&mixture, &position, steps: 20).joined().contains { $0.source == 1 })
    }
}

@Suite struct WeightedCorpusTests {
    let folder: TemporaryFolder
    init() throws { folder = try TemporaryFolder() }

    /// Sources whose bytes tell them apart: a to h, i to p, q to x.
    private func corpus(_ layout: RowLayout) throws -> Corpus {
        let sources = try ["a", "b", "c"].enumerated().map { number, name in
            var text: [UInt8] = [], table = "offset\tlength\tsplit\tpath\n"
            for (index, length) in someLengths(30 + 20 * number, capacity: 300, seed: UInt64(number)).enumerated() {
                table += "\(text.count)\t\(length)\t\(index % 9 == 4 ? "valid" : "train")\t\(name)\(index)\n"
                let rng = CounterRNG(seed: UInt64(index), stream: 9)
                text += (0..<length).map { UInt8(97 + 8 * number + rng.integer(below: 8, at: UInt64($0))) }
            }
            try folder.write("\(name)/docs.txt", text)
            try folder.write("\(name)/docs.tsv", table)
            return folder.path + "/" + name
        }
        var options = CorpusOptions(sources: sources, sequence: 64, seed: 5, layout: layout)
        options.weights = try SourceWeights(["0: 6 3 1", "20: 1 1 1", "33: 0 1 4"], sources: 3)
        return try Corpus(options, tokenizer: ByteTokenizer())
    }

    static let layouts: [RowLayout] = [
        .packed(.concatenate), .packed(.bestFit), .decomposed(Decomposition(minimum: 3, maximum: 6, mode: .random)),
    ]

    /// One hash of all targets, whatever the number of ranks, and through a resume from any number to any other.
    @Test(arguments: layouts) func stepsDoNotDependOnRanks(layout: RowLayout) throws {
        func targets(_ worlds: [Int]) throws -> [Int32] {
            var all: [Int32] = [], saved = try corpus(layout).start.bytes
            for world in worlds {
                let corpus = try corpus(layout), batch = Batch(rows: 32, sequence: 64)
                var position = try DataPosition(bytes: saved)
                try corpus.check(position)
                for _ in 0..<12 {
                    let step = corpus.next(&position, tokens: 256, Curriculum(.growP2))
                    for rank in 0..<world {
                        let count = step.rows.count, first = step.rows.lowerBound
                        corpus.fill(batch, bucket: step.bucket,
                                    rows: (first + count * rank / world)..<(first + count * (rank + 1) / world))
                        all += batch.targets[..<batch.tokenCount]
                    }
                }
                saved = position.bytes
            }
            return all
        }
        let alone = try targets([1, 1, 1, 1])
        for worlds in [[2, 2, 2, 2], [3, 3, 3, 3], [5, 5, 5, 5], [8, 8, 8, 8], [5, 8, 1, 2], [3, 2, 8, 5]] {
            #expect(try targets(worlds) == alone)
        }
    }

    /// An epoch of a source has each pair of its input and target once, and nothing of another source.
    @Test(arguments: layouts) func aSourcesEpochIsItsStream(layout: RowLayout) throws {
        let corpus = try corpus(layout), batch = Batch(rows: 1, sequence: 64)
        var position = corpus.start, pairs = [[Int: Int]](repeating: [:], count: 3)
        var left = corpus.tables.map { $0.map(\.count) }
        for _ in 0..<4_000 where left.contains(where: { $0.contains { $0 > 0 } }) {
            let step = corpus.next(&position, tokens: 256, Curriculum(.uniform))
            for number in step.rows {
                let source = corpus.source(ofRow: number, bucket: step.bucket)
                guard left[source][step.bucket] > 0 else { continue }
                left[source][step.bucket] -= 1
                corpus.fill(batch, bucket: step.bucket, rows: number..<(number + 1))
                for (input, target) in zip(batch.inputs, batch.targets).prefix(batch.tokenCount) where target >= 0 {
                    #expect(target == 256 || Int(target - 97) / 8 == source)
                    pairs[source][Int(input) * 1_000 + Int(target), default: 0] += 1
                }
            }
        }
        // The first source's weight becomes 0 after its epoch has ended.
        #expect(left.allSatisfy { $0.allSatisfy { $0 == 0 } }, "\(left)")
        var plain = corpus.options
        plain.weights = nil
        for source in 0..<3 {
            plain.sources = [corpus.options.sources[source]]
            let stream = try Corpus(plain, tokenizer: ByteTokenizer()).train
            var tokens = [Int32](repeating: 0, count: stream.length + 1)
            stream.copy(0..<(stream.length + 1), into: &tokens, at: 0)
            var expected: [Int: Int] = [:]
            for (input, target) in zip(tokens, tokens.dropFirst()) {
                expected[Int(input) * 1_000 + Int(target), default: 0] += 1
            }
            #expect(pairs[source] == expected, "source \(source)")
        }
    }
}
