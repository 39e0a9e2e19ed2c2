import Base
import TOMLKit

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Where a value came from, for `skein config explain` and for errors.
public enum Origin: Sendable, Equatable, CustomStringConvertible {
    case standard
    case file(path: String, line: Int)
    case flag(String)
    /// By the machine, where the recipe left it open.
    case search

    public var description: String {
        switch self {
        case .search: "chosen by a search"
        case .standard: "default"
        case .file(let path, let line): "\(path):\(line)"
        case .flag(let text): text
        }
    }
}

/// A recipe together with where each value came from.
public struct ResolvedRecipe: Sendable {
    public internal(set) var recipe = Recipe()
    public private(set) var origins: [String: Origin] = [:]
    /// "block_size (nanoGPT) is training.seq_len", one line for each alias that was used.
    public private(set) var translations: [String] = []

    public init() {}

    public func origin(_ key: String) -> Origin { origins[key] ?? .standard }

    /// A refusal that begins with a key which nobody gave (its default does not fit the others) also says where the
    /// first of the other keys that it names was given.
    public func placed(_ refusal: BadInput) -> BadInput {
        let text = "\(refusal)"
        guard let first = text.split(separator: " ", maxSplits: 1).first.map(String.init),
              !origins.values.contains(where: { text.hasPrefix("\($0): ") }) else { return refusal }
        let given = origins.filter { $0.value != .standard }
        let bare = first.hasSuffix(":") ? String(first.dropLast()) : first
        if let own = given[bare] { return BadInput("\(own): \(text)") }
        let named = given.keys.compactMap { key in text.firstRange(of: key).map { (place: $0.lowerBound, key: key) } }
        guard let earliest = named.min(by: { ($0.place, $1.key.count) < ($1.place, $0.key.count) }),
              let origin = given[earliest.key] else { return refusal }
        return BadInput("\(origin): \(text)")
    }

    /// Defaults, then the file, then the flags in order; then everything is checked together.
    public static func load(file path: String?, flags: [String] = []) throws(BadInput) -> ResolvedRecipe {
        var resolved = ResolvedRecipe()
        if let path { try resolved.read(file: path, text: readText(path)) }
        try resolved.read(flags: flags)
        try resolved.recipe.validate(resolved)
        return resolved
    }

    /// A recipe that a checkpoint carries.
    public static func load(text: String, name: String, flags: [String] = []) throws(BadInput) -> ResolvedRecipe {
        var resolved = ResolvedRecipe()
        try resolved.read(file: name, text: text)
        try resolved.read(flags: flags)
        try resolved.recipe.validate(resolved)
        return resolved
    }

    /// The recipe with these values, as flags, in place of those that it left open.
    public func choosing(_ flags: [String]) throws(BadInput) -> ResolvedRecipe {
        var chosen = self
        try chosen.read(flags: flags)
        for flag in flags where flag.hasPrefix("--") { chosen.origins[String(flag.dropFirst(2))] = .search }
        try chosen.recipe.validate(chosen)
        return chosen
    }

    /// Whether the recipe fits so many ranks: the rows of a step, their micro-batches, and the shares of the state.
    public func requireRows(worldSize: Int) throws(BadInput) {
        do throws(BadInput) {
            try recipe.requireContext(worldSize: worldSize)
            try recipe.requireRows(worldSize: worldSize)
            try recipe.requireGrains(worldSize: worldSize)
            _ = try recipe.shardCounts(worldSize: worldSize)
        } catch {
            throw placed(error)
        }
    }

    private mutating func read(file path: String, text: String) throws(BadInput) {
        // A byte order mark is no text, and CRLF is a line end.
        var text = text.replacing("\r\n", with: "\n")
        if text.unicodeScalars.first == "\u{FEFF}" { text.unicodeScalars.removeFirst() }
        try checkSyntax(text, path: path)
        let table: TOMLTable
        do {
            table = try TOMLTable(string: text)
        } catch let error as TOMLParseError {
            throw BadInput("\(path):\(error.source.begin.line): not valid TOML: \(oneLine(error.description))")
        } catch {
            throw BadInput("\(path): not valid TOML: \(oneLine("\(error)"))")
        }
        let lines = KeyLines(text)
        for (section, value) in table {
            if let inner = value.table {
                for (leaf, value) in inner {
                    let name = "\(section).\(leaf)"
                    try set(name, value.tomlValue, .file(path: path, line: lines[name]), isSection: true)
                }
            } else {
                try set(section, value.tomlValue, .file(path: path, line: lines[section]), isSection: false)
            }
        }
    }

    private func tomlValue(_ value: TOMLValue) -> Value? {
        if let flag = value.bool { return .bool(flag) }
        if let integer = value.int { return .integer(integer) }
        if let number = value.double { return .number(number) }
        if let text = value.string { return .text(text) }
        return value.array.flatMap { listValue(Array($0)) }
    }

    /// Texts, or numbers; nil for a mixture, or for other things.
    private func listValue(_ array: [any TOMLValueConvertible]) -> Value? {
        let texts = array.compactMap(\.string)
        if texts.count == array.count { return .list(texts) }
        let numbers = array.compactMap { $0.int.map(Double.init) ?? $0.double }
        return numbers.count == array.count ? .numbers(numbers) : nil
    }

    /// `--section.key value`, `--section.key=value`, `--section.key` and `--section.no-key` for switches.
    private mutating func read(flags: [String]) throws(BadInput) {
        var index = 0
        while index < flags.count {
            let word = flags[index]
            guard word.hasPrefix("--") else {
                throw BadInput("'\(word)' is no flag; write --section.key value (skein config keys lists them)")
            }
            let parts = word.dropFirst(2).split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            var name = String(parts[0])
            var negated = false
            if let dot = name.firstIndex(of: "."), name[name.index(after: dot)...].hasPrefix("no-") {
                name.removeSubrange(name.index(after: dot)..<name.index(dot, offsetBy: 4))
                negated = true
            }
            let key = try find(name, at: "--\(parts[0])")
            let text: String
            if negated {
                guard key.isFlag, parts.count == 1 else { throw BadInput("--\(parts[0]): \(name) is not a switch") }
                text = "false"
            } else if parts.count == 2 {
                text = String(parts[1])
            } else if index + 1 < flags.count, !flags[index + 1].hasPrefix("--") {
                index += 1
                text = flags[index]
            } else if key.isFlag {
                text = "true"
            } else {
                throw BadInput("--\(name) needs a value: \(key.expected)")
            }
            try assign(key, flagValue(text, key), .flag("--\(name)"), name)
            index += 1
        }
    }

    /// A flag's text in the type its key has; what does not parse stays text and is refused as such.
    private func flagValue(_ text: String, _ key: Key) -> Value {
        switch key.read(Recipe()) {
        case .integer: Int(text.replacing("_", with: "")).map(Value.integer) ?? .text(text)
        case .number: Double(text.replacing("_", with: "")).map(Value.number) ?? .text(text)
        case .bool: Bool(text).map(Value.bool) ?? .text(text)
        case .text: .text(text)
        case .list: .list(text.split(separator: ",").map(String.init))
        case .numbers: numberList(text).map(Value.numbers) ?? .text(text)
        }
    }

    private func numberList(_ text: String) -> [Double]? {
        let parts = text.split(separator: ",").map { Double($0.filter { $0 != "_" && $0 != " " }) }
        return parts.contains(nil) ? nil : parts.compactMap { $0 }
    }

    private mutating func set(_ name: String, _ toml: TOMLValue, _ origin: Origin, isSection: Bool) throws(BadInput) {
        let key = try find(name, at: origin.description, aliases: !isSection)
        guard let value = tomlValue(toml) else {
            let found = toml.table != nil ? "a table" : toml.array != nil ? "a list" : "a date or time"
            throw BadInput("\(origin): \(key.name) must be \(key.expected), found \(found)")
        }
        try assign(key, value, origin, name)
    }

    private mutating func assign(_ key: Key, _ value: Value, _ origin: Origin, _ name: String) throws(BadInput) {
        if name != key.name { translations.append("\(name) (nanoGPT's name) is \(key.name)") }
        if let wrong = key.check(value) {
            throw BadInput("\(origin): \(key.name) \(wrong), found \(value.found)")
        }
        guard key.write(&recipe, value) else {
            throw BadInput("\(origin): \(key.name) must be \(key.expected), found \(value.found)")
        }
        origins[key.name] = origin
    }

    private func find(_ name: String, at place: String, aliases: Bool = true) throws(BadInput) -> Key {
        if let key = Recipe.keysByName[name] { return key }
        if aliases, let full = Recipe.aliases[name], let key = Recipe.keysByName[full] { return key }
        // A right key under the wrong section is likelier than a misspelt one.
        let leaf = String(name.split(separator: ".").last ?? "")
        let near = Recipe.keys.first { $0.leaf == leaf }?.name ?? nearestName(to: name, in: Recipe.keys.map(\.name))
        let hint = near.map { "did you mean \($0)?" } ?? "skein config keys lists them"
        throw BadInput("\(place): unknown key \(name); \(hint)")
    }
}

/// The line of each `section.key` of a TOML file. The parser tells lines of syntax errors only, so the file
/// is scanned once more for its headers and `key =` lines; a key inside a multi-line text may fool it, and
/// then a message names a wrong line but the right key.
struct KeyLines {
    private var lines: [String: Int] = [:]

    init(_ text: String) {
        var section = ""
        // "\r\n" is one Character, and not "\n".
        let all = text.split(omittingEmptySubsequences: false) { $0 == "\n" || $0 == "\r\n" }
        for (index, line) in all.enumerated() {
            let trimmed = line.drop { $0 == " " || $0 == "\t" }
            if trimmed.hasPrefix("["), let end = trimmed.firstIndex(of: "]") {
                section = trimmed[..<end].dropFirst().filter { $0 != " " && $0 != "\t" && $0 != "\"" }
                lines[section] = index + 1
            } else if let equals = trimmed.firstIndex(of: "="), !trimmed.hasPrefix("#") {
                let key = trimmed[..<equals].filter { $0 != " " && $0 != "\t" && $0 != "\"" }
                lines[section.isEmpty ? key : "\(section).\(key)"] = index + 1
            }
        }
    }

    subscript(_ name: String) -> Int {
        lines[name] ?? lines[String(name.prefix { $0 != "." })] ?? 1
    }
}

/// A whole text file, or one line that says why not.
public func readText(_ path: String) throws(BadInput) -> String {
    let file = unsafe fopen(path, "rb")
    guard let file = unsafe file else {
        throw BadInput("\(path): \(errorText(errno)); name an existing file")
    }
    defer { unsafe fclose(file) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while true {
        let count = unsafe fread(&buffer, 1, buffer.count, file)
        if count == 0 { break }
        bytes += buffer[..<count]
    }
    guard unsafe ferror(file) == 0 else { throw BadInput("\(path): \(errorText(errno)); it must be a readable file") }
    guard let text = String(validating: bytes, as: UTF8.self) else { throw BadInput("\(path): not UTF-8 text") }
    return text
}

/// The library quotes what it found, line ends included.
private func oneLine(_ text: String) -> String { text.split(whereSeparator: \.isNewline).joined(separator: " ") }
