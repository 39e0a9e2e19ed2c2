import Foundation
import Recipe
import Testing

@Suite struct ConfigErrorTests {
    /// Swapping the last two letters of any key is an error that names the line or the flag and the right key.
    @Test func unknownKeysNameTheNearest() {
        for key in Recipe.keys {
            var letters = Array(key.leaf)
            letters.swapAt(letters.count - 1, letters.count - 2)
            let wrong = String(letters)
            guard wrong != key.leaf else { continue }
            let file = refusal(text: "\n[\(key.section)]\n\n\(wrong) = 1\n")
            #expect(file == "x.toml:4: unknown key \(key.section).\(wrong); did you mean \(key.name)?")
            let flag = refusal(flags: ["--\(key.section).\(wrong)", "1"])
            #expect(flag == "--\(key.section).\(wrong): unknown key \(key.section).\(wrong); did you mean \(key.name)?")
        }
    }

    @Test(arguments: [
        ("[training]\ndim = 3\n", "x.toml:2: unknown key training.dim; did you mean model.dim?"),
        ("[modle]\ndim = 3\n", "x.toml:2: unknown key modle.dim; did you mean model.dim?"),
        ("[model.deep]\ndim = 3\n", "x.toml:1: unknown key model.deep"),
        ("dim = 3\n", "x.toml:1: unknown key dim; did you mean model.dim?"),
        ("model = 3\n", "x.toml:1: unknown key model"),
        ("[zzzzzzzz]\nqqqqqqqqqq = 1\n", "x.toml:2: unknown key zzzzzzzz.qqqqqqqqqq; skein config keys lists them"),
        // nanoGPT's names are for the top level, where they cannot be mistaken for ours.
        ("[training]\nblock_size = 3\n", "x.toml:2: unknown key training.block_size"),
    ]) func misplacedKeys(text: String, start: String) {
        #expect(refusal(text: text)?.hasPrefix(start) == true, "\(refusal(text: text) ?? "accepted")")
    }

    /// Every key against every kind of value: taken, or refused in a line with file, line, key, what was
    /// expected and what was found.
    @Test func wrongTypesSayEverything() {
        let values: [(toml: String, found: String)] = [
            ("7", "the integer 7"), ("1.5", "the number 1.5"), ("\"word\"", "the text \"word\""), ("true", "true"),
            ("[\"a\", \"b\"]", "a list of texts"), ("[1, 2.5]", "the numbers 1.0, 2.5"), ("[]", "an empty list"),
            ("[\"a\", 2]", "a list"), ("[true]", "a list"), ("1979-05-27", "a date or time"),
            ("1979-05-27T07:32:00Z", "a date or time"), ("07:32:00", "a date or time"), ("{ a = 1 }", "a table"),
        ]
        for key in Recipe.keys {
            for (toml, found) in values {
                let takes: Bool = switch (key.read(Recipe()), found) {
                case (.integer, "the integer 7"), (.number, "the integer 7"), (.number, "the number 1.5"): true
                case (.bool, "true"): true
                case (.text, "the text \"word\""): key.expected == "text"
                case (.list, "the text \"word\""): true
                case (.list, "a list of texts"), (.list, "an empty list"), (.numbers, "an empty list"): true
                case (.list, "the numbers 1.0, 2.5"): key.expected == "a list of texts or of numbers"
                case (.numbers, "the numbers 1.0, 2.5"), (.numbers, "the integer 7"), (.numbers, "the number 1.5"): true
                default: false
                }
                let line = refusal(text: "[\(key.section)]\n\(key.leaf) = \(toml)\n")
                if takes {
                    // It may still be out of bounds, or not fit the other defaults.
                    #expect(line?.contains("must be \(key.expected)") != true, "\(key.name) = \(toml): \(line ?? "")")
                } else {
                    #expect(line == "x.toml:2: \(key.name) must be \(key.expected), found \(found)", "\(toml)")
                }
            }
        }
    }

    @Test func wrongTypesInFlags() {
        for key in Recipe.keys {
            let takesText = key.expected == "text" || key.expected.hasPrefix("a list of texts")
            let line = refusal(flags: ["--\(key.name)", "x9"])
            #expect(takesText || line == "--\(key.name): \(key.name) must be \(key.expected), found the text \"x9\"")
            if !key.isFlag {
                let bare = "--\(key.name) needs a value: \(key.expected)"
                #expect(refusal(flags: ["--\(key.name)"]) == bare)
                #expect(refusal(flags: ["--\(key.name)", "--debug.seed", "1"]) == bare)
                let negated = "--\(key.section).no-\(key.leaf)"
                #expect(refusal(flags: [negated]) == "\(negated): \(key.name) is not a switch")
            }
        }
        #expect(refusal(flags: ["steps", "3"])?.hasPrefix("'steps' is no flag") == true)
        #expect(refusal(flags: ["--"])?.contains("unknown key") == true)
    }

    /// Nothing is negative, and no number is no number.
    @Test func bounds() {
        for key in Recipe.keys {
            for text in ["-1", "nan"] {
                switch key.read(Recipe()) {
                case .integer where text == "-1", .number, .numbers:
                    let line = refusal(flags: ["--\(key.name)", text])
                    #expect(line?.hasPrefix("--\(key.name): \(key.name) must be ") == true, "\(key.name) \(text)")
                    #expect(line?.contains(", found the ") == true)
                default: break
                }
            }
        }
        for (flag, text, want) in [
            ("model.dim", "65537", "from 2 to 65536, found the integer 65537"),
            ("model.dim", "1", "from 2 to 65536, found the integer 1"),
            ("model.n_layers", "0", "from 1 to 1000, found the integer 0"),
            ("training.seq_len", "1", "from 2 to 16777216, found the integer 1"),
            ("training.steps", "0", "from 1 to 4294967295, found the integer 0"),
            ("optimizer.beta1", "1", "from 0.0 to 0.99999999, found the number 1.0"),
            ("training.max_norm", "-0.5", "at least 0.0, found the number -0.5"),
            ("checkpoint.keep_latest_k", "0", "from 1 to 1000000, found the integer 0"),
        ] {
            #expect(refusal(flags: ["--\(flag)", text]) == "--\(flag): \(flag) must be \(want)")
        }
    }

    /// Lines are counted right in files with either kind of line end, with blanks in headers and with comments.
    @Test(arguments: ["\n", "\r\n"]) func lineNumbers(end: String) {
        let lines = ["# [model]", "", "[ model ] # dim = 5", "n_layers = 2", "\tdim = \"wide\""]
        #expect(refusal(text: lines.joined(separator: end) + end)?.hasPrefix("x.toml:5: model.dim must be") == true)
        let dotted = ["# first", "training.steps = 4", "", "model.dim = \"wide\""]
        #expect(refusal(text: dotted.joined(separator: end))?.hasPrefix("x.toml:4: model.dim must be") == true)
    }

    @Test func notTOML() {
        let line = refusal(text: "[model]\ndim = 5\ndim = = 6\n")
        #expect(line?.hasPrefix("x.toml:3: not valid TOML") == true, "\(line ?? "accepted")")
        #expect(refusal(text: "[model]\ndim = 5\ndim = 6\n")?.hasPrefix("x.toml:3: not valid TOML") == true)
    }

    /// Files that cannot be read are named, with the system's reason.
    @Test func unreadableFiles() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("skein-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        func line(_ path: String) -> String? {
            do {
                _ = try ResolvedRecipe.load(file: path)
                return nil
            } catch {
                return error.description
            }
        }
        let missing = folder.appendingPathComponent("none.toml").path
        #expect(line(missing)?.hasPrefix("\(missing): No such file or directory") == true)
        #expect(line(folder.path)?.hasPrefix("\(folder.path): Is a directory") == true)
        let binary = folder.appendingPathComponent("binary.toml")
        try Data([0x61, 0xFF, 0xFE]).write(to: binary)
        #expect(line(binary.path) == "\(binary.path): not UTF-8 text")
        let good = folder.appendingPathComponent("good.toml")
        try Data("[model]\nn_layers = 9\n".utf8).write(to: good)
        let resolved = try ResolvedRecipe.load(file: good.path)
        #expect(resolved.recipe.model.layers == 9)
        #expect(resolved.origin("model.n_layers") == .file(path: good.path, line: 2))
    }
}
