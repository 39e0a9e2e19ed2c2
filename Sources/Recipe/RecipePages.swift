extension Recipe {
    /// The pages of docs/config, one for each section, by file name: made from the keys' own texts, so that they cannot
    /// say something else. `skein config pages` writes them, and a test compares.
    public static var pages: [(name: String, text: String)] {
        var sections: [String] = []
        for key in keys where key.section != sections.last { sections.append(key.section) }
        let index = """
            # The config, key by key

            A config is a TOML file; every key is a flag as well, `--section.key value`. A key that is left out has its
            default. `skein config explain FILE` prints every value and where it came from, `skein config init --depth
            4` writes a config to begin with. These pages are made by `skein config pages docs/config`.


            """ + sections.map { "- [\($0)](\($0).md): \(introductions[$0] ?? "")" }.joined(separator: "\n") + "\n"
        return [("README.md", index)] + sections.map { ("\($0).md", page($0)) }
    }

    private static func page(_ section: String) -> String {
        let rows = keys.filter { $0.section == section }.map { key in
            "| `\(key.leaf)` | `\(key.read(Recipe()).toml)` | \(key.expected) | \(cell(key.help)) |"
        }
        let names = aliases.filter { $0.value.hasPrefix(section + ".") }.sorted { $0.key < $1.key }
        let others = names.isEmpty ? "" : "\nnanoGPT's names are accepted, too: "
            + names.map { "`\($0.key)` for `\($0.value.dropFirst(section.count + 1))`" }.joined(separator: ", ") + ".\n"
        return """
            # [\(section)]

            \(introductions[section] ?? "")

            | Key | Default | Takes | What it does |
            |---|---|---|---|
            \(rows.joined(separator: "\n"))
            \(others)
            """
    }

    private static func cell(_ text: String) -> String { text.replacing("|", with: "\\|") }

    private static let introductions = [
        "job": "What the run is called and where its files go.",
        "model": "The transformer's shape, in Llama's terms.",
        "data": "What is learnt, and how documents become rows (see [data](../data.md)).",
        "training": "How long, how much at once, and how short contexts are at the start.",
        "optimizer": "What turns gradients into updates.",
        "lr_scheduler": "How the learning rate rises and falls.",
        "planner": "Plans of a step's documents over ranks (see [sequence parallelism](../sequence-parallelism.md)).",
        "precision": "Number formats of the step (see [low precision](../low-precision.md)).",
        "parallelism": "Which parts of the training state ranks share out (see [sharding](../sharding.md)).",
        "checkpoint": "What is saved when, and what a run begins with (see [checkpoints](../checkpoints.md)).",
        "comm": "Between ranks (see [collectives](../collectives.md)).",
        "activation_checkpoint": "What the backward computes again instead of keeping it.",
        "validation": "When held-out documents are read, and how.",
        "metrics": "What a run tells while it runs (see [watching](../watching.md)).",
        "profiling": "Where the time of some steps goes, span by span.",
        "launch": "For `skein launch` (see [launching](../launching.md)).",
        "debug": "Seeds, ranks that are made slow, and rehearsed faults.",
    ]
}
