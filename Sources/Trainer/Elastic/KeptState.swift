import Base
import Collectives
import Model
import Parallel
import Tensor

/// Which floats of the training state are a rank's share of a copy, in the order in which they lie in a slot: first
/// those that every rank holds, then those that are with this one alone.
struct KeptLayout {
    struct Piece: Equatable {
        /// Which of the state's vectors, and of which unit of it.
        var vector: Int
        var unit: Int
        /// Of the flat vector.
        var range: Range<Int>
    }

    let pieces: [Piece]
    /// Floats that a neighbour has as well.
    let held: Int
    let count: Int

    init(_ vectors: [StateVector], rank: Int, of ranks: Int) {
        var (pieces, held, count): ([Piece], Int, Int) = ([], 0, 0)
        for isWhole in [true, false] {
            for (number, vector) in vectors.enumerated() where vector.isWhole == isWhole {
                for (unit, range) in vector.ranges(of: rank).enumerated() {
                    let own = isWhole ? range.share(rank, of: ranks) : range
                    guard !own.isEmpty else { continue }
                    pieces.append(Piece(vector: number, unit: unit, range: own))
                    count += own.count
                }
            }
            if isWhole { held = count }
        }
        (self.pieces, self.held, self.count) = (pieces, held, count)
    }
}

/// Copies of the training state at the ends of the last two steps, of which one is always whole; see Testimony.swift.
final class KeptState {
    private struct Slot {
        let own: Row
        let copy: Row
        let scales: Row
        let magnitudes: Row
        /// How far the run was; nil: nothing lies here.
        var moment: Moment?
        /// Whether the neighbour's share has come.
        var isCopied = false
    }

    /// The life in which it is filled.
    let generation: Int
    let rank: Int
    let ranks: Int
    /// Of this rank, and of the one before it.
    let layouts: (own: KeptLayout, before: KeptLayout)
    private var slots: [Slot]
    private var current = 0
    private let arena: Arena
    /// What is copied; nil after the end of that life.
    private var live: (step: ShardedStep, quantisation: Quantisation?, communicator: Communicator)?
    private var tickets: TicketQueue?

    /// Bytes that a rank holds so, at most.
    static func bytes(_ layouts: (own: KeptLayout, before: KeptLayout), scales: Int, magnitudes: Int) -> Int {
        4 * floats(layouts, scales, magnitudes)
    }

    private static func floats(_ layouts: (own: KeptLayout, before: KeptLayout), _ scales: Int, _ magnitudes: Int)
        -> Int {
        2 * [layouts.own.count, layouts.before.count, scales, magnitudes].reduce(0) { $0 + Arena.padded($1) }
    }

    init(_ step: ShardedStep, _ quantisation: Quantisation?, by world: World, communicator: Communicator,
         generation: Int) throws {
        self.generation = generation
        (rank, ranks) = (world.rank, world.size)
        let vectors = step.state.weightVectors + step.state.moments
        layouts = (KeptLayout(vectors, rank: rank, of: ranks),
                   KeptLayout(vectors, rank: (rank + ranks - 1) % ranks, of: ranks))
        let hasScales = quantisation?.stateShape != nil
        let scales = hasScales ? quantisation?.state.count ?? 0 : 0, magnitudes = step.gradientMagnitudes?.count ?? 0
        let arena = try Arena(name: "copies of the training state (launch.redundancy)",
                              capacity: Self.floats(layouts, scales, magnitudes))
        let (own, before) = (layouts.own.count, layouts.before.count)
        slots = (0..<2).map { _ in
            Slot(own: arena.take(own), copy: arena.take(before), scales: arena.take(scales),
                 magnitudes: arena.take(magnitudes))
        }
        self.arena = arena
        live = (step, hasScales ? quantisation : nil, communicator)
        tickets = TicketQueue(communicator)
    }

    /// Copies the state as it is, which is that of `moment`, and begins to send it.
    func keep(_ moment: Moment) throws(CollectiveFault) {
        try settle()
        guard let live else { preconditionFailure("a life that is over") }
        current = 1 - current
        let slot = slots[current], vectors = live.step.state.weightVectors + live.step.state.moments
        slots[current].moment = nil
        slots[current].isCopied = false
        Self.copy(vectors, layouts.own.pieces[...], to: slot.own)
        let shared = layouts.before.pieces.prefix { vectors[$0.vector].isWhole }
        Self.copy(vectors, shared, to: slot.copy)
        if let quantisation = live.quantisation {
            quantisation.writeState()
            slot.scales.copy(quantisation.state)
        }
        if let magnitudes = live.step.gradientMagnitudes { slot.magnitudes.copy(magnitudes) }
        slots[current].moment = moment
        send(slot, live.communicator)
    }

    private static func copy(_ vectors: [StateVector], _ pieces: ArraySlice<KeptLayout.Piece>, to row: Row) {
        var place = 0
        for piece in pieces {
            row.slice(place, piece.range.count).copy(vectors[piece.vector].shard.part(piece.range, unit: piece.unit))
            place += piece.range.count
        }
    }

    /// All ranks begin the messages in the order of their senders.
    private func send(_ slot: Slot, _ communicator: Communicator) {
        let next = (rank + 1) % ranks, before = (rank + ranks - 1) % ranks
        let outgoing = slot.own.slice(layouts.own.held, layouts.own.count - layouts.own.held)
        let incoming = slot.copy.slice(layouts.before.held, layouts.before.count - layouts.before.held)
        func give() {
            if outgoing.count > 0 { unsafe tickets?.append(communicator.send(outgoing.bytes, to: next)) }
        }
        if rank == 0 { give() }
        slots[current].isCopied = incoming.count == 0
        if incoming.count > 0 { unsafe tickets?.append(communicator.receive(incoming.bytes, from: before)) }
        if rank > 0 { give() }
    }

    /// Returns when the copies of the last step have come, and gone.
    func settle() throws(CollectiveFault) {
        guard tickets != nil else { return }
        try tickets?.waitAll()
        slots[current].isCopied = slots[current].moment != nil
    }

    /// Its life is over: nothing of it is touched any more but the slots.
    func outlive() {
        live = nil
        tickets = nil
    }

    var testimony: Testimony {
        let filled = slots.filter { $0.moment != nil }
        func steps(_ slots: [Slot]) -> [Int] { slots.compactMap { $0.moment.map { Int($0.position.step) } } }
        return Testimony(generation: generation, ranks: ranks, rank: rank, own: steps(filled),
                         copies: steps(filled.filter(\.isCopied)))
    }

    /// A share of step `step`: its floats, and where they belong.
    func share(_ step: Int, isCopy: Bool) -> (row: Row, pieces: [KeptLayout.Piece])? {
        guard let slot = slots.first(where: { $0.moment.map { Int($0.position.step) } == step }) else { return nil }
        return isCopy ? (slot.copy, layouts.before.pieces) : (slot.own, layouts.own.pieces)
    }

    /// What all ranks hold alike, of step `step`.
    func common(_ step: Int) -> (moment: Moment, scales: Row, magnitudes: Row)? {
        for slot in slots {
            if let moment = slot.moment, Int(moment.position.step) == step {
                return (moment, slot.scales, slot.magnitudes)
            }
        }
        return nil
    }
}
