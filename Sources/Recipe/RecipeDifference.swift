/// A key on which two recipes differ. Nil where a recipe does not have the key: it was written before there was one.
public struct RecipeDifference: Equatable, Sendable, Encodable {
    public let key: String
    public let mine: String?
    public let theirs: String?
}

extension Recipe {
    /// The keys whose values differ between two resolved recipes, as `toml` writes them: one key a line. Texts and not
    /// recipes are compared, because an older checkpoint's may have keys that this version does not know.
    public static func differences(_ mine: String, _ theirs: String) -> [RecipeDifference] {
        let (mine, theirs) = (values(mine), values(theirs))
        let known = Set(mine.map(\.key))
        let others = Dictionary(theirs.map { ($0.key, $0.value) }, uniquingKeysWith: { first, _ in first })
        let changed = mine.filter { others[$0.key] != $0.value }.map {
            RecipeDifference(key: $0.key, mine: $0.value, theirs: others[$0.key])
        }
        return changed + theirs.filter { !known.contains($0.key) }.map {
            RecipeDifference(key: $0.key, mine: nil, theirs: $0.value)
        }
    }

    private static func values(_ text: String) -> [(key: String, value: String)] {
        var section = "", values: [(key: String, value: String)] = []
        for line in text.split(separator: "\n") {
            if line.hasPrefix("["), line.hasSuffix("]") {
                section = String(line.dropFirst().dropLast())
            } else if let equals = line.firstRange(of: " = ") {
                values.append(("\(section).\(line[..<equals.lowerBound])", String(line[equals.upperBound...])))
            }
        }
        return values
    }
}
