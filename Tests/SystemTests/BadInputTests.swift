import Foundation
import Testing

/// Every bad input: one line on standard error that names the thing, exit code 2, no file touched.
@Suite struct BadInputTests {
    private func expectRefusal(_ place: borrowing Workplace, _ arguments: [String], naming words: [String],
                               _ comment: Comment) throws {
        let before = try place.contents()
        let outcome = try Program.run(arguments, in: place.path)
        #expect(outcome.code == 2, comment)
        #expect(outcome.errorLines.count == 1, "\(comment): \(outcome.error)")
        for word in words { #expect(outcome.error.contains(word), "\(comment): \(outcome.error)") }
        #expect(try place.contents() == before, comment)
    }

    @Test func texts() throws {
        let place = try Workplace()
        try place.write("empty.txt", "")
        try place.write("short.txt", "short")
        let cases: [([String], [String])] = [
            (["--data.paths", "missing.txt"], ["missing.txt"]),
            (["--data.paths", "empty.txt"], ["empty.txt"]),
            (["--data.paths", "short.txt"], ["training.seq_len", "longer than the data"]),
            (["--training.seq_len", "100000"], ["training.seq_len", "longer than the data"]),
            (["--data.paths", ""], ["data.paths"]),
        ]
        for (flags, words) in cases {
            try expectRefusal(place, ["train", "run.toml"] + flags, naming: words, "\(flags)")
        }
        if getuid() != 0 {
            try place.write("locked.txt", "some text")
            try FileManager.default.setAttributes([.posixPermissions: 0], ofItemAtPath: place.path + "/locked.txt")
            try expectRefusal(place, ["train", "run.toml", "--data.paths", "locked.txt"], naming: ["locked.txt"],
                              "locked")
        }
    }

    @Test func data() throws {
        let place = try Workplace()
        try place.write("latin.jsonl", Data("{\"text\":\"caf".utf8) + [0xE9] + Data("\"}\n".utf8))
        try place.write("none.jsonl", "{\"text\":\"one\"}\n{\"text\":\"\"}\n")
        try place.write("cut.bin", Data([0x88, 0xD8, 0x34, 1, 1, 0, 0, 0, 9, 0, 0, 0]) + Data(count: 1_014))
        try place.write("broken.jsonl.zst", "{\"text\":\"not compressed\"}\n")
        try place.write("t/docs.txt", "onetwo")
        try place.write("t/docs.tsv", "offset\tlength\tsplit\tpath\n0\t3\ttrain\ta\n3\t0\ttrain\tb\n3\t3\ttrain\tc\n")
        let cases: [(String, [String])] = [
            ("latin.jsonl", ["latin.jsonl", "UTF-8", "line 1, byte 12"]),
            ("none.jsonl", ["none.jsonl line 2, byte 15", "empty document"]),
            ("cut.bin", ["cut.bin", "9 tokens", "1042", "1026"]), ("broken.jsonl.zst", ["broken.jsonl.zst", "byte 0"]),
            ("t", ["docs.tsv line 3", "empty document"]), ("gone.jsonl", ["gone.jsonl", "No such file"]),
        ]
        for (source, words) in cases {
            try expectRefusal(place, ["train", "run.toml", "--data.paths", source], naming: words, "\(source)")
            if source != "cut.bin" {
                try expectRefusal(place, ["data", "stats", source], naming: words, "stats of \(source)")
            }
        }
        try place.write("taken", "a file")
        for flags in [["--job.dump_folder", "taken"], ["--job.dump_folder", "taken/in/it"]] {
            try expectRefusal(place, ["train", "run.toml"] + flags, naming: ["taken", "job.dump_folder"], "\(flags)")
        }
        // Beyond this, the number of the last traced step would overflow.
        try expectRefusal(place, ["train", "run.toml", "--profiling.trace", "true", "--profiling.first_step",
                                  "\(Int.max)"], naming: ["profiling.first_step"], "first step")
        let weights = ["train", "run.toml", "--data.weights"]
        try expectRefusal(place, weights + ["1,2"], naming: ["data.weights", "2 weights for 1 sources"], "weights")
        try expectRefusal(place, weights + ["5: 1"], naming: ["data.weights", "step 0"], "late weights")
        #expect(try place.run("data", "prepare", "text.txt", "--out", "prepared").code == 0)
        for (tokenizer, words) in [("bytes", ["prepared/index.skein", "checksum"])] {
            let index = URL(fileURLWithPath: place.path + "/prepared/index.skein")
            var bytes = try Data(contentsOf: index)
            bytes[30] ^= 1
            try bytes.write(to: index)
            try expectRefusal(place, ["train", "run.toml", "--data.paths", "prepared", "--data.tokenizer", tokenizer],
                              naming: words, "a damaged index")
        }
        try expectRefusal(place, ["data", "prepare", "text.txt", "--out", "t"], naming: ["t holds docs"], "not ours")
        // At resume: the data of the checkpoint have gone, or are others.
        #expect(try place.run("train", "run.toml").code == 0)
        let load = ["train", "run.toml", "--checkpoint.load", "latest", "--training.steps", "8"]
        let text = try Data(contentsOf: URL(fileURLWithPath: place.path + "/text.txt"))
        try place.write("text.txt", text + Data("more".utf8))
        try expectRefusal(place, load, naming: ["outputs/tiny", "other data"], "changed data")
        try FileManager.default.removeItem(atPath: place.path + "/text.txt")
        try expectRefusal(place, load, naming: ["text.txt", "No such file"], "data that are gone")
    }

    @Test func configs() throws {
        let place = try Workplace()
        try place.write("typo.toml", "[training]\nstesp = 3\n")
        try place.write("type.toml", "[model]\n\ndim = \"wide\"\n")
        try place.write("heads.toml", "[model]\ndim = 32\nn_heads = 5\n")
        try place.write("syntax.toml", "[model\ndim = 3\n")
        let cases: [([String], [String])] = [
            (["typo.toml"], ["typo.toml:2", "training.stesp", "training.steps"]),
            (["type.toml"], ["type.toml:3", "model.dim", "integer", "wide"]),
            (["heads.toml"], ["heads.toml:3", "model.n_heads", "5", "32"]),
            (["syntax.toml"], ["syntax.toml:1"]),
            (["missing.toml"], ["missing.toml"]),
            (["run.toml", "--training.sequence", "5"], ["--training.sequence"]),
            (["run.toml", "--training.steps", "many"], ["training.steps", "many"]),
            (["run.toml", "--training.steps", "0"], ["training.steps", "from 1"]),
            (["run.toml", "--training.steps"], ["training.steps"]),
            (["run.toml", "--model.n_heads", "3"], ["model.n_heads", "3"]),
            (["run.toml", "--model.n_kv_heads", "3"], ["model.n_kv_heads"]),
            (["run.toml", "--job.name", "../up"], ["job.name"]),
        ]
        for (arguments, words) in cases {
            try expectRefusal(place, ["train"] + arguments, naming: words, "\(arguments)")
        }
        let few = ["launch", "-n", "3", "run.toml", "--training.global_batch_size", "2"]
        try expectRefusal(place, few, naming: ["training.global_batch_size", "3 ranks"], "fewer rows than ranks")
        try expectRefusal(place, ["launch", "-n", "0", "run.toml"], naming: ["-n 0"], "no ranks")
        #expect(try place.run("tarin").code == 2)
        #expect(try place.run("train").code == 2)
        #expect(try place.run("train", "--help").code == 0)
    }

    @Test func checkpointsAndFolders() throws {
        let place = try Workplace()
        #expect(try place.run("train", "run.toml").code == 0)
        try expectRefusal(place, ["train", "run.toml"],
                          naming: ["outputs/tiny", "--checkpoint.load latest", "--job.name"], "existing folder")
        let load = ["--checkpoint.load", "outputs/tiny", "--job.name", "other"]
        try expectRefusal(place, ["train", "run.toml", "--model.dim", "64"] + load,
                          naming: ["model.embed_tokens.weight", "32", "64"], "another shape")
        try expectRefusal(place, ["train", "run.toml", "--checkpoint.load", "latest", "--training.steps", "4"],
                          naming: ["step 4", "training.steps"], "nothing left to do")
        try expectRefusal(place, ["train", "run.toml", "--checkpoint.load", "nowhere", "--job.name", "other"],
                          naming: ["nowhere"], "no such checkpoint")
        try expectRefusal(place, ["inspect", "nowhere"], naming: ["nowhere"], "inspect")
        try expectRefusal(place, ["generate", "nowhere"], naming: ["nowhere"], "generate")
    }

    @Test func oneFlippedByteNamesTheTensor() throws {
        let place = try Workplace()
        #expect(try place.run("train", "run.toml").code == 0)
        let step = "outputs/tiny/checkpoint/step-4"
        #expect(try place.run("inspect", "--verify", step).code == 0)
        let file = URL(fileURLWithPath: "\(place.path)/\(step)/model.safetensors")
        var bytes = try Data(contentsOf: file)
        bytes[bytes.count - 5] ^= 0x10
        try bytes.write(to: file)
        let other = ["train", "run.toml", "--checkpoint.load", step, "--job.name", "other", "--training.steps", "8"]
        for arguments in [["inspect", "--verify", step], ["generate", step], other] {
            try expectRefusal(place, arguments, naming: ["lm_head.weight", "model.safetensors"], "\(arguments)")
        }
        // Truncated: the file is named with what it has and should have.
        try bytes.prefix(bytes.count / 2).write(to: file)
        for arguments in [["inspect", step], ["generate", step],
                          ["train", "run.toml", "--checkpoint.load", "latest", "--training.steps", "8"]] {
            try expectRefusal(place, arguments, naming: ["model.safetensors", "\(bytes.count / 2)", "\(bytes.count)"],
                              "\(arguments)")
        }
    }
}
