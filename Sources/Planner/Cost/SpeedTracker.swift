#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Follows what ranks are worth while they train (`planner.adapt`): from what each step's tasks should have taken each
/// rank at speed 1, and what they did take.
///
/// A rank's speed is smoothed, and one step moves it by little, however disturbed it was; a speed that has left the
/// smoothed one for several steps in a row is taken as it is, so that a rank that has changed is believed soon. Plans
/// get new rates only when one has moved by more than a measurement wavers by: plans that change without need cost more
/// than they bring.
package struct SpeedTracker: Sendable {
    /// As smoothed.
    package private(set) var speeds: [Double]
    /// As plans reckon with.
    package private(set) var planned: [Double]
    /// Steps in a row in which a rank was far from its smoothed speed, below 0 where it was slower.
    private var runs: [Int]

    /// The weight of the newest step in the logarithm of a speed.
    private static let weight = 0.25
    /// Nearer than this is noise.
    private static let tolerance = 0.05
    private static let jump = 0.15
    private static let patience = 3

    package init(_ speeds: [Double]) {
        (self.speeds, planned) = (speeds, speeds)
        runs = Array(repeating: 0, count: speeds.count)
    }

    /// After a step. `expected`: seconds of each rank's tasks at speed 1, without exchanges; `taken`: what it computed
    /// for, without waiting. A rank without a task keeps its speed. Returns whether plans change.
    @discardableResult
    package mutating func observe(expected: [Double], taken: [Double]) -> Bool {
        for rank in speeds.indices where expected[rank] > 0 && taken[rank] > 0 {
            let seen = expected[rank] / taken[rank], distance = log(seen / speeds[rank])
            if abs(distance) > Self.jump {
                runs[rank] = distance > 0 ? max(0, runs[rank]) + 1 : min(0, runs[rank]) - 1
            } else {
                runs[rank] = 0
            }
            if abs(runs[rank]) >= Self.patience {
                (speeds[rank], runs[rank]) = (seen, 0)
            } else {
                speeds[rank] *= exp(Self.weight * max(-Self.jump, min(Self.jump, distance)))
            }
        }
        let hasMoved = speeds.indices.contains { abs(log(speeds[$0] / planned[$0])) > Self.tolerance }
        if hasMoved { planned = RankRates.levelled(speeds, tolerance: Self.tolerance) }
        return hasMoved
    }
}

extension PlanProblem {
    /// Seconds of computation that a plan asks of each rank, were all of speed 1: without exchanges and waiting.
    package func computeSeconds(_ plan: StepPlan) -> [Double] {
        var seconds = [Double](repeating: 0, count: plan.rankCount)
        for task in plan.tasks {
            let work = task.sequences.reduce(0) { $0 + cost.compute(lengths[$1]) }
            for rank in task.ranks { seconds[rank] += cost.taskSeconds + work / Double(task.degree) }
        }
        return seconds
    }
}
