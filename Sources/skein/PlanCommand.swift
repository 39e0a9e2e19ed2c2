import ArgumentParser
import Base
import Recipe
import Tensor
import Trainer

struct Plan: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows what a run would take: memory by component, and time for a step.",
        discussion: """
            Nothing is read but the config, the tokenizer and the sizes of the data's files. A run that this machine \
            (or the cgroup it is in) has no memory for is refused with exit code 2, as train would refuse it.
            """)

    @Argument(help: "A TOML file.")
    var config: String
    @Option(help: "GFLOP/s of matrix products, all threads together; without it, they are measured.")
    var flops: Double?
    @Flag(help: "One JSON object a line.")
    var json = false
    @Argument(parsing: .allUnrecognized, help: "Values that replace the file's: --section.key value.")
    var overrides: [String] = []

    func validate() throws {
        guard flops ?? 1 > 0 else { throw ValidationError("--flops must be more than 0") }
    }

    func run() throws {
        let recipe = try ResolvedRecipe.load(file: config, flags: overrides).recipe
        let planned = try PlannedMemory(recipe)
        let threads = recipe.training.threads == 0 ? planned.setting.threads : recipe.training.threads
        let pool = Pool(threads: threads)
        defer { pool.close() }
        let peak = try flops ?? Machine.gemmPeak(pool: pool)
        let step = StepCost(recipe, vocabulary: planned.setting.vocabulary)
        print(json ? line(planned, step, threads, peak) : table(planned, step, threads, peak))
        try planned.requireRoom()
    }

    private func table(_ planned: PlannedMemory, _ step: StepCost, _ threads: Int, _ peak: Double) -> String {
        var rows: [(String, String)] = []
        for component in planned.plan.components {
            rows.append((component.name, Units.bytes(component.bytes)))
            for slot in component.slots { rows.append(("  " + slot.name, Units.bytes(slot.bytes))) }
        }
        rows.append(("peak", Units.bytes(planned.plan.peakBytes)))
        if planned.plan.peakBytes == planned.plan.readingBytes { rows.append(("", "while the data is read")) }
        if let room = Machine.availableMemory() { rows.append((room.limit + " leaves", Units.bytes(room.bytes))) }
        rows.append(("parameters", Units.count(Double(step.parameters))))
        rows.append(("tokens a step", Units.grouped(step.tokens)))
        rows.append(("model FLOPs a step", Units.count(step.modelFlops)))
        if step.recomputedFlops > 0 { rows.append(("computed again", Units.count(step.recomputedFlops))) }
        let names = "\(threads) thread\(threads == 1 ? "" : "s")"
        rows.append(("GEMM peak, \(names)", "\(Units.fixed(peak, 0)) GFLOP/s"))
        rows.append(("a step at that peak", Units.duration(step.seconds(atGflops: peak))))
        let width = rows.map(\.0.count).max() ?? 0
        return rows.map { $0.0 + String(repeating: " ", count: width + 2 - $0.0.count) + $0.1 }.joined(separator: "\n")
    }

    private func line(_ planned: PlannedMemory, _ step: StepCost, _ threads: Int, _ peak: Double) -> String {
        let parts = planned.plan.components.map { "\"\($0.name)\":\($0.bytes)" }
        let slots = planned.plan.components.flatMap(\.slots).map { "\"\($0.name)\":\($0.bytes)" }
        return "{\"plan\":\"memory\",\"threads\":\(threads),\"peak_bytes\":\(planned.plan.peakBytes),"
            + "\"available_bytes\":\(Machine.availableMemory().map { "\($0.bytes)" } ?? "null"),"
            + "\"components\":{\(parts.joined(separator: ","))},\"slots\":{\(slots.joined(separator: ","))},"
            + "\"parameters\":\(step.parameters),\"tokens\":\(step.tokens),\"flops\":\(step.modelFlops),"
            + "\"recomputed_flops\":\(step.recomputedFlops),\"peak_gflops\":\(peak),"
            + "\"seconds\":\(step.seconds(atGflops: peak))}"
    }
}
