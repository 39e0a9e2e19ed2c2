import Foundation
import Testing

/// Mistakes that people make, each with what they typed and what a launcher has set. Every one of them is one line that
/// names the thing and says what to do, ends with exit code 2, prints nothing else, and leaves nothing behind.
@Suite struct MistakesTests {
    struct Mistake: Sendable, CustomStringConvertible {
        let arguments: [String]
        /// What the line must say: the thing, and the way out.
        let words: [String]
        /// Beside those of the test itself.
        var variables: [String: String] = [:]
        var description: String { "skein " + arguments.joined(separator: " ") }

        init(_ line: String, _ words: String...) {
            arguments = line.split(separator: " ").map(String.init)
            self.words = words
        }

        /// The same as a rank of two, and what else its launcher has set.
        func asRank(_ rank: Int, _ more: [String: String] = [:]) -> Mistake {
            var mistake = self
            mistake.variables = [
                "RANK": "\(rank)", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29461",
                "SKEIN_SECRET_FILE": "job.secret",
            ].merging(more) { $1 }
            return mistake
        }
    }

    static let mistakes = [
        // The command line.
        Mistake("trian run.toml", "trian"),
        Mistake("train", "config"),
        Mistake("train run.tml", "run.tml", "No such file"),
        Mistake("train run.toml --training.stesp 9", "--training.stesp", "did you mean training.steps?"),
        Mistake("train run.toml --trainign.steps 9", "--trainign.steps", "training.steps"),
        Mistake("train run.toml steps=9", "'steps=9' is no flag", "--section.key value"),
        Mistake("train run.toml --training.steps", "--training.steps needs a value", "an integer"),
        Mistake("train run.toml --training.steps many", "training.steps must be an integer", "\"many\""),
        Mistake("train run.toml --training.steps 1e3", "training.steps must be an integer"),
        Mistake("train run.toml --optimizer.lr -1", "optimizer.lr must be from 0.0"),
        Mistake("train run.toml --optimizer.name adam", "one of adamw, lamb, sgd, muon", "\"adam\""),
        // The config.
        Mistake("train quotes.toml", "quotes.toml:2"),
        Mistake("train section.toml", "section.toml:2", "unknown key modle.dim", "model.dim"),
        Mistake("train type.toml", "type.toml:2: model.dim must be an integer", "the text \"32\""),
        Mistake("train twice.toml", "twice.toml:3"),
        Mistake("train run.toml --model.n_heads 5", "model.n_heads = 5 does not divide model.dim = 32"),
        Mistake("train run.toml --model.n_heads 32", "heads of 1 cannot be rotated in pairs", "must be even"),
        Mistake("train run.toml --model.vocab_size 100", "model.vocab_size = 100", "257"),
        Mistake("train run.toml --training.max_tokens_per_task 8", "less than one row", "training.seq_len"),
        Mistake("train run.toml --metrics.prometheus here.txt", "metrics.prometheus", ".prom"),
        // The data.
        Mistake("train run.toml --data.paths missing.txt", "missing.txt"),
        Mistake("train run.toml --data.paths empty.txt", "empty.txt is empty"),
        Mistake("train run.toml --data.tokenizer gpt2", "gpt2"),
        Mistake("train run.toml --training.seq_len 7000", "longer than the data", "lower training.seq_len"),
        // Ranks.
        Mistake("launch run.toml", "-n RANKS", "--hostfile"),
        Mistake("launch -n 2 run.toml --training.global_batch_size 1", "leaves some of 2 ranks without a row",
                "at least 2"),
        Mistake("launch -n 2 run.toml --launch.max_restarts 1 --checkpoint.enable false", "launch.max_restarts",
                "checkpoint.enable"),
        Mistake("launch --hostfile hosts run.toml", "hosts:1", "slots=2"),
        Mistake("launch --hostfile gone run.toml", "gone: No such file"),
        Mistake("launch --hostfile mixed run.toml", "mixed has this machine as localhost among others"),
        Mistake("launch --hostfile machines -n 3 run.toml", "-n 3", "machines has 2 slots", "leave out -n"),
        Mistake("launch --hostfile machines --ssh no-such-ssh run.toml", "no no-such-ssh here", "openssh-client"),
        Mistake("launch -n 2 --logs text.txt/logs run.toml", "--logs", "text.txt/logs", "Not a directory"),
        Mistake("doctor --port-range 80", "--port-range 80", "29400-29500"),
        Mistake("eval outputs/tiny --hostfile gone --data text.txt", "gone: No such file"),
        // Ports, addresses and secrets.
        Mistake("launch --hostfile machines --master-port 70000 run.toml", "--master-port", "1 to 65535"),
        Mistake("launch -n 2 run.toml --comm.port_range 80", "comm.port_range", "29400-29500"),
        Mistake("train run.toml", "MASTER_PORT is 0", "1 to 65535").asRank(0, ["MASTER_PORT": "0"]),
        Mistake("train run.toml", "RANK is 5", "WORLD_SIZE is 2").asRank(5),
        Mistake("train run.toml --comm.bind 203.0.113.9", "203.0.113.9:29461", "no such address", "comm.bind")
            .asRank(0),
        Mistake("train run.toml --comm.interface eth77", "eth77", "there are").asRank(0),
        Mistake("train run.toml", "SKEIN_SECRET_FILE is not set", "skein secret new").asRank(0, secret("")),
        Mistake("train run.toml", "open.secret", "mode 644", "chmod 600").asRank(0, secret("open.secret")),
        Mistake("train run.toml", "text.secret", "skein secret new").asRank(0, secret("text.secret")),
        // Checkpoints and models.
        Mistake("generate outputs/nothing", "outputs/nothing does not exist"),
        Mistake("train run.toml --checkpoint.load step-9", "step-9 does not exist"),
        Mistake("train run.toml --job.dump_folder text.txt", "text.txt is no folder", "job.dump_folder"),
        Mistake("export text.txt new", "text.txt is not a folder", "a run's folder"),
        Mistake("import . --out new", "no config.json", "transformers"),
    ]

    private static func secret(_ file: String) -> [String: String] { ["SKEIN_SECRET_FILE": file] }

    @Test func thereAreThirtyAndMore() { #expect(Self.mistakes.count >= 45) }

    @Test(arguments: mistakes) func isOneLineThatHelps(_ mistake: Mistake) throws {
        let place = try Workplace()
        try place.write("quotes.toml", "[job]\nname = \"half\n")
        try place.write("section.toml", "[modle]\ndim = 32\n")
        try place.write("type.toml", "[model]\ndim = \"32\"\n")
        try place.write("twice.toml", "[model]\ndim = 32\ndim = 64\n")
        try place.write("empty.txt", "")
        try place.write("hosts", "node1 2\n")
        try place.write("machines", "node1 slots=2\n")
        try place.write("mixed", "localhost\nnode2\n")
        for (name, text, mode) in [("job.secret", String(repeating: "5a", count: 32), 0o600),
                                   ("open.secret", String(repeating: "5a", count: 32), 0o644),
                                   ("text.secret", "please", 0o600)] {
            try place.write(name, text + "\n")
            try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: place.path + "/" + name)
        }
        let before = try place.contents()
        let outcome = try Program.run(mistake.arguments, in: place.path, variables: mistake.variables)
        #expect(outcome.code == 2 && outcome.out.isEmpty, "\(outcome.code) \(outcome.out) \(outcome.error)")
        #expect(outcome.errorLines.count == 1 && outcome.error.hasPrefix("skein: "), "\(outcome.error)")
        for word in mistake.words { #expect(outcome.error.contains(word), "\(outcome.error)") }
        #expect(try place.contents() == before)
    }
}
