import Base
import Checkpoint
import Corpus
import Foundation
import Model
import Tensor
import Testing
import Trainer

/// Evaluation against the plainest way to do it: one token after the other, a softmax in Double.
@Suite struct EvaluationTests {
    private func withModel(_ body: (LoadedModel, Pool) throws -> Void) throws {
        let path = NSTemporaryDirectory() + "skein-evaluation-\(UUID().uuidString)"
        let pool = Pool(threads: 2, spin: false)
        defer {
            pool.close()
            try? FileManager.default.removeItem(atPath: path)
        }
        let report = try ModelImport(PublishedModelTests.golden("qwen2"), out: path, tokenizer: "bytes").run(pool: pool)
        try body(try LoadedModel(path: report.path), pool)
    }

    /// The logarithm of each token's probability behind all before it, the first one's excepted.
    private func naive(_ tokens: [Int], _ model: LoadedModel, _ pool: Pool) throws -> [Double] {
        let decoder = try model.decoder(tokens.count, 0, pool)
        return tokens.indices.dropLast().map { place in
            let logits = decoder.next(tokens[place]), row = (0..<logits.count).map { Double(logits[$0]) }
            let largest = row.max() ?? 0
            return row[tokens[place + 1]] - largest - log(row.reduce(0) { $0 + exp($1 - largest) })
        }
    }

    private static let texts = ["A short one.", "x", "", String(repeating: "Longer than any window. ", count: 4)]
        .map { Array($0.utf8) }

    /// Every window of every document, and which tokens count in it, spelt out again.
    @Test(arguments: [(20, 20), (20, 7), (1, 1), (64, 64), (200, 200)]) func texts(window: Int, stride: Int) throws {
        try withModel { model, pool in
            let result = try model.evaluate(texts: Self.texts, window: window, stride: stride, pool: pool)
            var counts: [Int: Int] = [:], nats: [Int: Double] = [:]
            for text in Self.texts {
                let tokens = [256] + text.map { Int($0) }
                var done = 0, start = 0
                while done < text.count {
                    let end = min(start + window, text.count)
                    let scores = try naive(Array(tokens[start...end]), model, pool)
                    for place in done..<end {
                        let position = place - start
                        let band = position < 16 ? 0 : Int(log2(Double(position)))
                        counts[band, default: 0] += 1
                        nats[band, default: 0] -= scores[position]
                    }
                    done = end
                    start += stride
                }
            }
            #expect(result.documents == Self.texts.count)
            #expect(result.all.tokens == Self.texts.reduce(0) { $0 + $1.count })
            #expect(result.all.bytes == result.all.tokens)
            #expect(result.bands.map(\.tokens) == counts.sorted { $0.key < $1.key }.map(\.value))
            for (band, want) in zip(result.bands, nats.sorted { $0.key < $1.key }.map(\.value)) {
                #expect(abs(band.nats - want) < 1e-5 * want, "\(band)")
                #expect(band.last < window)
            }
            let all = nats.values.reduce(0, +)
            #expect(abs(result.perplexity / exp(all / Double(result.all.tokens)) - 1) < 1e-5)
            #expect(abs(result.all.bitsPerByte - all / log(2) / Double(result.all.bytes)) < 1e-5)
        }
    }

    @Test func nothingToForetell() throws {
        try withModel { model, pool in
            let result = try model.evaluate(texts: [[], []], window: 8, stride: 8, pool: pool)
            #expect(result.documents == 2 && result.bands.isEmpty && result.all.tokens == 0)
        }
    }

    @Test func choices() throws {
        let questions = [
            ChoiceQuestion(context: "Two and two are", choices: ["four", "five hundred", "a"], gold: 0),
            ChoiceQuestion(context: "Blanks at the end  ", choices: ["are theirs", "go"], gold: 1),
            ChoiceQuestion(context: "", choices: ["alone", "b"], gold: 1),
        ]
        try withModel { model, pool in
            let result = try model.evaluate(questions, delimiter: " ", window: 64, pool: pool)
            var right = 0, normalized = 0
            for (question, found) in zip(questions, result.logProbabilities) {
                let bare = question.context.trimmingCharacters(in: .whitespaces)
                let want = try question.choices.map { choice in
                    let whole = [256] + Array("\(question.context) \(choice)".utf8).map { Int($0) }
                    return try naive(whole, model, pool).dropFirst(bare.utf8.count).reduce(0, +)
                }
                #expect(zip(found, want).allSatisfy { abs($0 - $1) < 1e-5 * abs($1) } && found.count == want.count)
                func best(_ scores: [Double]) -> Int { scores.indices.max { scores[$0] < scores[$1] } ?? -1 }
                right += best(want) == question.gold ? 1 : 0
                normalized += best(zip(want, question.choices).map { $0 / Double($1.count) }) == question.gold ? 1 : 0
            }
            #expect(result.accuracy == Double(right) / 3 && result.normalizedAccuracy == Double(normalized) / 3)
            #expect(abs(result.standardError(0.25) - (0.25 * 0.75 / 2).squareRoot()) < 1e-12)
            // What is too long for the window loses its beginning, and the choice is still scored.
            let cut = try model.evaluate([questions[0]], delimiter: " ", window: 6, pool: pool)
            let whole = Array("two are four".utf8).map { Int($0) }
            let want = try naive(Array(whole.suffix(7)), model, pool).suffix(5).reduce(0, +)
            #expect(abs(cut.logProbabilities[0][0] - want) < 1e-5 * abs(want))
        }
    }

    @Test(arguments: [
        ("", "holds no question"), ("[1]", "t.jsonl:1: no JSON object"),
        ("{\"choices\":[\"a\",\"b\"],\"gold\":0}", "no text"),
        ("\n{\"context\":\"c\",\"choices\":[\"a\"],\"gold\":0}", "t.jsonl:2: `choices` is no list"),
        ("{\"context\":\"c\",\"choices\":[\"a\",2],\"gold\":0}", "`choices` is no list"),
        ("{\"context\":\"c\",\"choices\":[\"a\",\"\"],\"gold\":0}", "`choices` is no list"),
        ("{\"context\":\"c\",\"choices\":[\"a\",\"b\"],\"gold\":2}", "`gold` is no number from 0 to 1"),
    ]) func badQuestions(_ text: String, _ words: String) {
        let error = #expect(throws: BadInput.self) { try ChoiceQuestion.read(text, path: "t.jsonl") }
        #expect(error.map { "\($0)".contains(words) } == true, "\(error as Any)")
    }

    @Test func questionsInOtherWords() throws {
        let text = "{\"query\":\"q\",\"choices\":[\"a\",\"b\"],\"label\":1,\"id\":7}\n\n"
            + "{\"context\":\"c\",\"choices\":[\"a\",\"b\"],\"gold\":0}\r\n"
        #expect(try ChoiceQuestion.read(text, path: "t") == [
            ChoiceQuestion(context: "q", choices: ["a", "b"], gold: 1),
            ChoiceQuestion(context: "c", choices: ["a", "b"], gold: 0),
        ])
    }

    /// However a text is cut on its way in, what comes out is what stands before the first stop.
    @Test(arguments: [["END"], ["aab", "b"], ["\n\n", "Q:"], []]) func stops(_ stops: [String]) {
        for text in ["no stop here", "aaaab rest", "one\n\ntwo", "ENENDEND", "Q", "", "a\nQ: x"] {
            let bytes = Array(text.utf8)
            let places = stops.compactMap { text.range(of: $0)?.lowerBound }
            let first = places.map { text.utf8.distance(from: text.startIndex, to: $0) }.min()
            for size in 1...4 {
                var buffer = StopBuffer(stops.map { Array($0.utf8) }), shown: [UInt8] = [], stopped = false
                for start in stride(from: 0, to: bytes.count, by: size) where !stopped {
                    let part = buffer.push(Array(bytes[start..<min(start + size, bytes.count)]))
                    shown += part.text
                    stopped = part.isStopped
                }
                if !stopped { shown += buffer.finish() }
                #expect(shown == Array(bytes[..<(first ?? bytes.count)]), "\(text) by \(size)")
                #expect(stopped == (first != nil))
            }
        }
    }
}
