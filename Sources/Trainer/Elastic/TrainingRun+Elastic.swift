import Base
import Checkpoint
import Collectives
import Corpus
import Recipe
import Storage
import Telemetry
import Wire

// How a job outlives the loss of a rank. A life of the job is what happens between two meetings of all its ranks; each
// has a number, its epoch, that stands in every handshake and every frame, so that no word of an old life is heard in a
// new one. When a fault ends a life,
//   1. the ranks that are left agree on who they are (Wire/Session/Agreement.swift), on the connections of the old
//      life;
//   2. they close these, take new numbers in the order of the old ones, and meet again in the next epoch;
//   3. the new rank 0 takes over the run's folder, if the old one is lost;
//   4. they go back to the end of a step that all had come to, by their copies (Testimony.swift) or by the latest
//      checkpoint, and go on as in the first life.
// Everything that a life has made for its number of ranks (arenas, groups, schedules) ends with it and is made anew.
extension TrainingRun {
    /// After a fault: finds this rank's part in the next life, which `ranks` and `epoch` then say. Throws where it has
    /// none, and what ends the run on this rank instead.
    func goOn(_ world: World, after fault: CollectiveFault, _ corpus: Corpus) throws {
        faultAt = MonotonicClock.seconds()
        if let kept {
            kept.outlive()
            carried.append(kept)
        }
        kept = nil
        guard let sequel = world.sequel(after: fault), var setting = ranks else { throw fault }
        world.close()
        switch sequel {
        case .ends(let retirement): throw Retired(retirement: retirement)
        case .goesOn(let next):
            let replaces = recipe.launch.elastic == .replace
            guard let count = replaces ? world.size : resolved.ranksToGoOn(of: next.members.count) else { throw fault }
            let members = needed(count, of: next, world.size)
            guard let place = members.firstIndex(of: setting.rank) else {
                throw Unneeded(survivors: next.members.count, count: count, fault: fault)
            }
            if place == 0 {
                tell(members, of: world.size, in: next.epoch, open: count - members.count, fault)
                if replaces { try open(next, ranks: count, people: world.people, corpus) }
            }
            (setting.rank, setting.worldSize) = (place, count)
            (setting.masterHost, setting.masterPort) = (next.host, next.port)
            (ranks, epoch) = (setting, next.epoch)
        }
    }

    /// Who of the survivors goes on as one of `count` ranks. Where not all do, those between whom nothing of the state
    /// is lost; they may have another leader only where the others find it at the same address.
    private func needed(_ count: Int, of next: Succession, _ size: Int) -> [Int] {
        let first = Array(next.members.prefix(count))
        guard count < next.members.count, recipe.launch.redundancy > 0,
              let chosen = Restoration.holders(count, among: next.members, of: size),
              chosen[0] == next.members[0] || isLoopback(host: next.host) else { return first }
        return chosen
    }

    private func tell(_ members: [Int], of size: Int, in epoch: UInt32, open: Int, _ fault: CollectiveFault) {
        let whom = members.map(String.init).joined(separator: ", ")
        let others = open == 0 ? "" : ", and wait for \(open) more"
        printError("skein: \(fault); of \(size) ranks \(whom) go on, as ranks 0 to \(members.count - 1) of epoch "
            + "\(epoch)\(others)")
    }

    /// What the log of the last step lacks where the rank that keeps it was lost before it wrote it down.
    func reportAgain(_ step: Int) {
        guard let last, last.step == step, reporter?.lastLogged ?? step < step else { return }
        reporter?.step(step, last.result, tokens: last.tokens, lossRatio: last.lossRatio, seconds: last.seconds,
                       validation: nil)
    }

    /// The state at the end of a step that all ranks had come to, or as the latest checkpoint has it.
    func recover(_ runner: StepRunner, _ snapshot: Snapshot) throws -> Moment {
        let before = try runner.world.maximum(reached)
        var moment: Moment
        if let found = try KeptState.restore(carried, into: runner.sharded, runner.model.quantisation,
                                             by: runner.world) {
            moment = try settle(runner, found)
        } else {
            let folder = folder
            let start = try runner.world.onFirst { try folder.again() }
            moment = try begin(runner, snapshot, start?.found, isResumed: start?.isResumed ?? false)
        }
        let step = Int(moment.position.step), seconds = MonotonicClock.seconds() - faultAt
        if isFirst {
            let lost = before - step
            let price = lost <= 0 ? "no finished step is lost"
                : "\(lost) finished step\(lost == 1 ? " is" : "s are") taken again"
            printError("skein: epoch \(epoch) goes on after step \(Units.grouped(step)) with \(runner.world.size) "
                + "ranks, \(Units.duration(seconds)) after the fault; \(price)")
        }
        reached = step
        return moment
    }

    /// Begins to keep copies of this life's state, where the recipe says so, and forgets those of the lives before.
    func keepCopies(_ runner: StepRunner, _ moment: Moment) throws {
        guard recipe.isElastic, let communicator = runner.world.communicator else { return }
        if recipe.launch.redundancy > 0 {
            let own = try KeptState(runner.sharded, runner.model.quantisation, by: runner.world,
                                    communicator: communicator, generation: Int(epoch))
            kept = own
            try own.keep(runner, moment)
            try own.settle()
            runner.kept = own
        }
        // Whoever is through this knows that all have their copies.
        try runner.world.barrier()
        carried = []
    }

    /// Whether a checkpoint of step `step`, which a life goes on after, was due and is not there: the fault may have
    /// come while it was written. Nil: it is not owed; else whether it is the run's last one.
    func owesCheckpoint(_ step: Int, _ world: World) throws -> Bool? {
        let isLast = step == recipe.training.steps || step == stopAfter
        guard step > 0, recipe.checkpoint.enable, isLast || due(recipe.checkpoint.interval, step) else { return nil }
        let folder = folder
        let isThere = try world.onFirst { try folder.checkpoints.steps().contains(step) } ?? false
        return try world.gather([isThere ? 1 : 0])[0] == [1] ? nil : isLast
    }
}

/// Of the ranks that are left, more than the recipe has a use for.
struct Unneeded: Fault {
    let survivors: Int
    let count: Int
    let fault: CollectiveFault
    var kind: FaultKind { .running }
    var description: String {
        "\(fault); the recipe has a use for \(count) of the \(survivors) ranks that are left, and this one ends"
    }
}

extension KeptState {
    /// Copies a runner's state at the end of a step.
    func keep(_ runner: StepRunner, _ moment: Moment) throws {
        var moment = moment
        moment.cost = runner.keptCost
        try keep(moment)
    }
}

extension World {
    /// The largest of all ranks' numbers.
    func maximum(_ own: Int) throws -> Int { try numbers([Double(own)]).map { Int($0[0]) }.max() ?? own }
}
