import ArgumentParser
import Base
import Bench
import Recipe
import Telemetry
import Trainer

struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Measures the code that training runs.",
        subcommands: [GemmCommand.self, StepCommand.self, CollectivesCommand.self])

    struct GemmCommand: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "gemm", abstract: "Matrix products, C[m, n] = A[m, k] B[n, k]^T on each thread.")

        @Option(help: "Rows of the left operand.")
        var m = 1024
        @Option(help: "Rows of the right operand.")
        var n = 1024
        @Option(help: "The depth.")
        var k = 1024
        @Option(help: "Threads; 0: the cores this process may use.")
        var threads = 1
        @Option(help: "Timed rounds; the median is reported.")
        var rounds = 15
        @Flag(help: "One JSON object a line.")
        var json = false

        func validate() throws {
            guard m > 0, n > 0, k > 0, rounds > 0, threads >= 0 else {
                throw ValidationError("m, n, k and rounds must be at least 1")
            }
        }

        func run() throws {
            emit(try benchGemm(m: m, n: n, k: k, threads: threads == 0 ? Machine.cores() : threads, rounds: rounds),
                 json: json)
        }
    }

    struct StepCommand: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "step", abstract: "Whole training steps of a config.")

        @Option(help: "A TOML file; without it, the defaults.")
        var config: String?
        @Option(help: "Timed steps; the median is reported.")
        var rounds = 5
        @Flag(help: "One JSON object a line.")
        var json = false
        @Argument(parsing: .allUnrecognized, help: "Values that replace the file's: --section.key value.")
        var overrides: [String] = []

        func validate() throws {
            guard rounds > 0 else { throw ValidationError("rounds must be at least 1") }
        }

        func run() throws {
            emit(try benchStep(ResolvedRecipe.load(file: config, flags: overrides), rounds: rounds), json: json)
        }
    }
}

func emit(_ line: BenchLine, json: Bool) {
    if let warning = Machine.pinnedCoreWarning() { printError("skein: warning: \(warning)") }
    print(json ? line.json : line.text)
}
