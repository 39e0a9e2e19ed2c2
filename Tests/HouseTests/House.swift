import Foundation

/// The package as text: its manifest, its targets, and every source file by its path from the root.
struct House: Sendable {
    /// One row of the manifest.
    struct Target: Sendable {
        /// `room`, `tests`, `system`, `target`, `executableTarget` or `testTarget`.
        let kind: String
        let name: String
        /// Modules it declares to import: targets and products.
        let imports: [String]
        /// Where its files are, with a slash at the end.
        let folder: String

        var isTest: Bool { folder.hasPrefix("Tests/") }
    }

    let targets: [Target]
    let files: [String: [String]]

    init(manifest: String, files: [String: String]) {
        targets = House.targets(of: manifest)
        self.files = files.mapValues { $0.components(separatedBy: "\n") }
    }

    /// The package that this file belongs to.
    init(root: URL = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()) throws {
        var files: [String: String] = [:]
        for folder in ["Sources", "Tests", "Plugins"] {
            let walk = FileManager.default.enumerator(atPath: root.appendingPathComponent(folder).path)
            while let name = walk?.nextObject() as? String {
                guard ["swift", "c", "h"].contains((name as NSString).pathExtension) else { continue }
                let path = "\(folder)/\(name)"
                files[path] = try String(contentsOf: root.appendingPathComponent(path), encoding: .utf8)
            }
        }
        let manifest = try String(contentsOf: root.appendingPathComponent("Package.swift"), encoding: .utf8)
        files["Package.swift"] = manifest
        self.init(manifest: manifest, files: files)
    }

    /// Paths and lines of the files that a target owns.
    func files(of target: Target) -> [(path: String, lines: [String])] {
        files.filter { $0.key.hasPrefix(target.folder) }.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    }

    var swiftAndC: [(path: String, lines: [String])] { files.sorted { $0.key < $1.key }.map { ($0.key, $0.value) } }
}

extension House {
    /// Reads the calls behind `targets: [`. `swift package dump-package` would say the same, but it waits for the
    /// lock that `swift test` holds.
    private static func targets(of manifest: String) -> [Target] {
        let lines = manifest.components(separatedBy: "\n")
        let text = lines.filter { !$0.drop { $0 == " " }.hasPrefix("//") }.joined(separator: "\n")
        var products: [String: String] = [:]
        for match in text.matches(of: /let (\w+): Target\.Dependency = \.product\(name: "(\w+)"/) {
            products[String(match.1)] = String(match.2)
        }
        guard let start = text.range(of: "targets: [") else { return [] }
        let list = text[start.upperBound...]
        let calls = /\b(room|tests|system|target|executableTarget|testTarget)\((?:name: )?"(\w+)"/
        return list.matches(of: calls).map { match in
            let call = upToClosing(list[match.range.upperBound...])
            let (kind, name) = (String(match.1), String(match.2))
            let dependencies = call.firstMatch(of: /(?:dependencies: |^\s*,\s*)\[([^\]]*)\]/)?.1 ?? ""
            let imports = dependencies.split(separator: ",").map { item in
                let word = item.trimmingCharacters(in: .whitespacesAndNewlines)
                return products[word] ?? word.trimmingCharacters(in: CharacterSet(charactersIn: "\""))
            }.filter { !$0.isEmpty }
            let isTest = kind == "tests" || kind == "testTarget"
            let fullName = kind == "tests" ? name + "Tests" : name
            let path = call.firstMatch(of: /path: "([^"]*)"/).map { String($0.1) }
            return Target(kind: kind, name: fullName, imports: imports,
                          folder: (path ?? (isTest ? "Tests/" : "Sources/") + fullName) + "/")
        }
    }

    /// What lies before the parenthesis that closes the call.
    private static func upToClosing(_ text: Substring) -> Substring {
        var depth = 1
        for index in text.indices {
            if text[index] == "(" { depth += 1 }
            if text[index] == ")" { depth -= 1 }
            if depth == 0 { return text[..<index] }
        }
        return text
    }

    /// The modules that lines of Swift import, with the lines' numbers.
    static func imports(_ lines: [String]) -> [(line: Int, module: String)] {
        let attributes = /(?:@\w+(?:\([^)]*\))? +)*(?:(?:public|package|internal|private|fileprivate) +)?/
        let statement = /import +(?:(?:struct|class|enum|protocol|func|var|let|typealias) +)?(\w+)/
        return lines.indices.filter { lines[$0].contains("import ") }.compactMap { index in
            let rest = lines[index].trimmingPrefix(attributes)
            guard let match = rest.prefixMatch(of: statement) else { return nil }
            return (index + 1, String(match.1))
        }
    }
}
