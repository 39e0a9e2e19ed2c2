import Foundation

/// The built `skein`, run as a person would run it.
enum Program {
    struct Outcome {
        let code: Int32
        let out: String
        let error: String
        var errorLines: [Substring] { error.split(separator: "\n") }
    }

    /// The program lies beside the test bundle.
    static let path: String = {
        let tests = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        return URL(fileURLWithPath: tests ?? CommandLine.arguments[0]).deletingLastPathComponent().path + "/skein"
    }()

    /// Runs `skein` with `arguments` in `folder` and waits for its end. `variables` are added to the environment.
    static func run(_ arguments: [String], in folder: String, variables: [String: String] = [:]) throws -> Outcome {
        let process = Process()
        process.environment = ProcessInfo.processInfo.environment.merging(variables) { $1 }
        process.executableURL = URL(fileURLWithPath: path)
        process.arguments = arguments
        process.currentDirectoryURL = URL(fileURLWithPath: folder)
        // Files and not pipes: a full pipe would stop a talkative program for ever.
        let files = ["out", "err"].map { folder + "/.\(UUID().uuidString).\($0)" }
        let handles = try files.map { name -> FileHandle in
            _ = FileManager.default.createFile(atPath: name, contents: nil)
            return try FileHandle(forWritingTo: URL(fileURLWithPath: name))
        }
        process.standardOutput = handles[0]
        process.standardError = handles[1]
        process.standardInput = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        defer { for name in files { try? FileManager.default.removeItem(atPath: name) } }
        let texts = try files.map { String(decoding: try Data(contentsOf: URL(fileURLWithPath: $0)), as: UTF8.self) }
        return Outcome(code: process.terminationStatus, out: texts[0], error: texts[1])
    }
}

/// A folder of its own with a config and a text, removed at the end.
struct Workplace: ~Copyable {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "skein-system-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        try write("text.txt", String(repeating: "a text of some words that say little. ", count: 200))
        try write("run.toml", """
            [job]
            name = "tiny"
            [model]
            dim = 32
            n_layers = 1
            n_heads = 2
            [data]
            paths = ["text.txt"]
            [training]
            steps = 4
            seq_len = 32
            threads = 1

            """)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func write(_ name: String, _ text: String) throws { try write(name, Data(text.utf8)) }

    /// Makes the folders on the way, too.
    func write(_ name: String, _ bytes: Data) throws {
        let file = URL(fileURLWithPath: path + "/" + name)
        try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try bytes.write(to: file)
    }

    func run(_ arguments: String...) throws -> Program.Outcome { try Program.run(arguments, in: path) }

    /// Every file below the folder with its bytes, to see that nothing was touched.
    func contents() throws -> [String: Data] {
        var found: [String: Data] = [:]
        for name in try FileManager.default.subpathsOfDirectory(atPath: path) {
            if name.hasSuffix(".out") || name.hasSuffix(".err") { continue }
            found[name] = (try? Data(contentsOf: URL(fileURLWithPath: path + "/" + name))) ?? Data()
        }
        return found
    }
}
