import Collectives
import Recipe
import Tensor

/// Scales of gradients that travel in E4M3 (FP8-LM, 2310.18313, section 2.1), one for each tensor.
///
/// A tensor's comes from the largest magnitude that any rank had of it in the step before, so all ranks know it and
/// nothing is sent beside the numbers. It is a power of two: gradients are multiplied by it before they travel and
/// their sums divided by it afterwards, which costs no bit. Room is left for gradients that double from one step to the
/// next, and for sums that travel again; what grows faster becomes the largest number, and is counted. As long as no
/// step has been finite gradients travel as they are.
final class WireScales {
    private let state: TrainingState
    private let pool: Pool
    private let communicator: Communicator
    /// Of each parameter: the largest magnitude of the last finite step, over all ranks. Zeros: there was none.
    let agreed: Row
    /// In this step so far: of this rank, then of all.
    private let measured: Row
    private let factors: Row
    private let memory: Arena
    /// Of each unit: its floats by tensor, in tiles.
    private let tiles: [[ShardRun]]
    private let ownTiles: [ShardRun]
    private let peaks: Doubles
    private let margin: Int
    private(set) var isReady = false

    /// `sums`: what is added up before a sum travels again; 1 where none does.
    init(_ state: TrainingState, pool: Pool, communicator: Communicator, sums: Int) throws(OutOfMemory) {
        self.state = state
        self.pool = pool
        self.communicator = communicator
        let count = state.table.parameters.count
        memory = try Arena(name: "scales of gradients", capacity: 3 * Arena.padded(count))
        agreed = memory.take(count)
        measured = memory.take(count)
        factors = memory.take(count)
        agreed.fill(0)
        measured.fill(0)
        factors.fill(1)
        func tiles(_ unit: Int, _ range: Range<Int>) -> [ShardRun] {
            state.table.parameters.indices.flatMap { number in
                let piece = range.clamped(to: state.table.parameters[number].range)
                return piece.isEmpty ? [] : ShardRun(parameter: number, unit: unit, range: piece).parts(16_384)
            }
        }
        self.tiles = state.plan.units.enumerated().map { tiles($0, $1.range) }
        ownTiles = state.ownRanges.enumerated().flatMap { tiles($0, $1) }
        peaks = Doubles(count: self.tiles.map(\.count).max() ?? 0)
        margin = 1 + (Int.bitWidth - (sums - 1).leadingZeroBitCount)
    }

    /// How gradients travel in this step.
    var wire: WireFormat { isReady ? .e4m3 : .native }

    /// A unit's gradients, in `row`, are about to travel: takes their magnitudes, and multiplies them by their scales.
    func prepare(_ unit: Int, _ row: Row) {
        let first = state.plan.units[unit].range.lowerBound, own = tiles[unit]
        let (factors, peaks, isReady) = (factors, peaks, isReady)
        pool.run(own.count, stage: "scale gradients") { tile, _ in
            let run = own[tile], part = row.slice(run.range.lowerBound - first, run.range.count)
            peaks[tile] = Double(largestMagnitude(part))
            if isReady { scale(part, by: factors[run.parameter]) }
        }
        for (tile, run) in own.enumerated() {
            let (known, peak) = (measured[run.parameter], Float(peaks[tile]))
            measured[run.parameter] = known.isNaN || peak.isNaN ? .nan : max(known, peak)
        }
    }

    /// The sums are there: this rank's share becomes what it would be without scales.
    func restore() {
        guard isReady else { return }
        let (own, factors, gradients) = (ownTiles, factors, state.gradientShard)
        pool.run(own.count, stage: "scale gradients") { tile, _ in
            let run = own[tile]
            scale(gradients.part(run.range, unit: run.unit), by: 1 / factors[run.parameter])
        }
    }

    /// Ends a step: the ranks agree on magnitudes, and the next step's scales come of them. A step whose gradients were
    /// not finite leaves no trace.
    func agree() throws(CollectiveFault) {
        let ticket = unsafe communicator.allReduce(measured.floats, style: CollectiveStyle(reduction: .maximum))
        try ticket.wait()
        defer { measured.fill(0) }
        guard largestMagnitude(measured).isFinite else { return }
        agreed.copy(measured)
        resume()
    }

    /// Takes the scales that `agreed` says.
    func resume() {
        isReady = largestMagnitude(agreed) > 0
        for number in 0..<agreed.count {
            factors[number] = ScaleRule.powerOfTwo.factor(amax: agreed[number], format: .e4m3, margin: margin) ?? 1
        }
    }
}
