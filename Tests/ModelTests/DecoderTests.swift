import Base
import Foundation
import Model
import Tensor
import Testing
import TestSupport

@Suite struct DecoderTests {
    /// Tied and untied, grouped queries, widths of no whole lanes, one row of one document each.
    static let cases = [
        ModelCase("one head", dim: 8, layers: 1, heads: 1, keyHeads: 1, ffn: 12, vocabulary: 11, rows: 1, sequence: 5),
        ModelCase("grouped queries", dim: 24, layers: 2, heads: 4, keyHeads: 2, ffn: 40, vocabulary: 257, rows: 1,
                  sequence: 150),
        ModelCase("tied head", dim: 24, layers: 2, heads: 4, keyHeads: 1, ffn: 17, vocabulary: 257, tied: true,
                  rows: 1, sequence: 70),
        ModelCase("width of no whole lanes", dim: 30, layers: 3, heads: 3, keyHeads: 3, ffn: 21, vocabulary: 19,
                  rows: 1, sequence: 200),
        ModelCase("a large vocabulary", dim: 16, layers: 1, heads: 2, keyHeads: 1, ffn: 16, vocabulary: 5_003,
                  tied: true, rows: 1, sequence: 20),
        ModelCase("wide heads, Llama 3's scaling", dim: 16, layers: 2, heads: 4, keyHeads: 2, ffn: 20, vocabulary: 37,
                  rows: 1, sequence: 90) {
            ($0.headWidth, $0.ropeScaling, $0.ropeOriginalLength) = (10, .llama3, 40)
        },
        ModelCase("biases", dim: 24, layers: 2, heads: 4, keyHeads: 2, ffn: 40, vocabulary: 41, tied: true, rows: 1,
                  sequence: 75) { $0.hasBias = true },
    ]

    /// The trainer's logits of all tokens of a case's row.
    private func wanted(_ each: ModelCase) throws -> [[Float]] {
        let memory = FencedMemory(), pool = Pool(threads: 1)
        defer { #expect(memory.isIntact) }
        let length = each.batch.sequence
        let model = try Transformer(each.table, maxTokens: length, sequence: length, pool: pool)
        let weights = Parameters(each.table, flat: memory.row(each.weights))
        let out = memory.matrix(each.batch.sequence, each.table.vocabulary)
        model.forward(each.batch.task, weights: weights)
        model.logits(out, tokens: each.batch.sequence, weights: weights)
        return (0..<each.batch.sequence).map { out.row($0).array }
    }

    private func decoder(_ each: ModelCase, prompt: Int, threads: Int = 1) throws -> Decoder {
        let memory = FencedMemory(), weights = Parameters(each.table, flat: memory.row(each.weights))
        defer { #expect(memory.isIntact) }
        let pool = Pool(threads: threads, spin: false)
        return try Decoder(each.table, capacity: each.batch.sequence, longestPrompt: prompt, pool: pool) {
            $1.copy(weights.values($0))
        }
    }

    private func expectNear(_ got: Row, _ want: [Float], _ comment: Comment) {
        let scale = want.map { abs($0) }.max() ?? 0
        let worst = zip(got.array, want).map { abs($0 - $1) }.max() ?? 0
        #expect(worst <= 1e-5 * scale, comment)
    }

    /// After every token of a row, however much of it was read at once, the logits are the trainer's. (A scale of the
    /// scores that is not the trainer's changes them in the first digits.)
    @Test(arguments: cases) func logitsAreTheTrainers(_ each: ModelCase) throws {
        let want = try wanted(each), tokens = each.batch.inputs
        for prompt in Set([1, 2, tokens.count / 2 + 1, tokens.count - 1]) where prompt < tokens.count {
            let decoder = try decoder(each, prompt: tokens.count)
            expectNear(decoder.read(Array(tokens[..<prompt])), want[prompt - 1], "\(each): a prompt of \(prompt)")
            for place in prompt..<tokens.count {
                expectNear(decoder.next(tokens[place]), want[place], "\(each): token \(place) behind \(prompt)")
            }
            #expect(decoder.position() == tokens.count)
            decoder.reset()
            for place in 0..<min(7, tokens.count) {
                expectNear(decoder.next(tokens[place]), want[place], "\(each): token \(place) alone")
            }
        }
    }

    /// A token's score is the trainer's loss of it, bit for bit where the head is not cut by words, and by the logits
    /// it is what a softmax in Double says.
    @Test(arguments: cases) func scoresAreTheTrainersLosses(_ each: ModelCase) throws {
        let memory = FencedMemory(), pool = Pool(threads: 2, spin: false), tokens = each.batch.inputs
        defer { #expect(memory.isIntact) }
        let weights = Parameters(each.table, flat: memory.row(each.weights)), logits = try wanted(each)
        let decoder = try Decoder(each.table, capacity: tokens.count, longestPrompt: tokens.count, pool: pool,
                                  scores: true) { $1.copy(weights.values($0)) }
        let scores = decoder.score(tokens, targets: each.batch.targets)
        let model = try Transformer(each.table, maxTokens: tokens.count, sequence: tokens.count, pool: pool)
        for place in tokens.indices {
            let target = each.batch.targets[place]
            guard target >= 0 else {
                #expect(scores[place] == TokenScore(logProbability: 0, isLikeliest: false))
                continue
            }
            let row = logits[place].map(Double.init), largest = row.max() ?? 0
            let want = row[target] - largest - log(row.reduce(0) { $0 + exp($1 - largest) })
            #expect(abs(scores[place].logProbability - want) < 1e-5 * max(1, abs(want)))
            #expect(scores[place].isLikeliest == (row[target] == largest))
            if place % 7 == 0 {
                let alone = Batch(of: each.batch, target: place).task
                model.forward(alone, weights: weights)
                let loss = model.loss(alone, weights: weights), off = abs(loss + scores[place].logProbability)
                // The trainer adds up blocks of a large vocabulary, and a score takes it whole.
                #expect(off == 0 || each.table.vocabulary >= 4_096 && off < 1e-6 * loss, "token \(place): \(off)")
            }
        }
    }

    /// Texts that are written side by side have the logits that each has alone, bit for bit: some begun later, one
    /// ended on the way and another in its place.
    @Test(arguments: cases) func textsSideBySideHaveTheirOwnBits(_ each: ModelCase) throws {
        let tokens = each.batch.inputs, count = min(12, tokens.count)
        func text(_ number: Int) -> [Int] { (0..<count).map { tokens[($0 * (number + 1) + number) % tokens.count] } }
        func alone(_ number: Int) throws -> [[Float]] {
            let decoder = try decoder(each, prompt: count), words = text(number)
            return [decoder.read([words[0]]).array] + words.dropFirst().map { decoder.next($0).array }
        }
        let memory = FencedMemory(), weights = Parameters(each.table, flat: memory.row(each.weights))
        defer { #expect(memory.isIntact) }
        let together = try Decoder(each.table, texts: 3, capacity: count, longestPrompt: count,
                                  pool: Pool(threads: 2, spin: false)) { $1.copy(weights.values($0)) }
        let want = try (0..<4).map(alone)
        var got: [Int: [[Float]]] = [:], places: [(number: Int, place: Int)] = []
        func begin(_ number: Int, _ place: Int) {
            together.reset(text: place)
            got[number] = [together.read([text(number)[0]], text: place).array]
            places.append((number, place))
        }
        begin(0, 2)
        for step in 0..<(3 * count) where !places.isEmpty || step < 4 {
            if step == 1 { begin(1, 0) }
            if step == 2 { begin(2, 1) }
            // The second one is given up, and the fourth takes its place.
            if step == 3 {
                places.removeAll { $0.number == 1 }
                begin(3, 0)
            }
            let due = places.filter { got[$0.number]!.count < count }
            let logits = together.next(due.map { ($0.place, text($0.number)[got[$0.number]!.count]) })
            for (row, each) in due.enumerated() { got[each.number]!.append(logits.row(row).array) }
            places = due
        }
        for number in 0..<4 {
            for (place, logits) in got[number]!.enumerated() {
                #expect(mismatch(logits, want[number][place]) == nil, "\(each): text \(number), token \(place)")
            }
            #expect(got[number]!.count == (number == 1 ? got[1]!.count : count))
        }
    }

    @Test(arguments: cases) func threadsDoNotChangeBits(_ each: ModelCase) throws {
        let tokens = each.batch.inputs, half = tokens.count / 2 + 1
        let logits = try [1, 2, 3].map { threads in
            let decoder = try decoder(each, prompt: half, threads: threads)
            let first = decoder.read(Array(tokens[..<half])).array
            return first + tokens[half...].flatMap { decoder.next($0).array }
        }
        #expect(mismatch(logits[0], logits[1]) == nil && mismatch(logits[0], logits[2]) == nil)
    }
}

@Suite struct SamplerTests {
    private func row(_ values: [Float], _ memory: FencedMemory) -> Row { memory.row(values) }

    /// Every token that can come is among the `topK` likeliest by a full sort, and comes as often as it should.
    @Test(arguments: [0, 1, 2, 3, 7, 40, 41, 1_000]) func theLikeliestAndTheirShares(topK: Int) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        // Equal logits on purpose: the lower id is the likelier.
        let values = (0..<40).map { Float(($0 * 17) % 13) * 0.4 }
        let sorted = values.indices.sorted { (-values[$0], $0) < (-values[$1], $1) }
        let allowed = topK > 0 ? Array(sorted.prefix(topK)) : sorted
        let temperature = 0.7, weights = allowed.map { exp(Double(values[$0]) / temperature) }
        let total = weights.reduce(0, +)
        let sampler = Sampler(temperature: temperature, topK: topK, seed: 9), draws = 20_000
        var counts: [Int: Int] = [:]
        let logits = row(values, memory)
        for counter in 0..<draws { counts[sampler.choose(logits, counter: counter), default: 0] += 1 }
        #expect(Set(counts.keys).isSubset(of: allowed))
        for (token, weight) in zip(allowed, weights) {
            let share = weight / total, expected = share * Double(draws)
            let deviation = (Double(draws) * share * (1 - share)).squareRoot()
            #expect(abs(Double(counts[token] ?? 0) - expected) <= 5 * deviation + 1, "token \(token)")
        }
    }

    /// The tokens of a nucleus, found by a full sort, come as often as they should, and no others do.
    @Test(arguments: [0.01, 0.3, 0.5, 0.9, 0.999, 1.0], [0, 7]) func nucleus(topP: Double, topK: Int) {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let values = (0..<40).map { Float(($0 * 17) % 13) * 0.4 }
        var sorted = values.indices.sorted { (-values[$0], $0) < (-values[$1], $1) }
        if topK > 0 { sorted = Array(sorted.prefix(topK)) }
        let all = sorted.reduce(0.0) { $0 + exp(Double(values[$1]) / 0.7) }
        var allowed: [Int] = [], sum = 0.0
        for token in sorted where sum < topP * all {
            allowed.append(token)
            sum += exp(Double(values[token]) / 0.7)
        }
        if topP == 1 { (allowed, sum) = (sorted, all) }
        let sampler = Sampler(temperature: 0.7, topK: topK, topP: topP, seed: 3), draws = 20_000
        let logits = row(values, memory)
        var counts: [Int: Int] = [:]
        for counter in 0..<draws { counts[sampler.choose(logits, counter: counter), default: 0] += 1 }
        #expect(Set(counts.keys).isSubset(of: allowed))
        for token in allowed {
            let share = exp(Double(values[token]) / 0.7) / sum
            let deviation = (Double(draws) * share * (1 - share)).squareRoot()
            #expect(abs(Double(counts[token] ?? 0) - share * Double(draws)) <= 5 * deviation + 1, "token \(token)")
        }
    }

    @Test func zeroTakesTheFirstOfTheLikeliest() {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let sampler = Sampler(temperature: 0, topK: 3, seed: 0)
        #expect(sampler.choose(row([1, 5, 2, 5, 5], memory), counter: 0) == 1)
        #expect(sampler.choose(row([-3], memory), counter: 4) == 0)
    }

    @Test func aSeedIsAText() {
        let memory = FencedMemory(), logits = row(normals(300, seed: 4), memory)
        defer { #expect(memory.isIntact) }
        func draws(_ seed: Int) -> [Int] {
            let sampler = Sampler(temperature: 1, topK: 0, seed: seed)
            return (0..<50).map { sampler.choose(logits, counter: $0) }
        }
        #expect(draws(1) == draws(1) && draws(1) != draws(2))
    }
}
