import Base
import Checkpoint
import Corpus
import Recipe
import Telemetry
import Tensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Says what a run does: placeholder until Telemetry is connected.
final class Reporter {
    private let runner: StepRunner
    private let resolved: ResolvedRecipe

    init(_ resolved: ResolvedRecipe, folder: String, corpus: Corpus, runner: StepRunner, peak: Double, first: Int) throws {
        self.runner = runner
        self.resolved = resolved
        print("params \(runner.state.table.parameterCount) peak \(peak)")
    }

    static func warn(_ text: String) { printError("skein: warning: \(text)") }

    func step(_ step: Int, _ result: StepResult, tokens: Int, seconds: Double) {
        if step % resolved.recipe.metrics.logInterval == 0 {
            print(step, Units.fixed(result.loss, 4), Units.fixed(Double(result.tokens) / seconds, 0))
        }
    }

    func validation(_ step: Int, _ validation: TrainingRun.Validation?) { print("val", validation?.bitsPerByte ?? -1) }
    func message(_ text: String) { print(text) }
    func finish(interrupted: Bool, checkpoint: String?, validation: TrainingRun.Validation?) { print("done", checkpoint ?? "") }
}
