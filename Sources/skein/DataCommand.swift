import ArgumentParser
import Base
import Corpus
import Storage
import Telemetry
import Trainer

struct DataCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "data", abstract: "Prepares texts for training, and says what is in them.",
        subcommands: [Prepare.self, Stats.self, Verify.self])

    struct Prepare: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Turns texts into token shards and an index.",
            discussion: """
                Training then reads the shards by memory map: --data.paths DIR --data.tokenizer DIR. It sees the same \
                documents in the same order as from the texts themselves, so a run may go on with either. What is \
                written depends on the texts and the tokenizer alone. Interrupted, run the same command again: \
                finished shards are checked and kept.
                """)

        @Argument(help: "Texts, folders, JSON lines, docs.txt beside docs.tsv; .zst and .gz of them.")
        var sources: [String]
        @Option(help: "The folder to make.")
        var out: String
        @Option(help: "`bytes`, or a tokenizer.json or the folder with one.")
        var tokenizer = "bytes"
        @Option(help: "Learn a byte-level BPE of so many tokens from the training documents first.")
        var vocabSize: Int?
        @Option(help: "Texts are cut into documents where exactly this stands.")
        var separator = ""
        @Option(help: "Threads that encode; 0: the cores this process may use.")
        var threads = 0
        @Option(help: "MiB of text after which a shard ends.")
        var shardMib = 32
        @Option(help: .hidden)
        var shardBytes: Int?

        func validate() throws {
            guard (0...4_096).contains(threads) else { throw ValidationError("--threads must be from 0 to 4096") }
            guard (1...1_024).contains(shardMib) else { throw ValidationError("--shard-mib must be from 1 to 1024") }
            guard (1...1 << 30).contains(shardBytes ?? 1) else {
                throw ValidationError("--shard-bytes must be from 1 to 1073741824")
            }
            guard (257...65_536).contains(vocabSize ?? 257) else {
                throw ValidationError("--vocab-size must be from 257 to 65536")
            }
            guard vocabSize == nil || tokenizer == "bytes" else {
                throw ValidationError("--vocab-size makes a new tokenizer; leave --tokenizer out")
            }
        }

        func run() throws {
            let started = MonotonicClock.seconds()
            let chosen = try chosenTokenizer()
            var preparation = Preparation(sources: sources, folder: out,
                                          threads: threads == 0 ? Machine.cores() : threads,
                                          shardBytes: shardBytes ?? shardMib << 20)
            preparation.separator = separator
            var line = WorkLine(descriptor: 2), phase = PreparationProgress.Phase.reading
            let summary = try preparation.run(chosen) { progress in
                if progress.phase != phase {
                    line.finish()
                    line = WorkLine(descriptor: 2)
                    phase = progress.phase
                }
                let detail = phase == .reading ? "read" : "shard \(progress.shards)/\(progress.totalShards)"
                line.update(done: progress.bytes, total: progress.totalBytes, detail: detail)
            }
            line.finish()
            for warning in summary.notes + StorageWarnings.take() { printError("skein: warning: \(warning)") }
            report(summary, seconds: MonotonicClock.seconds() - started)
        }

        private func chosenTokenizer() throws -> any Tokenizer {
            if let vocabSize {
                printError("learning \(Units.grouped(vocabSize)) tokens")
                return try BytePairTokenizer.trained(on: sources, vocabularySize: vocabSize, separator: separator)
            }
            return tokenizer == "bytes" ? ByteTokenizer() : try loadTokenizer(tokenizer)
        }

        private func report(_ summary: PreparationSummary, seconds: Double) {
            let each = Double(summary.textBytes) / Double(max(summary.tokens, 1))
            let kept = summary.keptShards > 0 ? ", \(summary.keptShards) of them were there" : ""
            print("""
                documents  \(Units.grouped(summary.documents)), \(Units.bytes(summary.textBytes)) of text
                tokens     \(Units.grouped(summary.tokens)), \(Units.fixed(each, 2)) bytes each
                written    \(summary.shards) shards in \(out)\(kept); \(Units.duration(seconds))
                """)
        }
    }

    struct Verify: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Reads every byte of prepared data and compares it with its checksums.")

        @Argument(help: "A folder that skein data prepare made.")
        var folder: String

        func run() throws {
            let (shards, tokens) = try verifyPrepared(folder, tokenizer: loadTokenizer(folder))
            print("\(folder): whole (\(shards) shards, \(Units.grouped(tokens)) tokens)")
        }
    }
}
