import Foundation
import Storage

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
