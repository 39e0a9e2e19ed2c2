import Parallel

/// When ranks take a step's planned tasks, where more is exchanged than within a task.
///
/// **Rounds.** Ranks that share gradients or parameters (ZeRO stages 2 and 3) meet in every forward and backward. A
/// task's round is the first that comes behind those of the tasks before it with which it has a rank in common; a rank
/// without a task in a round takes part in its exchanges with nothing of its own. All begin the exchanges of a round in
/// one order, those within tasks among them, so this waits, but never for ever.
///
/// **Final tasks.** Elsewhere gradients travel once. They may go under a rank's last task if it is the last one of all
/// its ranks: such tasks have no rank in common, and all other tasks come before them, so that there is still one order
/// of all exchanges. A rank whose last task is another one's last but one sends them behind it: were they to go under
/// it, that rank would expect its layers first and this one's gradients later.
package struct StepRounds {
    /// Of each of the rank's tasks, in order, and how many there are.
    package let own: [Int]
    package let count: Int
    package let lastIsFinal: Bool

    package init(_ tasks: [SequenceTask], rank: Int) {
        var next: [Int: Int] = [:], last: [Int: Int] = [:]
        var own: [Int] = [], count = 0
        for (place, task) in tasks.enumerated() {
            let round = task.ranks.reduce(0) { max($0, next[$1] ?? 0) }
            for member in task.ranks {
                next[member] = round + 1
                last[member] = place
            }
            if task.ranks.contains(rank) { own.append(round) }
            count = max(count, round + 1)
        }
        (self.own, self.count) = (own, count)
        lastIsFinal = last[rank].map { place in tasks[place].ranks.allSatisfy { last[$0] == place } } ?? false
    }
}

/// What a rank does in a step one after the other: a micro-batch by its number, or nil where it only takes part in
/// what others' exchange. Micro-batches come first, unless rounds say otherwise; then nothing is allocated.
package struct StepTurns: RandomAccessCollection {
    private let own: Int
    private let rounds: [Int?]
    package let endIndex: Int

    init(own: Int, others: Int = 0) { (self.own, rounds, endIndex) = (own, [], own + others) }

    init(_ rounds: StepRounds) {
        var turns = [Int?](repeating: nil, count: rounds.count)
        for (part, round) in rounds.own.enumerated() { turns[round] = part }
        (own, self.rounds, endIndex) = (0, turns, rounds.count)
    }

    package var startIndex: Int { 0 }

    package subscript(turn: Int) -> Int? {
        precondition(turn >= 0 && turn < endIndex, "no such turn")
        return rounds.isEmpty ? (turn < own ? turn : nil) : rounds[turn]
    }
}
