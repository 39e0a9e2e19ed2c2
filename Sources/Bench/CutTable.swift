import Base
import Synchronization
import Tensor

/// How evenly the stages of a step are cut: each tile's time as one thread takes it, dealt out to more threads as the
/// pool deals them, the next tile to whoever is free first. What is idle then is the cut's doing alone; memory that
/// several threads share, and their start, come on top on a real machine.
final class CutTable: TileObserver {
    private struct Stage {
        var runs = 0
        var tiles: ClosedRange<Int> = Int.max...Int.max
        var nanoseconds: UInt64 = 0
        /// Thread-time from the begin to the end of the stage's runs, for each of `CutTable.threads`.
        var held = [UInt64](repeating: 0, count: CutTable.threads.count)
    }

    private struct Run {
        var name: String
        var times: [UInt64]
    }

    static let threads = [2, 4, 8, 16]
    private let runs = Mutex<(steps: [[Run]], now: [Run])>(([], []))

    func cut(_ name: StaticString, _ nanoseconds: [UInt64]) {
        runs.withLock { $0.now.append(Run(name: name.description, times: nanoseconds)) }
    }

    /// A step is over.
    func endStep() {
        runs.withLock { runs in
            runs.steps.append(runs.now)
            runs.now = []
        }
    }

    /// Each stage, by the shortest time that a tile took in any of the steps: what else the machine did is no matter
    /// of the cut. Runs that are cut otherwise in another step, since its data are others, count as in the first.
    private var stages: [String: Stage] {
        let steps = runs.withLock { $0.steps }
        var stages: [String: Stage] = [:]
        for (index, first) in (steps.first ?? []).enumerated() {
            var times = first.times
            for step in steps.dropFirst() where step.indices.contains(index) && step[index].times.count == times.count {
                for tile in times.indices { times[tile] = min(times[tile], step[index].times[tile]) }
            }
            add(times, to: &stages[first.name, default: Stage()])
        }
        return stages
    }

    private func add(_ times: [UInt64], to stage: inout Stage) {
        let tiles = times.count
        stage.tiles = stage.runs == 0 ? tiles...tiles
            : min(stage.tiles.lowerBound, tiles)...max(stage.tiles.upperBound, tiles)
        stage.runs += 1
        stage.nanoseconds += times.reduce(0, +)
        for (index, threads) in Self.threads.enumerated() {
            stage.held[index] += UInt64(threads) * Self.makespan(times, threads: threads)
        }
    }

    /// Until the last of `threads` is done with tiles of these times.
    static func makespan(_ times: [UInt64], threads: Int) -> UInt64 {
        var free = [UInt64](repeating: 0, count: threads)
        for time in times {
            let first = free.indices.min { free[$0] < free[$1] } ?? 0
            free[first] += time
        }
        return free.max() ?? 0
    }

    /// A line a stage, the longest first; stages under a thousandth of the step together. `seconds`: the whole step's.
    func text(seconds: Double) -> String {
        let all = stages.sorted { ($1.value.nanoseconds, $0.key) < ($0.value.nanoseconds, $1.key) }
        let within = all.reduce(0) { $0 + $1.value.nanoseconds }
        var lines = [row("idle by the cut alone, threads:", ["runs", "tiles", "ms"] + Self.threads.map { "\($0)" })]
        var rest = Stage(), names = 0
        for (name, stage) in all {
            if Double(stage.nanoseconds) >= 0.001 * seconds * 1e9 {
                lines.append(line(name, stage))
            } else {
                names += 1
                rest.runs += stage.runs
                rest.nanoseconds += stage.nanoseconds
                for index in rest.held.indices { rest.held[index] += stage.held[index] }
            }
        }
        if names > 0 { lines.append(line("\(names) others", rest)) }
        let outside = max(0, seconds - Double(within) * 1e-9)
        lines.append(row("outside of stages, on one thread", ["", "", milliseconds(outside)]))
        return lines.joined(separator: "\n")
    }

    private func line(_ name: String, _ stage: Stage) -> String {
        let range = stage.tiles
        let tiles = range.lowerBound == Int.max ? "" : range.lowerBound == range.upperBound ? "\(range.lowerBound)"
            : "\(range.lowerBound)-\(range.upperBound)"
        return row(name, ["\(stage.runs)", tiles, milliseconds(Double(stage.nanoseconds) * 1e-9)] + stage.held.map {
            Units.fixed((1 - Double(stage.nanoseconds) / Double(max($0, 1))) * 100, 1) + " %"
        })
    }

    private func milliseconds(_ seconds: Double) -> String { Units.fixed(seconds * 1_000, 1) }

    private func row(_ name: String, _ cells: [String]) -> String {
        func pad(_ text: String, _ width: Int) -> String { String(repeating: " ", count: max(0, width - text.count)) }
        return cells.reduce(name + pad(name, 34)) { $0 + pad($1, 9) + $1 }
    }
}

/// The stages of a step, as they are cut. `steps` runs one step of so many; the pool has one thread.
func explainCut(steps count: Int, pool: Pool, _ step: (Int) throws -> Void) throws -> String {
    precondition(pool.threads == 1, "tiles are timed on one thread")
    let table = CutTable()
    pool.tileObserver = table
    defer { pool.tileObserver = nil }
    let seconds = try medianSeconds(rounds: count) { number in
        try step(number)
        table.endStep()
    }
    return table.text(seconds: seconds)
}
