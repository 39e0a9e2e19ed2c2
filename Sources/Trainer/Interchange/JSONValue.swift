import Foundation

/// Any JSON, for files whose fields others have chosen. Numbers without a fraction are integers.
package enum JSONValue: Decodable, Equatable, Sendable {
    case null
    case bool(Bool)
    case integer(Int)
    case number(Double)
    case text(String)
    case list([JSONValue])
    case object([String: JSONValue])

    package init(from decoder: any Decoder) throws {
        let single = try decoder.singleValueContainer()
        if single.decodeNil() {
            self = .null
        } else if let value = try? single.decode(Bool.self) {
            self = .bool(value)
        } else if let value = try? single.decode(Int.self) {
            self = .integer(value)
        } else if let value = try? single.decode(Double.self) {
            self = .number(value)
        } else if let value = try? single.decode(String.self) {
            self = .text(value)
        } else if let values = try? single.decode([JSONValue].self) {
            self = .list(values)
        } else {
            self = .object(try single.decode([String: JSONValue].self))
        }
    }

    /// Nil where the bytes are no JSON.
    package init?(_ bytes: [UInt8]) {
        guard let value = try? JSONDecoder().decode(JSONValue.self, from: Data(bytes)) else { return nil }
        self = value
    }

    package var integer: Int? { if case .integer(let value) = self { value } else { nil } }
    package var text: String? { if case .text(let value) = self { value } else { nil } }
    package var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
    package var list: [JSONValue]? { if case .list(let values) = self { values } else { nil } }
    package var object: [String: JSONValue]? { if case .object(let fields) = self { fields } else { nil } }
    /// A number; an integer is taken for one.
    package var number: Double? {
        switch self {
        case .integer(let value): Double(value)
        case .number(let value): value
        default: nil
        }
    }
    package subscript(_ key: String) -> JSONValue? { object?[key] }

    /// For messages: JSON again, cut where it is long.
    package var brief: String {
        let text = switch self {
        case .null: "null"
        case .bool(let value): "\(value)"
        case .integer(let value): "\(value)"
        case .number(let value): "\(value)"
        case .text(let value): "\"\(value)\""
        case .list(let values): "[" + values.prefix(8).map(\.brief).joined(separator: ", ") + "]"
        case .object(let fields): "{" + fields.keys.sorted().prefix(8).joined(separator: ", ") + "}"
        }
        return text.count <= 80 ? text : String(text.prefix(77)) + "..."
    }
}
