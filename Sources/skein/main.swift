import ArgumentParser
import Base
import Launch
import Telemetry

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// The command line. Each command is a file; none of them decides anything that a room could.
struct Skein: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "skein",
        abstract: "Trains transformers on ordinary machines over ordinary networks.",
        discussion: "Exit codes: 0 done, 1 a fault while running, 2 bad input.",
        subcommands: [
            Train.self, LaunchCommand.self, SecretCommand.self, Inspect.self, Generate.self, Evaluate.self, Export.self,
            Import.self, Report.self, Compare.self, Doctor.self, Plan.self, DataCommand.self, BenchCommand.self,
            Experiment.self, Config.self,
        ])
}

/// Ends the process with one line on standard error. The parser's own errors are bad input, too.
func finish(with error: any Error) -> Never {
    OutputQueue.flushAll(within: 2)
    if let fault = error as? any Fault {
        printError("skein: \(oneLine("\(fault)"))")
        exit(fault.kind.exitCode)
    }
    // A command that has said why already.
    if let code = error as? ExitCode { exit(code.rawValue) }
    let code = Skein.exitCode(for: error)
    if code == .success {
        print(Skein.fullMessage(for: error))
        exit(0)
    }
    // The parser's own text goes on for lines about usage, which --help has.
    printError("skein: \(oneLine(Skein.message(for: error))) (--help says more)")
    exit(code == .failure ? 1 : 2)
}

OwnProcess.prepare()
do {
    if let argument = unreadableArgument() {
        throw BadInput("the argument $'\(argument)' is not UTF-8; rename the file (mv $'\(argument)' NEW), or name "
            + "the folder that it lies in")
    }
    var command = try Skein.parseAsRoot()
    try command.run()
    OutputQueue.flushAll()
} catch {
    finish(with: error)
}
