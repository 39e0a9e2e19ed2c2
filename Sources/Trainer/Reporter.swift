import Base
import Corpus
import Recipe
import Telemetry
import Tensor

/// Turns what the loop did into what people and files get to see. Nothing flows back.
struct Reporter {
    struct Setting {
        let resolved: ResolvedRecipe
        let commandLine: [String]
        let folder: String
        let output: Int32
        /// Measured GEMM GFLOP/s of all threads.
        let peak: Double
        let threads: Int
        let ranks: Int
        let firstStep: Int
        let plannedBytes: Int
        /// Bytes that this rank holds of the training state, and will send in a step.
        let stateBytes: Int
        let plannedSent: Int
        let shards: String
    }

    private let setting: Setting
    /// Of the life that is lived.
    private var ranks: Int
    /// A step faster than the measured ceiling proves that the measurement was disturbed; then the step is it.
    private var peak: Double
    private let table: ParameterTable
    private let schedule: StepSchedule
    private let tokensPerByte: Double
    /// Whoever reads the output may pause; the training does not.
    private let queue: OutputQueue
    private var line: ProgressLine
    private var summary: RunSummary
    private var log: MetricsLog
    private var events: EventFile?
    private var gauges: PrometheusFile?
    private let started = MonotonicClock.seconds()
    private var trained = 0
    private var (sent, hidden, steps) = (0, 0.0, 0)
    /// Of shared sequences: bytes that came, and those of them that came under computation.
    private var (exchanged, exchangedHidden) = (0, 0.0)
    /// Bytes that plans shared sequences with.
    private var shared = 0
    private var tracedSteps: StepTrace.Result?
    /// Seconds a step, averaged over about the last ten, for the time that is left.
    private var pace: Double?

    private var recipe: Recipe { setting.resolved.recipe }

    init(_ setting: Setting, corpus: Corpus, table: ParameterTable, schedule: StepSchedule) throws {
        self.setting = setting
        ranks = setting.ranks
        self.table = table
        self.schedule = schedule
        peak = setting.peak
        let recipe = setting.resolved.recipe
        tokensPerByte = corpus.validationByteCount == 0 ? 1
            : Double(corpus.validationTokenCount) / Double(corpus.validationByteCount)
        queue = OutputQueue.shared(setting.output)
        line = ProgressLine(descriptor: setting.output, logFrequency: recipe.metrics.logInterval, queue: queue)
        summary = RunSummary(program: Machine.programName(),
                             start: setting.ranks == 1 ? ["train"] : ["launch", "-n", "\(setting.ranks)"],
                             arguments: setting.commandLine)
        (log, events) = try Self.files(setting, after: setting.firstStep)
        let metrics = recipe.metrics
        gauges = metrics.prometheus.isEmpty ? nil : PrometheusFile(metrics.prometheus, run: recipe.job.name)
        summary.decays = recipe.schedule.decay != .none
        for text in setting.resolved.translations { Reporter.warn(text) }
        greet(corpus)
    }

    private static func files(_ setting: Setting, after step: Int) throws -> (MetricsLog, EventFile?) {
        let metrics = setting.resolved.recipe.metrics
        return (try MetricsLog("\(setting.folder)/metrics.jsonl", resumingAfter: step),
                metrics.tensorBoard ? try EventFile(in: "\(setting.folder)/\(metrics.tensorBoardFolder)",
                                                    goingOnFrom: step) : nil)
    }

    /// After a fault: another life goes on behind step `step`, with so many ranks. What was said of later steps is
    /// taken back, for they come again.
    mutating func goesOn(after step: Int, ranks: Int) throws {
        self.ranks = ranks
        (log, events) = try Self.files(setting, after: step)
        pace = nil
    }

    /// The last step in the log.
    var lastLogged: Int { log.lastStep }

    static func warn(_ text: String) { printError("skein: warning: \(oneLine(text))") }

    private func greet(_ corpus: Corpus) {
        let shape = recipe.model
        let ranks = setting.ranks == 1 ? "" : "\(setting.ranks) ranks of "
        let start = setting.firstStep == 0 ? "" : " from step \(Units.grouped(setting.firstStep))"
        let quantised = ", operands in \(recipe.precision.recipe.rawValue) on "
            + (DotPath.best == .portable ? "fp32 multiply-adds" : "AVX512_BF16")
        let products = recipe.precision.recipe != .fp32 ? quantised
            : recipe.training.matmul == .own ? "" : ", products by \(OpenBLAS.arithmetic)"
        let optimizer = recipe.optimizer
        let kept = (optimizer.moments == .fp32 ? [] : ["moments in \(optimizer.moments.rawValue)"])
            + (optimizer.masterWeights == .fp32 ? [] : ["weights in \(optimizer.masterWeights.rawValue)"])
        let shards = setting.ranks == 1 ? [] : ["a rank: \(setting.shards)"]
        let state = kept.isEmpty && shards.isEmpty ? "" : "state       \(Units.bytes(setting.stateBytes)) "
            + (shards + kept).joined(separator: ", ") + "\n"
        let degree = recipe.contextDegree
        let isPlanned = recipe.plansSequences && setting.ranks > 1
        let sharers = isPlanned ? "shared as each step is planned" : "each shared by \(degree) ranks "
            + "(\(recipe.contextMethod.rawValue))"
        let sequences = degree == 1 && !isPlanned ? "" : "sequences   \(sharers), of which one holds up to "
            + "\(Units.grouped(recipe.tokensPerRank)) tokens at a time\n"
        let text = """
            model       \(Units.count(Double(table.parameterCount))) parameters: \(shape.layers) layers, width \
            \(shape.dim), \(shape.heads) heads, vocabulary \(table.vocabulary)
            data        \(Units.grouped(corpus.trainDocumentCount)) documents, \
            \(Units.count(Double(corpus.trainTokenCount))) tokens; held out \
            \(Units.grouped(corpus.validationDocumentCount)), \(Units.count(Double(corpus.validationTokenCount))) tokens
            compute     \(ranks)\(setting.threads) thread\(setting.threads == 1 ? "" : "s"), \
            \(usedISA)\(products), GEMM peak \(Units.fixed(setting.peak, 0)) GFLOP/s
            \(state)\(sequences)run         \(Units.grouped(recipe.training.steps)) steps\(start), \
            \(Units.grouped(schedule.tokensPerStep)) tokens each; in \(setting.folder)

            """
        queue.write(text)
    }

    /// After an optimizer step. `seconds` is the step's alone; `tokens` counts since step 0.
    mutating func step(_ step: Int, _ result: StepResult, tokens: Int, lossRatio: Double?, seconds: Double,
                       validation: ValidationReport?) {
        trained += result.tokens
        (sent, hidden, steps) = (sent + result.sentBytes, hidden + result.hiddenShare, steps + 1)
        exchanged += result.sequenceBytes
        exchangedHidden += result.hiddenSequenceShare * Double(result.sequenceBytes)
        shared += result.plannedPlanBytes ?? 0
        pace = pace.map { $0 + (seconds - $0) * 0.1 } ?? seconds
        let rate = Double(result.tokens) / seconds
        let gflops = rate * table.flopsPerToken(context: result.context) / 1e9
        peak = max(peak, gflops)
        var report = StepReport(
            step: step, totalSteps: recipe.training.steps, loss: result.loss,
            bitsPerByte: result.loss / ln2 * tokensPerByte, gradientNorm: result.gradientNorm,
            learningRate: schedule.learningRate(at: step - 1), tokensPerSecond: rate, gflops: gflops,
            mfu: gflops / peak, eta: pace.map { $0 * Double(recipe.training.steps - step) }, tokens: tokens,
            seconds: seconds, ranks: ranks, waitSeconds: result.waitSeconds,
            hiddenShare: ranks > 1 ? result.hiddenShare : nil)
        (report.bucketLength, report.length, report.lossRatio) = (result.bucketLength, result.length, lossRatio)
        (report.contextDegree, report.plannedSeconds) = (result.contextDegree, result.plannedSeconds)
        if result.sequenceBytes > 0 {
            (report.sequenceBytes, report.hiddenSequenceShare) = (result.sequenceBytes, result.hiddenSequenceShare)
        }
        report.saturatedGradients = result.saturatedGradients
        report.sentBytes = ranks > 1 ? result.sentBytes : nil
        (report.planBound, report.planningSeconds) = (result.planBound, result.planningSeconds)
        report.varianceNorm = result.varianceRoots?.sum
        report.varianceMax = result.varianceRoots.map { Double($0.max) }
        report.precision = result.health?.report
        report.memoryBytes = Machine.peakResidentBytes
        line.update(report)
        log.append(report, validation: validation)
        events?.append(step: step, report.metrics + (validation?.metrics ?? []))
        gauges?.add(report, updated: result.updated, validation: validation)
        summary.add(report)
        if !result.updated {
            line.message("step \(step): loss or gradient is not finite; the weights were left as they were")
        }
        if let validation {
            line.message(validation.line)
            summary.add(validation)
        }
    }

    /// Makes the log of the steps so far durable.
    func sync() { log.sync() }

    mutating func saved(_ path: String, seconds: Double) {
        summary.checkpoint = path
        gauges?.addCheckpoint()
        line.message("saved \(path) in \(Units.duration(seconds))")
    }

    /// What was saved later than `path` is of no use.
    mutating func goesBack(to path: String) { summary.checkpoint = path }

    mutating func traced(_ trace: StepTrace.Result, _ path: String) {
        line.message("traced \(path); open it in https://ui.perfetto.dev")
        if trace.lost > 0 {
            Reporter.warn("the trace was full: the first \(Units.grouped(trace.lost)) spans are missing; "
                + "lower profiling.steps")
        }
        tracedSteps = trace
    }

    /// The trace without a viewer, for the end.
    private var traceText: String {
        guard let trace = tracedSteps else { return "" }
        var lines = ["", trace.table.text]
        for (rank, share) in trace.shares.enumerated() where trace.shares.count > 1 {
            lines.append("rank \(rank)      computed \(Units.fixed(100 * share.compute, 1)) %, waited for the network "
                + "\(Units.fixed(100 * share.wait, 1)) %")
        }
        return lines.joined(separator: "\n") + "\n"
    }

    mutating func finish() {
        line.finish()
        log.sync()
        gauges?.finish()
        for problem in [log.problem, events?.problem, gauges?.problem] { problem.map(Reporter.warn) }
        if recipe.profiling.trace, tracedSteps == nil {
            Reporter.warn("no step was traced: the run ended before its step \(recipe.profiling.firstStep), which "
                + "profiling.first_step names")
        }
        summary.memory = RunSummary.Memory(peak: Machine.peakResidentBytes, planned: setting.plannedBytes)
        if setting.ranks > 1, steps > 0 {
            summary.network = RunSummary.Network(sent: sent / steps, planned: setting.plannedSent + shared / steps,
                                                 hidden: hidden / Double(steps),
                                                 sequences: exchanged == 0 ? nil
                                                     : (exchanged / steps, exchangedHidden / Double(exchanged)))
        }
        let text = summary.text(seconds: MonotonicClock.seconds() - started, tokens: trained)
        queue.write("\n" + text + "\n" + traceText)
    }
}
