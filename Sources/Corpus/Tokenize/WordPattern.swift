/// How a pattern cuts text into words before merging. The patterns in use differ in four points; together
/// with the table of characters these decide every cut.
package struct WordPattern: Equatable, Sendable {
    /// Whether contractions are found in either case (`'S`, and `'ſ`, which folds to it).
    package var foldsContractions: Bool
    /// Whether any one character that is no letter, number, CR or LF joins the letters behind it; otherwise
    /// only a space does.
    package var prefixesLetters: Bool
    /// How many digits make a word at most, without a space before them; 0: as many as there are, with one.
    package var digits: Int
    /// Whether CR and LF behind other characters belong to them, and white space ends with its last CR or LF.
    package var takesNewlines: Bool

    package static let gpt2 = WordPattern(foldsContractions: false, prefixesLetters: false, digits: 0,
                                          takesNewlines: false)
    /// GPT-4's (cl100k) and Llama 3's.
    package static let gpt4 = WordPattern(foldsContractions: true, prefixesLetters: true, digits: 3,
                                          takesNewlines: true)
    package static let qwen2 = WordPattern(foldsContractions: true, prefixesLetters: true, digits: 1,
                                           takesNewlines: true)

    /// The regular expressions, letter by letter as `tokenizer.json` has them.
    package static let known: [(regex: String, pattern: WordPattern)] = [
        (#"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#, .gpt2),
        (modern(#"\p{N}{1,3}"#), .gpt4),
        (modern(#"\p{N}"#), .qwen2),
    ]

    private static func modern(_ digits: String) -> String {
        #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"# + digits
            + #"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
    }

    /// The pattern's regular expression; nil for parameters that no known expression has.
    package var regex: String? { Self.known.first { $0.pattern == self }?.regex }
}

extension WordSplitter {
    /// Where the word that begins at `begin` < text.count ends by `pattern`. `wordEnd(_:from:classes:)` says
    /// the same of GPT-2's, faster.
    package static func wordEnd(_ text: Span<UInt8>, from begin: Int, classes: Span<UInt8>,
                                pattern: WordPattern) -> Int {
        let letter = ScalarClass.letter.rawValue, number = ScalarClass.number.rawValue
        let space = ScalarClass.space.rawValue
        if text[begin] == UInt8(ascii: "'"),
           let end = contractionEnd(text, from: begin, folds: pattern.foldsContractions) { return end }
        var (kind, end) = scalar(text, at: begin, classes)
        if kind == letter { return runEnd(text, from: end, of: kind, classes) }
        if kind == number {
            return runEnd(text, from: end, of: kind, classes, most: pattern.digits > 0 ? pattern.digits - 1 : .max)
        }
        if end < text.count {
            let next = scalar(text, at: end, classes), isSpace = text[begin] == UInt8(ascii: " ")
            let joins = pattern.prefixesLetters ? !isNewline(text[begin]) : isSpace
            if next.kind == letter, joins { return runEnd(text, from: next.end, of: letter, classes) }
            if isSpace, next.kind != space, next.kind != number || pattern.digits == 0 { (kind, end) = next }
        }
        if kind == space { return spaceEnd(text, from: begin, classes, pattern) }
        end = runEnd(text, from: end, of: kind, classes)
        guard pattern.takesNewlines, kind == ScalarClass.other.rawValue else { return end }
        while end < text.count, isNewline(text[end]) { end += 1 }
        return end
    }

    private static func runEnd(_ text: Span<UInt8>, from begin: Int, of kind: UInt8, _ classes: Span<UInt8>,
                               most: Int = .max) -> Int {
        var end = begin, count = 0
        while end < text.count, count < most {
            let next = scalar(text, at: end, classes)
            guard next.kind == kind else { return end }
            end = next.end
            count += 1
        }
        return end
    }

    private static func spaceEnd(_ text: Span<UInt8>, from begin: Int, _ classes: Span<UInt8>,
                                 _ pattern: WordPattern) -> Int {
        var end = begin, last = begin, behindNewline = begin
        while end < text.count {
            let next = scalar(text, at: end, classes)
            guard next.kind == ScalarClass.space.rawValue else { break }
            last = end
            end = next.end
            if isNewline(text[last]) { behindNewline = end }
        }
        if pattern.takesNewlines, behindNewline > begin { return behindNewline }
        // White space before something: all but its last character, unless that is all.
        return end < text.count && last > begin ? last : end
    }

    private static func isNewline(_ byte: UInt8) -> Bool { byte == 0x0A || byte == 0x0D }
}
