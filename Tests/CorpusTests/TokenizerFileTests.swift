import Base
import Corpus
import Foundation
import Testing

@Suite struct TokenizerFileTests {
    /// Content, normalized, special; in this order behind the vocabulary.
    static let added = [("  ", true, false), ("    ", true, false), ("magic word", true, false),
                        ("magic", false, false), ("<s>", false, true), ("s>x", false, false),
                        ("\u{8A9E}\u{8A00}", true, false)]

    static func quoted(_ value: Any) throws -> String {
        let options: JSONSerialization.WritingOptions = [.fragmentsAllowed, .sortedKeys]
        return String(decoding: try JSONSerialization.data(withJSONObject: value, options: options), as: UTF8.self)
    }

    /// A `tokenizer.json` with the goldens' vocabulary.
    static func root(_ key: String) throws -> [String: Any] {
        let pairs = TokenizerGoldens.merges.split(separator: " ").map { $0.split(separator: "|").map(String.init) }
        var vocabulary: [String: Int] = [:]
        for byte in 0..<256 { vocabulary[ByteAlphabet.text([UInt8(byte)])] = byte }
        for pair in pairs { vocabulary[pair.joined()] = vocabulary.count }
        vocabulary["<|endoftext|>"] = vocabulary.count
        var tokens = [token("<|endoftext|>", vocabulary.count - 1, normalized: false, special: true)]
        if key.contains("+") {
            for (content, normalized, special) in added + (key.contains("~") ? TokenizerGoldens.composedAdded : []) {
                tokens.append(token(content, vocabulary.count - 1 + tokens.count, normalized: normalized,
                                    special: special))
            }
        }
        var byteLevel: [String: Any] = ["type": "ByteLevel", "add_prefix_space": key.hasPrefix("spaced"),
                                        "use_regex": key.hasPrefix("spaced") || key.hasPrefix("gpt2")]
        let pattern: WordPattern? = key.hasPrefix("gpt4") ? .gpt4 : key.hasPrefix("qwen2") ? .qwen2 : nil
        if let regex = pattern?.regex {
            byteLevel = ["type": "Sequence", "pretokenizers": [
                ["type": "Split", "pattern": ["Regex": regex], "behavior": "Isolated", "invert": false], byteLevel]]
        }
        return ["added_tokens": tokens, "pre_tokenizer": byteLevel,
                "normalizer": key.contains("~") ? ["type": "NFC"] : NSNull(),
                "model": ["type": "BPE", "vocab": vocabulary, "merges": pairs, "ignore_merges": key.contains("!")]]
    }

    static func token(_ content: String, _ id: Int, normalized: Bool, special: Bool) -> [String: Any] {
        ["id": id, "content": content, "normalized": normalized, "special": special, "lstrip": false,
         "rstrip": false, "single_word": false]
    }

    static func json(_ root: [String: Any]) throws -> [UInt8] { Array(try quoted(root).utf8) }

    @Test(arguments: TokenizerGoldens.ids.keys.sorted())
    func idsAreThoseOfHuggingFaceAndSurviveWriting(_ key: String) throws {
        let read = try parseTokenizer(json: try Self.json(try Self.root(key)), path: "t.json")
        let again = try parseTokenizer(json: read.json, path: "t.json")
        for (text, ids) in zip(TokenizerGoldens.texts, try #require(TokenizerGoldens.ids[key])) {
            #expect(read.encode(text) == ids, "\(key): \(text)")
            #expect(again.encode(text) == ids, "\(key): \(text)")
            if !key.hasPrefix("spaced") { #expect(read.decode(ids) == Array(text.utf8)) }
        }
        #expect(again.fingerprint == read.fingerprint && again.json == read.json)
        #expect(again.vocabularySize == read.vocabularySize)
    }

    /// The normalizer NFC: letters with their marks, Hangul, scalars that never stay, added tokens before and behind.
    @Test(arguments: TokenizerGoldens.composedIDs.keys.sorted())
    func composedTextsHaveTheIDsOfHuggingFace(_ key: String) throws {
        let read = try parseTokenizer(json: try Self.json(try Self.root(key)), path: "t.json")
        let again = try parseTokenizer(json: read.json, path: "t.json")
        for (text, ids) in zip(TokenizerGoldens.composedTexts, try #require(TokenizerGoldens.composedIDs[key])) {
            #expect(read.encode(text) == ids, "\(key): \(text)")
            #expect(again.encode(text) == ids, "\(key): \(text)")
        }
        #expect(again.fingerprint == read.fingerprint && again.json == read.json)
        let plain = try parseTokenizer(json: try Self.json(try Self.root(key.replacing("~", with: ""))), path: "t.json")
        #expect(plain.fingerprint != read.fingerprint)
    }

    @Test func whatDecidesIdsIsInTheFingerprint() throws {
        var prints: Set<UInt32> = []
        for key in ["gpt2", "gpt4", "qwen2", "none", "spaced", "gpt2+", "gpt2!"] {
            prints.insert(try parseTokenizer(json: try Self.json(try Self.root(key)), path: "t.json").fingerprint)
        }
        #expect(prints.count == 7)
        let tokens = [[UInt8(1)]], style = BytePairTokenizer.Style()
        let versions = ["16.0", "17.0"].map {
            bytePairFingerprint(tokens: tokens, merges: [], endOfDocument: 9, style: style, added: [], unicode: $0)
        }
        #expect(versions[0] != versions[1])
    }

    @Test func marksAndLineEndsAreNoText() throws {
        let root = try Self.root("gpt2"), folder = try TemporaryFolder()
        let model = try #require(root["model"] as? [String: Any])
        let pairs = try #require(model["merges"] as? [[String]])
        let mark: [UInt8] = [0xEF, 0xBB, 0xBF]
        let expected = try parseTokenizer(json: try Self.json(root), path: "t.json").fingerprint
        #expect(try parseTokenizer(json: mark + (try Self.json(root)), path: "t.json").fingerprint == expected)
        for (name, end, mark) in [("lf", "\n", []), ("crlf", "\r\n", []), ("mark", "\n", mark)] {
            let lines = ["#version: 0.2"] + pairs.map { $0.joined(separator: " ") } + [""]
            try folder.write("\(name)/vocab.bpe", mark + Array(lines.joined(separator: end).utf8))
            try folder.write("\(name)/encoder.json", mark + Array(try Self.quoted(model["vocab"]!).utf8))
            #expect(try loadTokenizer("\(folder.path)/\(name)").fingerprint == expected, "\(name)")
        }
    }

    @Test func whatIsNotSupportedIsNamed() throws {
        func message(_ change: (inout [String: Any]) -> Void) throws -> String {
            var root = try Self.root("gpt4+")
            change(&root)
            return complaint { _ = try parseTokenizer(json: try Self.json(root), path: "t") } ?? "none"
        }
        func flagged(_ flag: String, _ value: Any) throws -> String {
            try message { root in
                var tokens = root["added_tokens"] as? [[String: Any]] ?? []
                tokens[1][flag] = value
                root["added_tokens"] = tokens
            }
        }
        #expect(try message { $0["normalizer"] = ["type": "NFD"] }.hasPrefix("t: the normalizer NFD is not supp"))
        #expect(try message { $0["truncation"] = ["max_length": 9] }.hasPrefix("t: `truncation` (set it to null) is"))
        #expect(try message { $0["pre_tokenizer"] = ["type": "Digits"] }.hasPrefix("t: the pre_tokenizer Digits is"))
        let split: [String: Any] = ["type": "Split", "pattern": ["Regex": "x+"], "behavior": "Isolated"]
        let bytes: [String: Any] = ["type": "ByteLevel", "use_regex": false, "add_prefix_space": false]
        #expect(try message { $0["pre_tokenizer"] = ["type": "Sequence", "pretokenizers": [split, bytes]] }
            .hasPrefix("t: the regular expression x+ of Split is not supported"))
        for flag in AddedToken.flagNames {
            #expect(try flagged(flag, true).hasPrefix("t: `\(flag)` on the added token `  `"))
        }
        #expect(try flagged("id", 999).hasPrefix("t: the added token `  ` has the id 999, but "))
        #expect(try flagged("content", "magic").hasPrefix("t: the added token `magic` is there twice"))
    }

    /// Bytes changed, lost and doubled: a tokenizer or a typed error, never a trap.
    @Test func brokenFilesAreErrors() throws {
        let whole = try Self.json(try Self.root("gpt4+!")), rng = CounterRNG(seed: 3, stream: 1)
        var refused = 0
        for round in 0..<300 {
            var bytes = whole
            for change in 0..<3 {
                let draw = UInt64(round * 12 + change * 4)
                let place = rng.integer(below: bytes.count - 9, at: draw)
                switch rng.integer(below: 3, at: draw + 1) {
                case 0: bytes[place] = UInt8(rng.integer(below: 256, at: draw + 2))
                case 1: bytes.removeSubrange(place..<(place + 1 + rng.integer(below: 8, at: draw + 2)))
                default: bytes.insert(contentsOf: bytes[place..<(place + 8)], at: place)
                }
            }
            do throws(BadInput) {
                let text = TokenizerGoldens.texts.joined(), read = try parseTokenizer(json: bytes, path: "t.json")
                #expect(read.decode(read.encode(text)).count >= text.utf8.count)
                #expect(try parseTokenizer(json: read.json, path: "t.json").fingerprint == read.fingerprint)
            } catch {
                refused += 1
                #expect(error.description.hasPrefix("t.json"))
            }
        }
        #expect(refused > 100)
    }
}
