import Base
import Collectives
import Model
import Parallel
import Tensor

extension KeptState {
    /// Fills the state of a new life with the latest step that the ranks' slots hold between them. All ranks call it;
    /// `kept` is what this one has, nothing where it has just come. Returns how far the run was; nil: slots that would
    /// be needed are lost, and nothing is changed. Every share goes to all ranks, a share at a time, and each takes
    /// what is its own now: so their number may be another one.
    static func restore(_ kept: [KeptState], into step: ShardedStep, _ quantisation: Quantisation?, by world: World)
        throws -> Moment? {
        let testimonies = try world.gather(Testimony.encode(kept.map(\.testimony))).map(Testimony.decode)
        guard let found = Restoration.choose(testimonies) else { return nil }
        let mine = kept.first { $0.generation == found.generation }
        let pieces = try shares(found, mine, by: world)
        let vectors = step.state.weightVectors + step.state.moments
        let largest = pieces.map { $0.reduce(0) { $0 + $1.range.count } }.max() ?? 0
        let memory = try Arena(name: "a share of the training state", capacity: Arena.padded(largest))
        let passing = memory.take(largest)
        defer { withExtendedLifetime(memory) {} }
        for (share, source) in found.sources.enumerated() {
            let count = pieces[share].reduce(0) { $0 + $1.range.count }
            let own = source.rank == world.rank ? mine?.share(found.step, isCopy: source.isCopy)?.row : nil
            let row = own ?? passing.slice(0, count)
            try world.broadcast(row, from: source.rank)
            place(row, pieces[share], vectors)
        }
        let root = found.sources[0].rank, common = mine?.common(found.step)
        let moment = try fill(common, of: root, step, quantisation, by: world)
        step.changed()
        return moment
    }

    /// The pieces of every share, which those tell who have it.
    private static func shares(_ found: Restoration, _ mine: KeptState?, by world: World) throws
        -> [[KeptLayout.Piece]] {
        var writer = ByteWriter()
        for source in found.sources where source.rank == world.rank {
            let pieces = mine?.share(found.step, isCopy: source.isCopy)?.pieces ?? []
            writer.append(UInt64(pieces.count))
            for piece in pieces {
                for number in [piece.vector, piece.unit, piece.range.lowerBound, piece.range.upperBound] {
                    writer.append(UInt64(number))
                }
            }
        }
        var readers = try world.gather(writer.bytes).map { ByteReader($0) }
        return found.sources.map { source in
            func number() -> Int { readers[source.rank].read(UInt64.self).map { Int($0) } ?? 0 }
            return (0..<number()).map { _ in
                let (vector, unit, lower) = (number(), number(), number())
                return KeptLayout.Piece(vector: vector, unit: unit, range: lower..<max(lower, number()))
            }
        }
    }

    /// Copies from a share what this rank holds of it.
    private static func place(_ row: Row, _ pieces: [KeptLayout.Piece], _ vectors: [StateVector]) {
        var place = 0
        for piece in pieces {
            let shard = vectors[piece.vector].shard
            for (unit, held) in shard.ranges.enumerated() {
                let part = held.clamped(to: piece.range)
                guard !part.isEmpty else { continue }
                let start = place + part.lowerBound - piece.range.lowerBound
                shard.part(part, unit: unit).copy(row.slice(start, part.count))
            }
            place += piece.range.count
        }
    }

    /// What all ranks hold alike, from rank `root`, which has it.
    private static func fill(_ common: (moment: Moment, scales: Row, magnitudes: Row)?, of root: Int,
                             _ step: ShardedStep, _ quantisation: Quantisation?, by world: World) throws -> Moment {
        func text(_ own: String?) throws -> String {
            String(decoding: try world.gather(Array((own ?? "").utf8))[root], as: UTF8.self)
        }
        var moment = try Moment(bytes: world.gather(common?.moment.bytes ?? [])[root])
        moment.table = try text(common?.moment.table)
        moment.cost = try text(common?.moment.cost)
        if let quantisation, quantisation.stateShape != nil {
            if world.rank == root, let common { quantisation.state.copy(common.scales) }
            try world.broadcast(quantisation.state, from: root)
            let isRead = quantisation.readState()
            precondition(isRead, "scales that a run has kept are scales")
        }
        if let magnitudes = step.gradientMagnitudes {
            if world.rank == root, let common { magnitudes.copy(common.magnitudes) }
            try world.broadcast(magnitudes, from: root)
            step.resumeWire()
        }
        return moment
    }
}

extension World {
    /// Copies `row` of rank `root` to all others.
    func broadcast(_ row: Row, from root: Int) throws(CollectiveFault) {
        guard let communicator, row.count > 0 else { return }
        let ticket = unsafe communicator.broadcast(row.bytes, from: root)
        try ticket.wait()
    }
}
