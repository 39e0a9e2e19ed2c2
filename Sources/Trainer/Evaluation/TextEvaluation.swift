import Base
import Corpus
import Model
import Tensor

/// How well a model foretells texts: losses summed over tokens, by how much of the text stood before them.
public struct TextEvaluation: Sendable, Equatable, Codable {
    /// Tokens at the positions `first...last` of their window: position n has n tokens of its own window before it,
    /// and the token that begins a document.
    public struct Band: Sendable, Equatable, Codable {
        public let first: Int
        public internal(set) var last: Int
        public internal(set) var tokens = 0
        /// Of text, that the tokens stand for.
        public internal(set) var bytes = 0
        /// Summed losses.
        public internal(set) var nats = 0.0
        /// Tokens than which no other was likelier.
        public internal(set) var likeliest = 0

        /// Bits a byte of text.
        public var bitsPerByte: Double { nats / ln2 / Double(max(bytes, 1)) }
        /// Nats a token.
        public var loss: Double { nats / Double(max(tokens, 1)) }

        init(_ first: Int, _ last: Int) { (self.first, self.last) = (first, last) }

        mutating func add(_ other: Band) {
            tokens += other.tokens
            bytes += other.bytes
            nats += other.nats
            likeliest += other.likeliest
        }
    }

    public internal(set) var documents = 0
    /// By powers of two: 0...15, 16...31, 32...63 and so on. Those without a token are left out.
    public internal(set) var bands: [Band] = []

    /// All bands together.
    public var all: Band {
        var sum = Band(0, bands.last?.last ?? 0)
        for band in bands { sum.add(band) }
        return sum
    }

    /// e to the loss: of how many tokens, all equally likely, one would be as hard to foretell.
    public var perplexity: Double { exponential(all.loss) }
}

extension LoadedModel {
    /// Foretells each text from an end-of-document token on, as in training, in windows of `window` tokens that begin
    /// `stride` tokens apart; a token counts once, in the first window that holds it. The token that ends a document is
    /// not among those that are foretold.
    public func evaluate(texts: [[UInt8]], window: Int, stride: Int, pool: Pool) throws -> TextEvaluation {
        precondition(window >= 1 && (1...window).contains(stride), "windows must meet")
        let end = Int(tokenizer.endOfDocument)
        let documents = texts.map { text in
            var tokens: [Int32] = []
            tokenizer.encode(text.span, into: &tokens)
            return [end] + tokens.map(Int.init)
        }
        let longest = min(window, (documents.map(\.count).max() ?? 1) - 1)
        var result = TextEvaluation()
        result.documents = texts.count
        guard longest > 0 else { return result }
        let decoder = try self.decoder(longest, 0, pool, scores: true)
        var bands = [0..<16] + (4..<40).map { 1 << $0..<1 << ($0 + 1) }
        bands = bands.filter { $0.lowerBound < longest }
        result.bands = bands.map { TextEvaluation.Band($0.lowerBound, min($0.upperBound, longest) - 1) }
        for tokens in documents {
            var scored = 0
            for start in Swift.stride(from: 0, to: tokens.count - 1, by: stride) {
                let inputs = Array(tokens[start..<min(start + window, tokens.count - 1)])
                guard start + inputs.count > scored else { continue }
                let targets = inputs.indices.map { start + $0 >= scored ? tokens[start + $0 + 1] : -1 }
                decoder.reset()
                for (position, score) in decoder.score(inputs, targets: targets).enumerated()
                where targets[position] >= 0 {
                    result.add(score, bytes: tokenizer.byteCount(Int32(targets[position])), at: position)
                }
                scored = start + inputs.count
            }
        }
        result.bands.removeAll { $0.tokens == 0 }
        return result
    }
}

extension TextEvaluation {
    fileprivate mutating func add(_ score: TokenScore, bytes: Int, at position: Int) {
        let band = position < 16 ? 0 : Int.bitWidth - 1 - position.leadingZeroBitCount - 3
        bands[band].tokens += 1
        bands[band].bytes += bytes
        bands[band].nats -= score.logProbability
        bands[band].likeliest += score.isLikeliest ? 1 : 0
    }
}

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

private func exponential(_ x: Double) -> Double { exp(x) }
