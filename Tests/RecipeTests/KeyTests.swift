import Base
import Recipe
import Testing

/// A value other than the default for every key, that fits the defaults of all the others.
func otherValue(_ key: Key) -> Value {
    let special: [String: Value] = [
        "model.dim": .integer(204), "model.n_heads": .integer(8), "model.n_kv_heads": .integer(3),
        "model.head_dim": .integer(34), "metrics.prometheus": .text("skein.prom"),
        "training.max_tokens_per_task": .integer(2_048), "comm.port_range": .text("29400-29500"),
        "debug.fault": .text("stop 3 save 7"), "launch.elastic": .text("replace"),
        "launch.redundancy": .integer(0),
    ]
    if let value = special[key.name] { return value }
    switch key.read(Recipe()) {
    case .integer(let value): return .integer(value + 1)
    case .number(let value): return .number(value == 0 ? 0.25 : value / 2)
    case .bool(let value): return .bool(!value)
    case .list: return .list(["one.txt", "two words"])
    case .numbers: return .numbers([1, 2.5, 2_000_000])
    case .text(let value):
        // A choice names its cases; a key with a single one has no other value.
        guard key.expected.hasPrefix("one of ") else { return .text(key.expected == "text" ? "other" : value) }
        let names = key.expected.dropFirst("one of ".count).split(separator: ", ").map(String.init)
        return .text(names.first { $0 != value } ?? value)
    }
}

/// The value as one would type it after a flag.
func typed(_ value: Value) -> String {
    switch value {
    case .integer(let value): "\(value)"
    case .number(let value): "\(value)"
    case .text(let value): value
    case .bool(let value): "\(value)"
    case .list(let values): values.joined(separator: ",")
    case .numbers(let values): values.map { "\($0)" }.joined(separator: ",")
    }
}

/// The one line with which `flags`, and `text` as a file named x.toml, are refused; nil when they are accepted.
func refusal(text: String = "", flags: [String] = []) -> String? {
    do {
        _ = try ResolvedRecipe.load(text: text, name: "x.toml", flags: flags)
        return nil
    } catch {
        #expect(error.kind.exitCode == 2)
        #expect(!error.description.contains("\n"), "one line")
        return error.description
    }
}

@Suite struct KeyTests {
    /// `resolved` has `value` for `key`, from `origin`, and every other key as it was.
    private func expectOnly(_ key: Key, _ value: Value, _ origin: Origin, in resolved: ResolvedRecipe) {
        #expect(key.read(resolved.recipe) == value, "\(key.name)")
        #expect(resolved.origin(key.name) == origin, "\(key.name)")
        for other in Recipe.keys where other.name != key.name {
            #expect(other.read(resolved.recipe) == other.read(Recipe()), "\(key.name) changed \(other.name)")
            #expect(resolved.origin(other.name) == .standard)
        }
    }

    @Test func everyKeyThroughTOML() throws {
        for key in Recipe.keys {
            let value = otherValue(key)
            let text = "# a comment\n[\(key.section)]\n  \(key.leaf) = \(value.toml)  # another\n"
            let resolved = try ResolvedRecipe.load(text: text, name: "x.toml")
            expectOnly(key, value, .file(path: "x.toml", line: 3), in: resolved)
            #expect(resolved.translations.isEmpty)
        }
    }

    @Test func everyKeyAsAFlag() throws {
        for key in Recipe.keys {
            let value = otherValue(key)
            for flags in [["--\(key.name)", typed(value)], ["--\(key.name)=\(typed(value))"]] {
                expectOnly(key, value, .flag("--\(key.name)"), in: try ResolvedRecipe.load(file: nil, flags: flags))
            }
        }
    }

    @Test func switchesNeedNoValue() throws {
        for key in Recipe.keys where key.isFlag {
            for (flag, value) in [("--\(key.name)", true), ("--\(key.section).no-\(key.leaf)", false)] {
                let resolved = try ResolvedRecipe.load(file: nil, flags: [flag, "--debug.seed", "3"])
                #expect(key.read(resolved.recipe) == .bool(value))
                #expect(resolved.recipe.debug.seed == 3)
            }
        }
    }

    /// The resolved recipe, written out, reads back as itself: with every key at its default, with every key
    /// changed at once, and with texts and numbers that are hard to write.
    @Test func theWholeRecipeReadsBack() throws {
        func readsBack(_ recipe: Recipe) throws {
            #expect(try ResolvedRecipe.load(text: recipe.toml, name: "x.toml").recipe == recipe)
        }
        try readsBack(Recipe())
        // 8 heads of 204 / 6 do not fit together, nor two places to listen, nor bf16 products and OpenBLAS, nor sums
        // that repeat and rounded gradients, nor a fault and a trace, so one of the two stays.
        let left = ["model.n_heads", "comm.interface", "training.matmul", "comm.gradients", "debug.fault"]
        let keys = Recipe.keys.filter { !left.contains($0.name) }
        let flags = keys.flatMap { ["--\($0.name)", typed(otherValue($0))] }
        let changed = try ResolvedRecipe.load(file: nil, flags: flags).recipe
        for key in keys { #expect(key.read(changed) == otherValue(key)) }
        try readsBack(changed)
        for text in ["", " ", "a\"b\\c", "tab\tline\nreturn\r", "\u{1}\u{7F}", "# = [x]", "Gänse \u{1FABF}", "'''",
                     "\\u0041"] {
            var recipe = Recipe()
            recipe.job.dumpFolder = text
            recipe.data.paths = [text, "b", text]
            try readsBack(recipe)
        }
        for numbers in [[], [1], [0, 1e-30, 0.1 + 0.2, 1e22, 1e30]] {
            var recipe = Recipe()
            recipe.data.odds = numbers
            try readsBack(recipe)
        }
        for number in [0, 1e-300, Double.leastNonzeroMagnitude, 0.1 + 0.2, 1, 123_456_789_012, 1e22, .infinity] {
            var recipe = Recipe()
            recipe.training.maxNorm = number
            recipe.optimizer.epsilon = max(1e-30, min(number, 1))
            recipe.debug.seed = number < 1e18 ? Int(number) : Int.max
            try readsBack(recipe)
        }
    }

    /// Names are unique, each section's keys are together, and everything has a help text.
    @Test func theListIsInOrder() {
        #expect(Set(Recipe.keys.map(\.name)).count == Recipe.keys.count)
        var sections: [String] = []
        for key in Recipe.keys where key.section != sections.last { sections.append(key.section) }
        #expect(Set(sections).count == sections.count)
        #expect(Recipe.keys.allSatisfy { !$0.help.isEmpty && !$0.leaf.isEmpty })
    }
}
