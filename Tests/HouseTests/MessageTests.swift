import Foundation
import Testing

/// docs/troubleshooting.md quotes what the program prints. Each quotation must be in the sources as it stands there,
/// with "…" for interpolations.
@Suite struct MessageTests {
    /// The sources with string literals joined over lines, and interpolations as "…".
    private static func normalized(_ source: String) -> String {
        var text = source.replacing(/"\s*\n\s*\+ "/, with: "")
        // Innermost first: an interpolation may hold parentheses.
        for _ in 0..<6 { text = text.replacing(/\\\((?:[^()]|\([^()]*\))*\)/, with: "…") }
        return text.replacing("\\\"", with: "\"")
    }

    @Test func everyMessageIsInTheSources() throws {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let page = try String(contentsOf: root.appendingPathComponent("docs/troubleshooting.md"), encoding: .utf8)
        let quoted = page.split(separator: "\n").filter { $0.hasPrefix("### ") }.flatMap { line in
            line.matches(of: /`([^`]+)`/).map { String($0.1) }
        }
        #expect(quoted.count > 25)
        let sources = try House().files.filter { $0.key.hasPrefix("Sources/") }.map {
            Self.normalized($0.value.joined(separator: "\n"))
        }
        for message in quoted {
            let parts = message.split(separator: "…").map(String.init).filter { $0.count > 3 }
            // What follows the first part is near it, behind what an interpolation has left.
            let isThere = sources.contains { text in
                text.ranges(of: parts[0]).contains { start in
                    var rest = text[start.upperBound...].prefix(400)
                    return parts.dropFirst().allSatisfy { part in
                        guard let found = rest.firstRange(of: part) else { return false }
                        rest = rest[found.upperBound...]
                        return true
                    }
                }
            }
            #expect(isThere, "\(message)")
        }
    }
}
