/// One rule of the house. `broken` gives a line for each place that breaks it: where, what, and what to do.
struct Rule: Sendable, CustomStringConvertible {
    let name: String
    let broken: @Sendable (House) -> [String]
    var description: String { name }

    static let all = [
        arrows, imports, unusedArrows, foreignModules, indexing, lengths, lines, deadFiles, words, sendable,
        testTargets,
    ]
}

/// The rooms from the ground up, and what each may import: docs/architecture.md has the same table with its
/// reasons. A room that does not exist yet is simply not there.
enum Plan {
    static let rooms: [(name: String, imports: Set<String>)] = {
        var rows: [(name: String, imports: Set<String>)] = [
            ("Base", ["CChecksum"]),
            ("Recipe", ["Base", "TOMLKit"]),
            ("Compression", ["Base", "CZstd", "CZlib"]),
            ("Tensor", ["Base", "COpenBLAS", "CKernels"]),
            ("Wire", ["Base", "CUV", "Crypto"]),
            ("Collectives", ["Base", "Wire", "Tensor"]),
            ("Simulation", ["Base", "Wire", "Collectives"]),
            ("Planner", ["Base", "Recipe", "CCbc"]),
            ("Storage", ["Base"]),
            ("Corpus", ["Base", "Recipe", "Compression", "Storage"]),
            ("Model", ["Base", "Tensor", "Recipe"]),
            ("Parallel", ["Base", "Model", "Collectives", "Tensor", "Recipe"]),
            ("Checkpoint", ["Base", "Recipe", "Tensor", "Compression", "Storage", "Crypto"]),
            ("Telemetry", ["Base", "Recipe"]),
        ]
        rows.append(("Trainer", Set(rows.map(\.name))))
        rows.append(("Launch", ["Base", "Recipe", "Telemetry"]))
        rows.append(("Bench", Set(rows.map(\.name))))
        rows.append(("skein", Set(rows.map(\.name)).union(["ArgumentParser"])))
        return rows
    }()

    static let allowed = Dictionary(uniqueKeysWithValues: rooms.map { ($0.name, $0.imports) })

    /// Modules that one room alone (Crypto: two) may know.
    static let owners: [String: Set<String>] = [
        "CChecksum": ["Base"], "COpenBLAS": ["Tensor"], "CKernels": ["Tensor"], "CUV": ["Wire"], "CCbc": ["Planner"],
        "CZstd": ["Compression"], "CZlib": ["Compression"],
        "TOMLKit": ["Recipe"], "Crypto": ["Wire", "Checkpoint"], "ArgumentParser": ["skein"],
    ]

    /// What comes with the toolchain, or is a plain library that any room may use.
    static let common: Set<String> = [
        "Swift", "Glibc", "Musl", "Darwin", "Synchronization", "Dispatch", "Foundation", "Logging", "Collections",
        "DequeModule", "OrderedCollections",
    ]

    /// Rooms that stay without Foundation.
    static let bare: Set<String> = ["Base", "Tensor", "Model"]
}

extension Rule {
    static let arrows = Rule(name: "arrows point up the table") { house in
        var broken: [String] = []
        for target in house.targets where !target.isTest && Plan.owners[target.name] == nil {
            guard let allowed = Plan.allowed[target.name] else {
                broken.append("Package.swift: \(target.name) is no room of the table in Tests/HouseTests/Rules.swift")
                continue
            }
            for module in target.imports where !allowed.contains(module) {
                let may = allowed.sorted().joined(separator: ", ")
                broken.append("Package.swift: \(target.name) must not depend on \(module); it may on \(may)")
            }
        }
        return broken
    }

    static let imports = Rule(name: "what is imported is declared") { house in
        house.targets.flatMap { target in
            let known = Set(target.imports).union(Plan.common).union(target.isTest ? ["Testing"] : [])
            return house.files(of: target).filter { $0.path.hasSuffix(".swift") }.flatMap { path, lines in
                House.imports(lines).filter { !known.contains($0.module) }.map {
                    "\(path):\($0.line): imports \($0.module), which \(target.name)'s row in the manifest lacks"
                }
            }
        }
    }

    static let unusedArrows = Rule(name: "what is declared is imported") { house in
        house.targets.filter { Plan.allowed[$0.name] != nil }.flatMap { target in
            let used = Set(house.files(of: target).flatMap { House.imports($0.lines).map(\.module) })
            return target.imports.filter { !used.contains($0) }.map {
                "Package.swift: \(target.name) declares \($0) but imports it nowhere; take it off its row"
            }
        }
    }

    static let foreignModules = Rule(name: "a module stays with its owner") { house in
        house.targets.flatMap { target in
            house.files(of: target).flatMap { path, lines in
                House.imports(lines).compactMap { line, module in
                    if module == "Foundation", Plan.bare.contains(target.name) {
                        return "\(path):\(line): \(target.name) stays without Foundation; use Glibc"
                    }
                    // Tests may look at a library to check its owner against it.
                    guard !target.isTest, let owners = Plan.owners[module], !owners.contains(target.name)
                    else { return nil }
                    let names = owners.sorted().joined(separator: " and ")
                    return "\(path):\(line): \(module) belongs to \(names); go through it"
                }
            }
        }
    }

    static let indexing = Rule(name: "kernels slice rows before they index") { house in
        let folders = ["Kernels", "Attention", "Formats"].map { "Sources/Tensor/\($0)/" }
        return house.matches(in: { path in folders.contains { path.hasPrefix($0) } },
                             { $0.contains(/\[(?:lanes: )?[a-zA-Z_]+ \+ [a-zA-Z_]+\]/) },
                             "base + i as an index stops vectorising; slice the row, then index it")
    }

    static let lengths = Rule(name: "no file over 400 lines") { house in
        house.swiftAndC.filter { $0.lines.count > 401 }.map {
            "\($0.path): \($0.lines.count - 1) lines; the stop is 400 (aim at 250): cut it by aspect"
        }
    }

    static let lines = Rule(name: "lines of at most 120 columns, no tabs, no trailing blanks") { house in
        let code: @Sendable (String) -> Bool = { _ in true }
        return house.matches(in: code, { $0.count > 120 }, "over 120 columns")
            + house.matches(in: code, { $0.contains("\t") }, "a tab; indent by four blanks")
            + house.matches(in: code, { $0.last == " " || $0.last == "\r" }, "a trailing blank")
    }

    static let deadFiles = Rule(name: "no dead files") { house in
        house.swiftAndC.flatMap { path, lines -> [String] in
            let owned = path == "Package.swift" || house.targets.contains { path.hasPrefix($0.folder) }
            let isEmpty = lines.allSatisfy { line in
                let text = line.drop { $0 == " " }
                return text.isEmpty || text.hasPrefix("//") || text.hasPrefix("import ")
            }
            return (owned ? [] : ["\(path): in the folder of no target of Package.swift; nobody builds it"])
                + (isEmpty ? ["\(path): declares nothing; remove it"] : [])
        } + house.targets.filter { target in !house.files.keys.contains { $0.hasPrefix(target.folder) } }.map {
            "Package.swift: \($0.name) has no file in \($0.folder)"
        }
    }

    static let words = Rule(name: "nothing is left for later") { house in
        // Put together here, so that this file does not break its own rule.
        [("TO" + "DO", "do it, or leave it out"), ("FIX" + "ME", "fix it"),
         ("fatal" + "Error(", "a programmer error is a precondition, an operating error is thrown"),
        ].flatMap { word, advice in
            house.matches(in: { _ in true }, { $0.contains(word) }, "\(word): \(advice)")
        }
    }

    static let sendable = Rule(name: "unchecked sharing is rare and proven") { house in
        let mark = "@unchecked " + "Sendable"
        var broken: [String] = []
        var holders: [String] = []
        for (path, lines) in house.swiftAndC {
            let places = lines.indices.filter { lines[$0].contains(mark) && !lines[$0].contains("// ") }
            if !places.isEmpty, path.hasPrefix("Sources/") { holders.append(path) }
            for place in places {
                let around = lines[max(0, place - 6)...min(lines.count - 1, place + 6)]
                if !around.contains(where: { $0.contains("// \(mark):") }) {
                    broken.append("\(path):\(place + 1): \(mark) without its proof; say it in \"// \(mark): ...\"")
                }
            }
        }
        if holders.count > 5 {
            broken.append("\(holders.count) files with \(mark), five are the most: \(holders.joined(separator: ", "))")
        }
        return broken
    }

    static let testTargets = Rule(name: "every room has tests") { house in
        house.targets.filter { Plan.allowed[$0.name] != nil }.compactMap { target -> String? in
            // The program is tested from outside, by running it.
            let tests = target.name == "skein" ? "SystemTests" : target.name + "Tests"
            return house.targets.contains { $0.name == tests } ? nil
                : "Package.swift: \(target.name) has no tests; add tests(\"\(target.name)\", ...)"
        }
    }
}

extension House {
    /// "path:line: advice" for each line that `isWrong`, in the files that `isMeant` picks.
    func matches(in isMeant: (String) -> Bool, _ isWrong: (String) -> Bool, _ advice: String) -> [String] {
        swiftAndC.filter { isMeant($0.path) }.flatMap { path, lines in
            lines.indices.filter { isWrong(lines[$0]) }.map { "\(path):\($0 + 1): \(advice)" }
        }
    }
}
