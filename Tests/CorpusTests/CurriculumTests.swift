import Base
import Corpus
import Foundation
import Testing

@Suite struct CurriculumTests {
    static let odds: [Curriculum.Odds] = [.uniform, .growLinear, .growP2, .growP100, .shrinkP100, .natural,
                                          .free([0, 3, 1, 0.5])]

    /// Four buckets of 8 to 64 inputs with the given numbers of rows, without text behind them.
    private func tables(_ counts: [Int]) -> [RowTable] {
        counts.enumerated().map { index, count in
            var table = RowTable(sequence: 8 << index)
            for row in 0..<count { table.append([Piece(position: row, count: 1)]) }
            return table
        }
    }

    private func run(_ tables: [RowTable], steps: Int, _ curriculum: Curriculum,
                     from start: DataPosition = DataPosition(fingerprint: 1, seed: 2)) -> ([StepRows], DataPosition) {
        var position = start
        return ((0..<steps).map { _ in position.next(tables, tokens: 128, curriculum) }, position)
    }

    /// Rows are numbered without gap or repeat, a step is always as many tokens, and at the end of each part
    /// every bucket has given its share, up to the step that did not fit.
    @Test(arguments: odds) func bucketsAreReadAtOneRate(odds: Curriculum.Odds) {
        for counts in [[400, 200, 100, 50], [37, 500, 1, 90], [0, 3, 1000, 0], [16, 8, 4, 2]] {
            for cycles in [1, 3, 8] {
                let tables = tables(counts), curriculum = Curriculum(odds, cycles: cycles)
                let tokens = zip(tables, counts).reduce(0) { $0 + $1.0.sequence * $1.1 }
                let (steps, _) = run(tables, steps: 5 * tokens / 128, curriculum)
                var taken = [Int](repeating: 0, count: 4), current = 0
                for step in steps {
                    #expect(step.sequence == 8 << step.bucket && step.rows.count * step.sequence == 128)
                    #expect(step.rows.lowerBound == taken[step.bucket])
                    taken[step.bucket] = step.rows.upperBound
                    // The part that this step ends in: never an earlier one than before.
                    let size = counts[step.bucket]
                    let part = (taken[step.bucket] * cycles + size - 1) / size
                    #expect(part >= current)
                    current = part
                    for bucket in 0..<4 where counts[bucket] > 0 {
                        let due = counts[bucket] * (part - 1) / cycles
                        #expect(taken[bucket] + 128 / (8 << bucket) > due, "a bucket fell behind")
                    }
                }
            }
        }
    }

    @Test func growingOddsGrowLengths() {
        let tables = tables([1600, 800, 400, 200])
        func meanLengths(_ odds: Curriculum.Odds) -> [Double] {
            let (steps, _) = run(tables, steps: 400, Curriculum(odds))
            return (0..<4).map { part in
                steps[(100 * part)..<(100 * part + 100)].reduce(0) { $0 + Double($1.sequence) } / 100
            }
        }
        for odds in [Curriculum.Odds.growLinear, .growP2, .growP100] {
            let lengths = meanLengths(odds)
            #expect(lengths.first! < 25 && lengths.last! > 40, "\(odds): \(lengths)")
        }
        #expect(meanLengths(.growP100) == [8, 16, 32, 64] || meanLengths(.growP100)[0] < 10)
        #expect(meanLengths(.shrinkP100).first! > 60 && meanLengths(.shrinkP100).last! < 10)
        for odds in [Curriculum.Odds.uniform, .natural] {
            // Mean 30; each quarter's mean has a deviation of about 2.
            for length in meanLengths(odds).dropLast() { #expect(abs(length - 30) < 9, "\(odds)") }
        }
    }

    /// Odds decide the first draws: 32 to 1 between the ends of Grow-P2 over six equal buckets.
    @Test func oddsAreThePapers() {
        let odds: [(Curriculum.Odds, [Double])] = [
            (.uniform, [1, 1, 1, 1, 1, 1]), (.growLinear, [12, 10, 8, 6, 4, 2]), (.growP2, [64, 32, 16, 8, 4, 2]),
            (.growP100, [2e10, 2e8, 2e6, 2e4, 200, 2]), (.shrinkP100, [2, 200, 2e4, 2e6, 2e8, 2e10]),
            (.natural, [2, 2, 2, 2, 2, 2]), (.free([0, 1, 2, 3, 4, 5]), [0, 2, 4, 6, 8, 10]),
        ]
        for (odds, expected) in odds {
            #expect((0..<6).map { Curriculum(odds).weight($0, of: 6, steps: 2) } == expected)
        }
        let (steps, _) = run(tables([160_000, 80_000, 40_000, 20_000]), steps: 15_000, Curriculum(.growP2))
        let counts = (0..<4).map { bucket in steps.count { $0.bucket == bucket } }
        for (count, expected) in zip(counts, [8_000, 4_000, 2_000, 1_000]) { #expect(abs(count - expected) < 300) }
    }

    /// Six equal buckets of 2^8 to 2^13, as in the paper: the mean length of each eighth of an epoch, as another
    /// simulation of Algorithm 1 found it.
    @Test func growP2HasItsKnownShape() {
        let tables = (8...13).map { exponent in
            var table = RowTable(sequence: 1 << exponent)
            for row in 0..<(400 << (13 - exponent)) { table.append([Piece(position: row, count: 1)]) }
            return table
        }
        var position = DataPosition(fingerprint: 0, seed: 4)
        let lengths = (0..<2_400).map { _ in
            Double(position.next(tables, tokens: 8_192, Curriculum(.growP2)).sequence)
        }
        let expected: [Double] = [787, 819, 843, 1_402, 2_269, 3_413, 4_785, 7_181]
        for (part, mean) in expected.enumerated() {
            let found = lengths[(300 * part)..<(300 * part + 300)].reduce(0, +) / 300
            #expect(abs(found / mean - 1) < 0.3, "part \(part): \(found)")
        }
    }

    /// 64 bytes at any step continue as if nothing had happened.
    @Test func aPositionIsEverythingThatIsNeeded() throws {
        let tables = tables([40, 20, 10, 5]), curriculum = Curriculum(.growP2, cycles: 2)
        let (whole, end) = run(tables, steps: 60, curriculum)
        for stop in 0...60 {
            let (_, position) = run(tables, steps: stop, curriculum)
            #expect(position.bytes.count == 64)
            let copy = try DataPosition(bytes: position.bytes)
            #expect(copy == position)
            let (rest, last) = run(tables, steps: 60 - stop, curriculum, from: copy)
            #expect(rest == Array(whole[stop...]) && last == end)
        }
        #expect(complaint { _ = try DataPosition(bytes: [1, 2, 3]) }
            == "a data position of 3 bytes: it has 64; the checkpoint is damaged")
    }

    /// New odds and new step sizes in the middle of a run neither repeat a row nor lose one.
    @Test func changesInTheMiddleLoseNothing() {
        let tables = tables([640, 320, 160, 80])
        var position = DataPosition(fingerprint: 0, seed: 9), taken = [Int](repeating: 0, count: 4)
        for step in 0..<500 {
            let odds = Self.odds[step / 40 % Self.odds.count]
            let curriculum = Curriculum(odds, cycles: 1 + step / 100)
            let rows = position.next(tables, tokens: step % 3 == 0 ? 64 : 192, curriculum)
            #expect(rows.rows.lowerBound == taken[rows.bucket])
            taken[rows.bucket] = rows.rows.upperBound
        }
        let epochs = zip(taken, [640, 320, 160, 80]).map { Double($0) / Double($1) }
        #expect(epochs.max()! - epochs.min()! < 1.2)
    }
}

@Suite struct DecomposedCorpusTests {
    let folder: TemporaryFolder
    init() throws { folder = try TemporaryFolder() }

    private func corpus(_ layout: RowLayout, seed: UInt64 = 1, mask: Bool = true) throws -> Corpus {
        var text: [UInt8] = [], table = "offset\tlength\tsplit\tpath\n"
        for (index, length) in someLengths(60, capacity: 400, seed: 6).enumerated() {
            table += "\(text.count)\t\(length)\t\(index % 9 == 4 ? "valid" : "train")\t\(index)\n"
            text += someText(length, seed: UInt64(index))
        }
        try folder.write("docs.txt", text)
        try folder.write("docs.tsv", table)
        return try Corpus(CorpusOptions(sources: [folder.path], sequence: 64, seed: seed, documentMask: mask,
                                        layout: layout, validationLayout: .bestFit), tokenizer: ByteTokenizer())
    }

    /// How often each pair of an input and its target occurs.
    private func pairs(_ inputs: some Sequence<Int32>, _ targets: some Sequence<Int32>) -> [Int: Int] {
        zip(inputs, targets).reduce(into: [:]) { counts, pair in
            if pair.1 >= 0 { counts[Int(pair.0) * 1_000 + Int(pair.1), default: 0] += 1 }
        }
    }

    static let layouts: [RowLayout] = PackingMethod.allCases.map { .packed($0) } + DecompositionTests.modes.map {
        .decomposed(Decomposition(minimum: 3, maximum: 6, mode: $0, seed: 5))
    }

    /// In each layout and each of two epochs the same pairs of input and target are learnt, once each.
    @Test(arguments: layouts) func everyLayoutLearnsTheSamePairs(layout: RowLayout) throws {
        let corpus = try corpus(layout)
        let stream = corpus.train
        var tokens = [Int32](repeating: 0, count: stream.length + 1)
        stream.copy(0..<(stream.length + 1), into: &tokens, at: 0)
        let expected = pairs(tokens, tokens.dropFirst())
        for epoch in 0..<2 {
            var found: [Int: Int] = [:], targetCount = 0
            for bucket in 0..<corpus.bucketCount where corpus.rowsPerEpoch(inBucket: bucket) > 0 {
                let rows = corpus.rowsPerEpoch(inBucket: bucket), sequence = corpus.sequence(ofBucket: bucket)
                let batch = Batch(rows: rows, sequence: sequence)
                corpus.fill(batch, bucket: bucket, rows: (epoch * rows)..<((epoch + 1) * rows))
                #expect(batch.rows == rows && batch.sequence == sequence)
                found.merge(pairs(batch.inputs, batch.targets), uniquingKeysWith: +)
                targetCount += batch.targetCount
            }
            #expect(found == expected && targetCount == stream.length)
        }
        // Validation is whole documents, whatever the layout of training.
        let batch = Batch(rows: corpus.validationRowCount, sequence: 64)
        corpus.fillValidation(batch, rows: 0..<corpus.validationRowCount)
        #expect(batch.targets.count { $0 >= 0 && $0 != 256 } == corpus.validationByteCount)
        #expect(batch.targets.count { $0 == 256 } == corpus.validationDocumentCount)
    }

    /// Within a segment each input is its predecessor's target, so segments are stretches of one document.
    @Test(arguments: layouts) func segmentsAreStretchesOfOneDocument(layout: RowLayout) throws {
        let corpus = try corpus(layout)
        for bucket in 0..<corpus.bucketCount where corpus.rowsPerEpoch(inBucket: bucket) > 0 {
            let rows = corpus.rowsPerEpoch(inBucket: bucket)
            let batch = Batch(rows: rows, sequence: corpus.sequence(ofBucket: bucket))
            corpus.fill(batch, bucket: bucket, rows: 0..<rows)
            let starts = batch.documentStarts[..<batch.documentStartCount]
            #expect(starts.first == 0 && starts.last == Int32(batch.tokenCount))
            for (begin, end) in zip(starts, starts.dropFirst()) {
                #expect(begin < end)
                for position in Int(begin + 1)..<Int(max(end, begin + 1)) where batch.targets[position] >= 0 {
                    #expect(batch.inputs[position] == batch.targets[position - 1])
                    #expect(batch.inputs[position] != 256)
                }
            }
        }
    }

    /// The same steps for any number of ranks, and through a save and a resume on another number.
    @Test func stepsDoNotDependOnRanks() throws {
        let corpus = try corpus(.decomposed(Decomposition(minimum: 3, maximum: 6, mode: .random, seed: 5)))
        let curriculum = Curriculum(.growP2, cycles: 2)
        func targets(_ worlds: [Int]) throws -> [Int32] {
            var all: [Int32] = [], position = corpus.start
            let batch = Batch(rows: 32, sequence: 64)
            for world in worlds {
                try corpus.check(position)
                for _ in 0..<12 {
                    let step = corpus.next(&position, tokens: 256, curriculum)
                    let count = step.rows.count, first = step.rows.lowerBound
                    for rank in 0..<world {
                        let part = (first + count * rank / world)..<(first + count * (rank + 1) / world)
                        corpus.fill(batch, bucket: step.bucket, rows: part)
                        all += batch.targets[..<batch.tokenCount]
                    }
                }
                position = try DataPosition(bytes: position.bytes)
            }
            return all
        }
        let alone = try targets([1, 1, 1, 1])
        for worlds in [[2, 2, 2, 2], [3, 3, 3, 3], [5, 8, 1, 2], [8, 3, 5, 1]] {
            #expect(try targets(worlds) == alone)
        }
    }

    @Test func aPositionOfOtherDataIsRefused() throws {
        let corpus = try corpus(.packed(.concatenate))
        let other = DataPosition(fingerprint: corpus.fingerprint ^ 1, seed: 1)
        #expect(complaint { try corpus.check(other) }?.hasPrefix("the data has changed since the checkpoint") == true)
        let seed = DataPosition(fingerprint: corpus.fingerprint, seed: 2)
        let message = complaint { try corpus.check(seed) }
        #expect(message?.hasPrefix("the checkpoint's data order has the seed 2, not 1") == true)
    }

    @Test func limitsShapeRows() throws {
        let corpus = try corpus(.packed(.concatenate), mask: false)
        let full = Batch(rows: 4, sequence: 64), batch = Batch(rows: 4, sequence: 64)
        corpus.fill(full, rows: 0..<4)
        func starts() -> [Int32] { Array(batch.documentStarts[..<batch.documentStartCount]) }

        corpus.fill(batch, rows: 0..<4, limit: .truncate(24))
        #expect(batch.rows == 4 && batch.sequence == 24 && batch.targetCount == 96)
        for row in 0..<4 {
            let begin = full.targets[(64 * row)..<(64 * row + 24)]
            #expect(batch.targets[(24 * row)..<(24 * row + 24)].elementsEqual(begin))
        }
        #expect(starts() == [0, 24, 48, 72, 96])

        // 24 does not divide 64; 16 does.
        corpus.fill(batch, rows: 0..<4, limit: .reshape(24))
        #expect(batch.rows == 16 && batch.sequence == 16)
        #expect(batch.inputs == full.inputs && batch.targets == full.targets)
        #expect(batch.targetCount == full.targetCount)
        #expect(starts() == (0...16).map { Int32(16 * $0) })

        corpus.fill(batch, rows: 0..<4, limit: .window(24))
        #expect(batch.rows == 4 && batch.sequence == 64 && batch.targets == full.targets)
        #expect(starts() == [0, 24, 48, 64, 88, 112, 128, 152, 176, 192, 216, 240, 256])

        for limit in [SequenceLimit.none, .truncate(64), .truncate(1_000), .reshape(64), .window(64)] {
            corpus.fill(batch, rows: 0..<4, limit: limit)
            #expect(batch.inputs == full.inputs && starts() == [0, 64, 128, 192, 256], "\(limit)")
        }
    }
}

@Suite struct LengthWarmupTests {
    @Test func linearGrowthIsTheFormula() {
        let warmup = LengthWarmup(minimum: 8, maximum: 1_024, steps: 300, multiple: 8)
        for step in 0...400 {
            let exact = step >= 300 ? 1_024 : step * (1_024 - 8) / 300 + 8
            #expect(abs(warmup.length(at: step) - (exact - exact % 8)) <= (exact % 8 == 0 ? 8 : 0), "step \(step)")
            #expect(warmup.length(at: step) % 8 == 0 && (8...1_024).contains(warmup.length(at: step)))
        }
        #expect(warmup.length(at: 0) == 8 && warmup.length(at: 299) < 1_024 && warmup.length(at: 300) == 1_024)
    }

    @Test func rootsGrowFasterAtFirst() {
        let linear = LengthWarmup(minimum: 64, maximum: 1_024, steps: 100, multiple: 64)
        let root = LengthWarmup(growth: .root(2), minimum: 64, maximum: 1_024, steps: 100, multiple: 64)
        // (1/4)^(1/2) of the way: 64 + 480 = 544, rounded down to 512.
        #expect(root.length(at: 25) == 512 && linear.length(at: 25) == 256)
        for step in 0..<100 {
            #expect(root.length(at: step) >= linear.length(at: step))
            #expect(root.length(at: step) <= root.length(at: step + 1))
        }
    }

    @Test func discreteLengthsEndWhereTheySay() {
        let warmup = LengthWarmup(growth: .discrete(lengths: [16, 32, 64], until: [10, 20]), method: .window,
                                  minimum: 16, maximum: 64, steps: 20)
        #expect([0, 9, 10, 19, 20, 1_000].map { warmup.length(at: $0) } == [16, 16, 32, 32, 64, 64])
        #expect(warmup.limit(at: 9) == .window(16) && warmup.limit(at: 20) == .none)
        var other = warmup
        other.method = .reshape
        #expect(other.limit(at: 15) == .reshape(32))
        other.method = .truncate
        #expect(other.limit(at: 15) == .truncate(32))
    }

    @Test func aWarmupWithoutStepsIsAtItsEnd() {
        #expect(LengthWarmup(minimum: 8, maximum: 64, steps: 0).length(at: 0) == 64)
    }
}
