import Base
import Checkpoint
import Recipe
import Telemetry

extension World {
    /// The recipe with the settings that it left open. A run that goes on has those of its checkpoint; else rank 0
    /// searches, for the smallest of the ranks' memories, the slowest rank and the slowest link, and says what it
    /// chose.
    func settings(_ resolved: ResolvedRecipe, _ memory: PlannedMemory, start: Checkpoint?, peak: Double) throws
        -> ResolvedRecipe {
        let declared = resolved.recipe.planner
        let room = try numbers([Double(memory.roomBytes ?? 1 << 62)]).map { $0[0] }.min() ?? 0
        let slowest = try numbers([peak]).map { $0[0] }.min() ?? peak
        let gbit = try (linkRates().min() ?? 1) * 8 / 1e9
        var own: [UInt8] = []
        if rank == 0 {
            let flags: [String]
            if let start {
                flags = try Self.settings(of: start)
            } else {
                let search = SettingSearch(
                    resolved, memory: memory, ranks: size, gflops: declared.gflops > 0 ? declared.gflops : slowest,
                    linkGbit: declared.linkGbit > 0 ? declared.linkGbit : gbit,
                    context: try meanContext(resolved.recipe, textBytes: memory.setting.textBytes))
                let best = try search.best(within: Int(room))[0]
                flags = best.flags
                printError("skein: searched for settings: \(best.text); \(Units.duration(best.seconds)) a step and "
                    + "\(Units.bytes(best.peakBytes)) a rank, as reckoned")
            }
            own = Array(flags.joined(separator: " ").utf8)
        }
        let text = try String(decoding: gather(own)[0], as: UTF8.self)
        return try resolved.choosing(text.split(separator: " ").map(String.init))
    }

    /// Those that a checkpoint's run had.
    private static func settings(of start: Checkpoint) throws -> [String] {
        let theirs = try ResolvedRecipe.load(text: start.recipe(), name: "\(start.path)/config.toml").recipe
        let names = ["parallelism.zero", "parallelism.shard_parameters", "parallelism.shard_gradients",
                     "parallelism.shard_optimizer", "parallelism.context_parallel_degree", "activation_checkpoint.mode"]
        return Recipe.keys.filter { names.contains($0.name) }.flatMap { key -> [String] in
            let value = key.read(theirs)
            if case .text(let text) = value { return ["--\(key.name)", text] }
            return ["--\(key.name)", value.toml]
        }
    }
}
