import ArgumentParser
import Base
import Corpus
import Recipe
import Telemetry
import Trainer

extension DataCommand {
    struct Stats: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Shows how long documents are, and what each way of making rows of them would cost.",
            discussion: """
                Costs are floating-point operations for each token that is learnt, forward and backward, by the \
                model of --config and --model keys. A row's mean context is how many tokens a position looks back at.
                """)

        @Option(help: "Tokens in a row, the longest where lengths differ.")
        var seqLen = 8_192
        @Option(help: "The shortest rows of a decomposition; a power of two.")
        var minLength = 32
        @Option(help: "Which documents: all, train or valid.")
        var part = "all"
        @Option(help: "A TOML file with the model, and the tokenizer of texts; without it, the defaults.")
        var config: String?
        @Flag(help: "One JSON object a line.")
        var json = false
        @Argument(parsing: .allUnrecognized, help: ArgumentHelp(
            "Texts, or a folder that skein data prepare made; and values of the config: --section.key value.",
            valueName: "sources"))
        var arguments: [String] = []

        func validate() throws {
            guard !split.sources.isEmpty else { throw ValidationError("name texts, or a folder of prepared data") }
            guard (2...1 << 24).contains(seqLen) else { throw ValidationError("--seq-len must be from 2 to 2^24") }
            guard minLength > 0, minLength & (minLength - 1) == 0, minLength <= seqLen else {
                throw ValidationError("--min-length must be a power of two, at most --seq-len")
            }
            guard DataStatistics.Part(rawValue: part) != nil else {
                throw ValidationError("--part must be all, train or valid")
            }
        }

        func run() throws {
            let (all, flags) = split
            let recipe = try ResolvedRecipe.load(file: config, flags: flags).recipe
            let tokenizer = try preparedTokenizer(all) ?? openTokenizer(recipe)
            let data = try DataStatistics(sources: all, tokenizer: tokenizer, part: .init(rawValue: part) ?? .all,
                                          separator: recipe.data.separator)
            for note in data.notes { printError("skein: warning: \(note)") }
            guard data.tokens > 0 else { throw BadInput("no documents for --part \(part) in \(all[0])") }
            let table = try ParameterTable(recipe.model,
                                           vocabulary: recipe.vocabulary(ofTokens: tokenizer.vocabularySize))
            let width = recipe.model.layers * recipe.model.heads * recipe.model.headDim
            let cost = TokenCost(each: 6 * Double(table.multipliedCount), context: 12 * Double(width))
            let report = DataReport(data: data, tokenizer: tokenizer, sequence: seqLen, shortest: minLength, cost: cost)
            print(json ? report.json : report.text)
        }

        /// A flag of the config takes the argument after it; what is left are sources.
        private var split: (sources: [String], flags: [String]) {
            var sources: [String] = [], flags: [String] = [], isValue = false
            for argument in arguments {
                let isFlag = argument.hasPrefix("--")
                if isFlag || isValue { flags.append(argument) } else { sources.append(argument) }
                isValue = isFlag && !argument.contains("=")
            }
            return (sources, flags)
        }

        /// Prepared data know their tokenizer.
        private func preparedTokenizer(_ sources: [String]) throws -> (any Tokenizer)? {
            guard let folder = try sources.first(where: { try isPrepared($0) }) else { return nil }
            return try loadTokenizer(folder)
        }
    }
}

/// The tables of `skein data stats`.
struct DataReport {
    let data: DataStatistics
    let tokenizer: any Tokenizer
    let sequence: Int
    let shortest: Int
    let cost: TokenCost

    private var exponents: ClosedRange<Int> {
        shortest.trailingZeroBitCount...(Int.bitWidth - 1 - sequence.leadingZeroBitCount)
    }

    /// Documents cut into powers of two, in each way.
    private var mixtures: [LayoutStatistics] {
        [.greedy, .random, .quota(exponents.map { _ in 1 })].map { mode in
            data.decomposed(Decomposition(minimum: exponents.lowerBound, maximum: exponents.upperBound, mode: mode))
        }
    }

    private var packings: [LayoutStatistics] {
        [data.packed(.concatenate, sequence: sequence, documentMask: false)]
            + PackingMethod.allCases.map { data.packed($0, sequence: sequence, documentMask: true) }
    }

    var text: String {
        let packings = packings, mixtures = mixtures
        let base = packings[0].cost(cost)
        var blocks = [summary, table([["length", "documents", "tokens", "share"]] + data.histogram.map { each in
            ["\(each.length)", Units.grouped(each.documents), Units.grouped(each.tokens), share(each.tokens)]
        })]
        blocks.append(table([["rows of \(sequence)", "rows", "full", "context", "FLOPs/token", ""]]
            + packings.map { row($0, Units.fixed(100 * $0.efficiency, 2) + "%", base) }))
        let names = mixtures.map(\.name)
        blocks.append(table([["bucket"] + names.flatMap { [$0, "share"] }]
            + exponents.map { 1 << $0 }.enumerated().map { index, length in
                ["\(length)"] + mixtures.flatMap {
                    [Units.grouped($0.buckets[index].sequences), share($0.buckets[index].tokens)]
                }
            } + [["rests"] + mixtures.flatMap { [Units.grouped($0.restRows), share($0.restTokens)] }]))
        blocks.append(table([["powers of two", "rows", "full", "context", "FLOPs/token", ""]]
            + mixtures.map { row($0, Units.fixed(100 * $0.efficiency, 2) + "%", base) }))
        return blocks.joined(separator: "\n\n")
    }

    private var summary: String {
        let each = Double(data.textBytes) / Double(max(data.tokens - data.lengths.count, 1))
        let lengths = [0.1, 0.5, 0.9].map { Units.grouped(data.length(at: $0)) }.joined(separator: ", ")
        let splits = data.documents
        return """
            documents  \(Units.grouped(data.lengths.count)) (of all: \(Units.grouped(splits.train)) train, \
            \(Units.grouped(splits.valid)) valid, \(Units.grouped(splits.test)) test)
            text       \(Units.bytes(data.textBytes))
            tokens     \(Units.grouped(data.tokens)) (\(tokenizer.name), \(Units.fixed(each, 2)) bytes each; \
            ends of documents included)
            lengths    10%, 50%, 90%: \(lengths); longest \(Units.grouped(data.lengths.max() ?? 0))
            """
    }

    private func row(_ layout: LayoutStatistics, _ full: String, _ base: Double) -> [String] {
        let flops = layout.cost(cost)
        return [layout.name, Units.grouped(layout.buckets.reduce(layout.restRows) { $0 + $1.sequences }), full,
                Units.grouped(Int(layout.meanContext.rounded())), Units.count(flops),
                Units.fixed(base / flops, 2) + "x"]
    }

    private func share(_ tokens: Int) -> String {
        Units.fixed(100 * Double(tokens) / Double(max(data.tokens, 1)), 1) + "%"
    }

    /// Columns as wide as they must be; the first to the left, numbers to the right.
    private func table(_ rows: [[String]]) -> String {
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            let cells = row.enumerated().map { column, cell in
                let pad = String(repeating: " ", count: widths[column] - cell.count)
                return column == 0 ? cell + pad : pad + cell
            }
            let line = cells.joined(separator: "  ")
            return String(line.reversed().drop { $0 == " " }.reversed())
        }.joined(separator: "\n")
    }

    var json: String {
        let classes = data.histogram.map { "[\($0.length),\($0.documents),\($0.tokens)]" }
        let first = "{\"data\":\"documents\",\"documents\":\(data.lengths.count),\"text_bytes\":\(data.textBytes),"
            + "\"tokens\":\(data.tokens),\"histogram\":[\(classes.joined(separator: ","))]}"
        return ([first] + (packings + mixtures).map(line)).joined(separator: "\n")
    }

    private func line(_ layout: LayoutStatistics) -> String {
        let buckets = layout.buckets.map { "[\($0.length),\($0.sequences),\($0.tokens)]" }
        return "{\"data\":\"layout\",\"layout\":\"\(layout.name)\",\"buckets\":[\(buckets.joined(separator: ","))],"
            + "\"rest_rows\":\(layout.restRows),\"rest_tokens\":\(layout.restTokens),\"inputs\":\(layout.inputs),"
            + "\"efficiency\":\(layout.efficiency),\"mean_context\":\(layout.meanContext),"
            + "\"flops_per_token\":\(layout.cost(cost))}"
    }
}
