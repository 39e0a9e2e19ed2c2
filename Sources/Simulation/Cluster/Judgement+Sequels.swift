import Base
import Wire

// What must hold in every run of a job that goes on after a fault. Safety: of all that have agreed on something, one
// group at most can meet, and it is a majority. Liveness: whoever lives finds out in time how it goes on. And after one
// death, stop or cut link among ranks at work all the others go on, without that one and without another word.
extension Cluster {
    func judgeSequels() {
        for process in processes where process.outcome == nil { wrong("process \(process.number) never ended") }
        var groups: Set<[Int]> = []
        for case (let process, .survived(_, let sequel)?) in processes.map({ ($0, $0.outcome) }) {
            guard let sequel else {
                wrong("process \(process.number) has found nothing out")
                continue
            }
            guard case .goesOn(let next) = sequel else { continue }
            if next.members.count * 2 <= worldSize { wrong("\(next.members) go on, of \(worldSize)") }
            if next.epoch != 1 || next.host != "10.0.0.\(address(of: next.members[0]).host[3])" {
                wrong("process \(process.number) goes on in epoch \(next.epoch) at \(next.host)")
            }
            if next.members.allSatisfy({ self.next(of: $0) == next }) { groups.insert(next.members) }
        }
        if groups.count > 1 { wrong("two jobs go on: \(groups.sorted { $0.count < $1.count })") }
        if struckAtWork, second == nil { judgeOneLoss(groups) }
    }

    private func next(of number: Int) -> Succession? {
        guard case .survived(_, .goesOn(let next))? = processes[number].outcome else { return nil }
        return next
    }

    private func judgeOneLoss(_ groups: Set<[Int]>) {
        guard [.killed, .stopped, .cutOff].contains(misfortune), !processes.contains(where: isFinished) else { return }
        let others = (0..<worldSize).filter { $0 != victim }
        if groups != [others] { wrong("\(groups) go on, and not \(others)") }
        guard misfortune != .killed else { return }
        switch processes[victim].outcome {
        case .survived(_, .ends(.expelled)?)?: break
        case .survived(_, .ends(.minority(let present, _, _))?)? where present == [victim]: break
        default: wrong("process \(victim) was left behind, and does not leave for that")
        }
    }

    private func isFinished(_ process: ClusterProcess) -> Bool {
        if case .finished? = process.outcome { return true }
        if case .failed? = process.outcome { return true }
        return false
    }
}
