import Base
import Collectives
import Recipe
import Telemetry
import Wire

/// A trace of some steps of a run: every rank records its own spans, and rank 0 gets them all, in its clock's time.
struct StepTrace {
    /// What rank 0 has in the end.
    struct Result {
        /// Steps counted from 1, as people are told.
        let steps: ClosedRange<Int>
        let json: [UInt8]
        let table: TraceTable
        /// Computing and waiting shares of a step, by rank.
        let shares: [(compute: Double, wait: Double)]
        let lost: Int
    }

    private let steps: Range<Int>
    private let peak: Double
    private let trace = Trace()
    private var before: (time: Int64, offset: ClockOffset)?
    /// Where the file begins, by rank 0's clock.
    private var zero: Int64 = 0

    /// `first`: the step (counted from 0) that the run begins with. `peak`: this rank's GEMM GFLOP/s.
    init(_ profiling: Recipe.Profiling, runFrom first: Int, peak: Double) {
        let start = first + profiling.firstStep - 1
        steps = start..<(start + profiling.steps)
        self.peak = peak
    }

    /// Before step `step`, on all ranks.
    mutating func begin(_ step: Int, _ runner: StepRunner) throws {
        guard step == steps.lowerBound else { return }
        before = (now, try offset(runner.world))
        // Whole nanoseconds fit a Double for a hundred days after a machine's start, and two of them after that.
        zero = try runner.world.communicator.map { Int64(try $0.exchange([Double(now)])[0][0]) } ?? now
        runner.trace = trace
    }

    /// After step `step` and what belongs to it, on all ranks. Returns the trace on rank 0, once, after its last step.
    mutating func end(_ step: Int, isLast: Bool, _ runner: StepRunner) throws -> Result? {
        guard let before, runner.trace != nil, isLast || step + 1 == steps.upperBound else { return nil }
        runner.trace = nil
        let world = runner.world
        let last = try offset(world)
        let alignment = ClockAlignment(at: before.time, before.offset, at: now, last)
        let parts = try world.gather(TraceFile.part(trace, rank: world.rank, host: hostName(),
                                                    alignment: alignment, zero: zero))
        let table = TraceTable(trace, peak: peak)
        let own = [table.seconds(.compute), table.seconds(.wait), table.stepSeconds, Double(trace.lost)]
        let rows = try world.communicator?.exchange(own) ?? [own]
        guard world.rank == 0 else { return nil }
        return Result(steps: (steps.lowerBound + 1)...(step + 1), json: TraceFile.json(parts), table: table,
                      shares: rows.map { ($0[0] / $0[2], $0[1] / $0[2]) }, lost: Int(rows.reduce(0) { $0 + $1[3] }))
    }

    private func offset(_ world: World) throws -> ClockOffset {
        try world.communicator?.clockOffset { now } ?? .none
    }

    private var now: Int64 { Int64(MonotonicClock.nanoseconds()) }
}
