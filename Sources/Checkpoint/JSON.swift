import Foundation
import Storage

/// `text` as a JSON string with its quotes.
package func jsonString(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"": result += "\\\""
        case "\\": result += "\\\\"
        case "\n": result += "\\n"
        case "\t": result += "\\t"
        case "\r": result += "\\r"
        case _ where scalar.value < 0x20:
            let hex = String(scalar.value, radix: 16)
            result += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result + "\""
}

/// What JSONDecoder complains about, in a few words and one line.
func jsonProblem(_ error: any Error) -> String {
    func place(_ path: [any CodingKey]) -> String {
        path.isEmpty ? "" : " at " + path.map(\.stringValue).joined(separator: ".")
    }
    switch error as? DecodingError {
    case .keyNotFound(let key, let context): return "no \(key.stringValue)" + place(context.codingPath)
    case .typeMismatch(_, let context): return "a value of the wrong type" + place(context.codingPath)
    case .valueNotFound(_, let context): return "a missing value" + place(context.codingPath)
    case .dataCorrupted(let context) where !context.codingPath.isEmpty:
        return "a bad value" + place(context.codingPath)
    default: return "invalid JSON"
    }
}
