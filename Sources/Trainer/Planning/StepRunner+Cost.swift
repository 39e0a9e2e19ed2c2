import Base
import Collectives
import Planner
import Recipe

extension StepRunner {
    /// Makes sure that plans reckon with something that all ranks agree on: what the recipe declares, what a checkpoint
    /// kept (`kept`, rank 0's; empty: nothing), or else what is measured now. Returns what to tell people.
    package func settleCost(kept: String) throws -> String? {
        guard planner != nil else { return nil }
        defer { follows(recipe.planner.adapts) }
        guard needsCost || recipe.planner.adapts else { return nil }
        let text = try world.gather(world.rank == 0 ? Array(kept.utf8) : [])[0]
        var note = ""
        if !text.isEmpty {
            let cost = try FrozenCost(decoding: String(decoding: text, as: UTF8.self),
                                      place: "the checkpoint's manifest")
            if cost.rates.count == world.size {
                if needsCost { planner?.cost = cost } else { planner?.cost.rates = cost.rates }
                return nil
            }
            note = " (the checkpoint's cost is of \(cost.rates.count) ranks)"
        }
        guard needsCost else { return nil }
        let found = try calibrate()
        planner?.cost = found.cost
        return "planner: measured \(found.rounds) tasks in \(Units.duration(found.seconds))\(note); "
            + found.cost.summary
    }

    /// From now on plans follow the ranks' speeds, or do not.
    package func follows(_ follows: Bool) {
        tracker = follows ? planner.map { SpeedTracker($0.cost.rates.speeds) } : nil
    }

    /// What a checkpoint keeps of the plans' cost; empty: nothing, since nothing was measured.
    var keptCost: String { needsCost || recipe.planner.adapts ? planner?.cost.encoded ?? "" : "" }

    /// Lets plans follow what ranks are worth: `busy` is for how long this rank computed in the step. Rank 0 reckons
    /// for all, since another C library may round a logarithm otherwise.
    func follow(busy: Double) throws {
        guard let plan, var tracker else { return }
        let taken = try world.numbers([busy]).map { $0[0] }
        if world.rank == 0 { tracker.observe(expected: plan.computeSeconds, taken: taken) }
        planner?.cost.rates.speeds = try world.numbers(tracker.planned)[0]
        self.tracker = tracker
    }
}

extension World {
    /// Every rank's numbers, in the order of ranks: of each as many.
    func numbers(_ own: [Double]) throws(CollectiveFault) -> [[Double]] {
        var writer = ByteWriter(capacity: 8 * own.count)
        for number in own { writer.append(number.bitPattern) }
        return try gather(writer.bytes).map { bytes in
            var reader = ByteReader(bytes)
            return own.indices.map { _ in Double(bitPattern: reader.read(UInt64.self) ?? 0) }
        }
    }
}

extension FrozenCost {
    /// For people: what ranks differ in.
    var summary: String {
        func range(_ rates: [Double]) -> String {
            let (low, high) = (rates.min() ?? 1, rates.max() ?? 1)
            return low == high ? "equal" : "\(Units.fixed(low, 2)) to \(Units.fixed(high, 2))"
        }
        return "speeds of ranks \(range(rates.speeds)), links \(range(rates.links))"
    }
}
