import Base

/// What the TOML library takes for granted of a document, and ends the process over where it does not hold: the first
/// bytes of a table's header, and that its text has no control characters. Looked at before the library sees it.
///
/// - Throws: `BadInput` with file and line.
func checkSyntax(_ text: String, path: String) throws(BadInput) {
    var quotes: Substring?
    for (number, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
        let place = "\(path):\(number + 1)"
        let isControl: (Unicode.Scalar) -> Bool = { ($0.value < 0x20 && $0 != "\t" && $0 != "\r") || $0.value == 0x7F }
        if let control = line.unicodeScalars.first(where: isControl) {
            throw BadInput("\(place): not valid TOML: a control character (\(String(control.value, radix: 16)) in "
                + "hexadecimal); take it out")
        }
        let isInText = quotes != nil
        // A text over several lines may hold anything.
        var rest = line
        while let mark = rest.firstRange(of: quotes ?? "\"\"\"") ?? (quotes == nil ? rest.firstRange(of: "'''") : nil) {
            quotes = quotes == nil ? rest[mark] : nil
            rest = rest[mark.upperBound...]
        }
        let trimmed = line.drop { $0 == " " || $0 == "\t" }
        guard !isInText, trimmed.first == "[" else { continue }
        guard trimmed.wholeMatch(of: /\[[ \t]*[A-Za-z0-9_\-]+([ \t]*\.[ \t]*[A-Za-z0-9_\-]+)*[ \t]*\][ \t]*\r?(#.*)?/)
            != nil else {
            throw BadInput("\(place): not valid TOML: a line that begins with [ must be a section, "
                + "like [training]")
        }
    }
}
