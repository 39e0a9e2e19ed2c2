import Base

/// One declared value: its dotted name, what it means, and how it is read and written.
public struct Key: Sendable {
    public let name: String
    public let help: String
    /// "an integer", "a number", "text", "true or false", "a list of texts", "a list of numbers",
    /// "a list of texts or of numbers", or "one of a, b".
    public let expected: String
    /// Bounds, as a check that returns what is wrong.
    let check: @Sendable (Value) -> String?
    let write: @Sendable (inout Recipe, Value) -> Bool
    public let read: @Sendable (Recipe) -> Value

    public var section: String { String(name.prefix { $0 != "." }) }
    public var leaf: String { String(name.drop { $0 != "." }.dropFirst()) }
    public var isFlag: Bool { if case .bool = read(Recipe()) { true } else { false } }
}

/// A value as TOML and the command line know it.
public enum Value: Sendable, Equatable {
    case integer(Int)
    case number(Double)
    case text(String)
    case bool(Bool)
    case list([String])
    case numbers([Double])

    /// What this is, for an error's "found ...".
    var found: String {
        switch self {
        case .integer(let value): "the integer \(value)"
        case .number(let value): "the number \(value)"
        case .text(let value): "the text \"\(value)\""
        case .bool(let value): "\(value)"
        case .list(let values): values.isEmpty ? "an empty list" : "a list of texts"
        case .numbers(let values): "the numbers " + values.map { "\($0)" }.joined(separator: ", ")
        }
    }

    /// A number; an integer is taken for one.
    var asNumber: Double? {
        switch self {
        case .integer(let number): Double(number)
        case .number(let number): number
        default: nil
        }
    }

    /// Numbers; one number is a list of one, and the empty list has no kind of its own.
    var asNumbers: [Double]? {
        switch self {
        case .numbers(let numbers): numbers
        case .list(let texts): texts.isEmpty ? [] : nil
        default: asNumber.map { [$0] }
        }
    }

    /// The value as a line of TOML would have it.
    public var toml: String {
        switch self {
        case .integer(let value): "\(value)"
        case .number(let value): "\(value)"
        case .text(let value): jsonString(value)
        case .bool(let value): "\(value)"
        case .list(let values): "[" + values.map(jsonString).joined(separator: ", ") + "]"
        case .numbers(let values): "[" + values.map { "\($0)" }.joined(separator: ", ") + "]"
        }
    }
}

extension Key {
    /// An integer within `range`.
    static func integer(_ name: String, _ path: WritableKeyPath<Recipe, Int> & Sendable,
                        _ range: ClosedRange<Int>, _ help: String) -> Key {
        Key(name: name, help: help, expected: "an integer",
            check: { value in
                guard case .integer(let number) = value, !range.contains(number) else { return nil }
                return range.upperBound == .max ? "must be at least \(range.lowerBound)"
                    : "must be from \(range.lowerBound) to \(range.upperBound)"
            },
            write: { recipe, value in
                guard case .integer(let number) = value else { return false }
                recipe[keyPath: path] = number
                return true
            },
            read: { .integer($0[keyPath: path]) })
    }

    /// An integer within `range`, or the word `word`, which is 0 in the recipe.
    static func integer(_ name: String, _ path: WritableKeyPath<Recipe, Int> & Sendable, _ range: ClosedRange<Int>,
                        or word: String, _ help: String) -> Key {
        let plain = integer(name, path, range, help)
        return Key(name: name, help: help, expected: "an integer or \"\(word)\"", check: plain.check,
            write: { recipe, value in
                guard value == .text(word) else { return plain.write(&recipe, value) }
                recipe[keyPath: path] = 0
                return true
            },
            read: { $0[keyPath: path] == 0 ? .text(word) : plain.read($0) })
    }

    /// This key, or the word `word`, which sets `path` and leaves the value as it is.
    func or(_ word: String, _ path: WritableKeyPath<Recipe, Bool> & Sendable) -> Key {
        let (own, check, write, read) = (self, self.check, self.write, self.read)
        let expected = own.expected.hasPrefix("one of ") ? "\(own.expected), \(word)" : "\(own.expected) or \"\(word)\""
        return Key(name: name, help: help, expected: expected,
            check: { $0 == .text(word) ? nil : check($0) },
            write: { recipe, value in
                recipe[keyPath: path] = value == .text(word)
                return value == .text(word) || write(&recipe, value)
            },
            read: { $0[keyPath: path] ? .text(word) : read($0) })
    }

    /// A number within `range`; an integer is taken for one.
    static func number(_ name: String, _ path: WritableKeyPath<Recipe, Double> & Sendable,
                       _ range: ClosedRange<Double>, _ help: String) -> Key {
        Key(name: name, help: help, expected: "a number",
            check: { value in
                guard let number = value.asNumber, !range.contains(number) else { return nil }
                return range.upperBound == .infinity ? "must be at least \(range.lowerBound)"
                    : "must be from \(range.lowerBound) to \(range.upperBound)"
            },
            write: { recipe, value in
                guard let number = value.asNumber else { return false }
                recipe[keyPath: path] = number
                return true
            },
            read: { .number($0[keyPath: path]) })
    }

    static func text(_ name: String, _ path: WritableKeyPath<Recipe, String> & Sendable, _ help: String) -> Key {
        Key(name: name, help: help, expected: "text", check: { _ in nil },
            write: { recipe, value in
                guard case .text(let text) = value else { return false }
                recipe[keyPath: path] = text
                return true
            },
            read: { .text($0[keyPath: path]) })
    }

    static func bool(_ name: String, _ path: WritableKeyPath<Recipe, Bool> & Sendable, _ help: String) -> Key {
        Key(name: name, help: help, expected: "true or false", check: { _ in nil },
            write: { recipe, value in
                guard case .bool(let flag) = value else { return false }
                recipe[keyPath: path] = flag
                return true
            },
            read: { .bool($0[keyPath: path]) })
    }

    /// With `takesNumbers`, a list of numbers is as good.
    static func list(_ name: String, _ path: WritableKeyPath<Recipe, [String]> & Sendable, _ help: String,
                     takesNumbers: Bool = false) -> Key {
        let expected = takesNumbers ? "a list of texts or of numbers" : "a list of texts"
        return Key(name: name, help: help, expected: expected, check: { _ in nil },
            write: { recipe, value in
                switch value {
                case .list(let texts): recipe[keyPath: path] = texts
                case .text(let text): recipe[keyPath: path] = [text]
                case .numbers(let numbers) where takesNumbers: recipe[keyPath: path] = numbers.map { "\($0)" }
                default: return false
                }
                return true
            },
            read: { .list($0[keyPath: path]) })
    }

    /// Numbers within `range`.
    static func numbers(_ name: String, _ path: WritableKeyPath<Recipe, [Double]> & Sendable,
                        _ range: ClosedRange<Double>, _ help: String) -> Key {
        Key(name: name, help: help, expected: "a list of numbers",
            check: { value in
                guard value.asNumbers?.allSatisfy({ range.contains($0) }) == false else { return nil }
                return "must be numbers from \(range.lowerBound) to \(range.upperBound)"
            },
            write: { recipe, value in
                guard let numbers = value.asNumbers else { return false }
                recipe[keyPath: path] = numbers
                return true
            },
            read: { .numbers($0[keyPath: path]) })
    }

    static func choice<Choice: RawRepresentable & CaseIterable & Sendable>(
        _ name: String, _ path: WritableKeyPath<Recipe, Choice> & Sendable, _ help: String
    ) -> Key where Choice.RawValue == String {
        let names = Choice.allCases.map(\.rawValue).joined(separator: ", ")
        return Key(name: name, help: help, expected: Choice.allCases.count == 1 ? names : "one of \(names)",
            check: { _ in nil },
            write: { recipe, value in
                guard case .text(let text) = value, let choice = Choice(rawValue: text) else { return false }
                recipe[keyPath: path] = choice
                return true
            },
            read: { .text($0[keyPath: path].rawValue) })
    }
}
