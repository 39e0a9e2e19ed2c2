import Base
import Corpus
import Model
import Tensor

/// A question with answers to choose from, in the fields that lm-evaluation-harness gives its documents.
public struct ChoiceQuestion: Sendable, Equatable, Codable {
    public var context: String
    public var choices: [String]
    /// The right one's place among them.
    public var gold: Int

    public init(context: String, choices: [String], gold: Int) {
        self.context = context
        self.choices = choices
        self.gold = gold
    }

    /// A JSON object a line: `context` (or `query`), `choices`, `gold` (or `label`). Other fields are passed over, and
    /// so are blank lines. path: for messages.
    public static func read(_ text: String, path: String) throws(BadInput) -> [ChoiceQuestion] {
        var questions: [ChoiceQuestion] = []
        // To Swift, CR and LF together are one character.
        let lines = text.split(omittingEmptySubsequences: false) { $0 == "\n" || $0 == "\r\n" }
        for (index, line) in lines.enumerated() {
            if line.allSatisfy(\.isWhitespace) { continue }
            func refuse(_ problem: String) -> BadInput {
                BadInput("\(path):\(index + 1): \(problem); a line is {\"context\": \"...\", \"choices\": [\"...\", "
                    + "\"...\"], \"gold\": 0}")
            }
            guard case .object(let fields)? = JSONValue(Array(line.utf8)) else { throw refuse("no JSON object") }
            guard let context = (fields["context"] ?? fields["query"])?.text else { throw refuse("no text `context`") }
            let choices = fields["choices"]?.list?.compactMap(\.text) ?? []
            guard choices.count >= 2, choices.count == fields["choices"]?.list?.count,
                  !choices.contains("") else { throw refuse("`choices` is no list of two or more texts") }
            guard let gold = (fields["gold"] ?? fields["label"])?.integer, choices.indices.contains(gold) else {
                throw refuse("`gold` is no number from 0 to \(choices.count - 1)")
            }
            questions.append(ChoiceQuestion(context: context, choices: choices, gold: gold))
        }
        guard !questions.isEmpty else { throw BadInput("\(path) holds no question") }
        return questions
    }
}

/// How often a model gives the right answer the highest probability.
public struct ChoiceEvaluation: Sendable, Equatable, Codable {
    /// The logarithm of each choice's probability behind the context, in nats; a list for each question.
    public internal(set) var logProbabilities: [[Double]] = []
    public internal(set) var questions: [ChoiceQuestion] = []

    /// The share of questions whose right choice has the highest probability: lm-evaluation-harness' `acc`.
    public var accuracy: Double { share(answers) }

    /// The choice with the highest probability, of each question.
    public var answers: [Int] { logProbabilities.map(Self.largest) }

    /// The same by probability for each character of the choice: `acc_norm`. Without it short choices win.
    public var normalizedAccuracy: Double { share(normalizedAnswers) }

    public var normalizedAnswers: [Int] {
        zip(questions, logProbabilities).map { question, scores in
            Self.largest(zip(scores, question.choices).map { $0 / Double($1.unicodeScalars.count) })
        }
    }

    /// The first of the largest; of numbers that are none, the first.
    private static func largest(_ scores: [Double]) -> Int { scores.firstIndex(of: scores.max() ?? 0) ?? 0 }

    /// The standard error of a share of this many questions.
    public func standardError(_ share: Double) -> Double {
        questions.count < 2 ? 0 : (share * (1 - share) / Double(questions.count - 1)).squareRoot()
    }

    private func share(_ answers: [Int]) -> Double {
        let right = zip(questions, answers).count { $0.gold == $1 }
        return Double(right) / Double(max(questions.count, 1))
    }
}

extension LoadedModel {
    /// Scores every choice behind its context, a `delimiter` between the two. As in lm-evaluation-harness blanks at the
    /// context's end belong to the choice, and a choice's tokens are those of the whole that are beyond as many as the
    /// context has. Of what is longer than `window` tokens the beginning is left out.
    public func evaluate(_ questions: [ChoiceQuestion], delimiter: String, window: Int, pool: Pool) throws
        -> ChoiceEvaluation {
        let end = Int(tokenizer.endOfDocument)
        var rows: [(question: Int, inputs: [Int], targets: [Int])] = []
        for (number, question) in questions.enumerated() {
            for choice in question.choices {
                let bare = String(question.context.reversed().drop(while: \.isWhitespace).reversed())
                let blanks = question.context.dropFirst(bare.count)
                let context = tokenizer.encode(bare).count
                let whole = [end] + tokenizer.encode(bare + blanks + delimiter + choice).map(Int.init)
                let first = max(0, whole.count - 1 - window)
                let inputs = Array(whole[first..<(whole.count - 1)])
                let targets = inputs.indices.map { first + $0 >= context ? whole[first + $0 + 1] : -1 }
                rows.append((number, inputs, targets))
            }
        }
        let decoder = try self.decoder(rows.map(\.inputs.count).max() ?? 1, 0, pool, scores: true)
        var result = ChoiceEvaluation()
        result.questions = questions
        result.logProbabilities = questions.map { _ in [] }
        for row in rows {
            decoder.reset()
            let scores = decoder.score(row.inputs, targets: row.targets)
            result.logProbabilities[row.question].append(scores.reduce(0) { $0 + $1.logProbability })
        }
        return result
    }
}
