import Base
import Testing
import Trainer

/// From which ranks' slots a state is put together after a fault.
@Suite struct TestimonyTests {
    private func word(_ rank: Int, of ranks: Int = 4, own: [Int], copies: [Int], generation: Int = 0) -> Testimony {
        Testimony(generation: generation, ranks: ranks, rank: rank, own: own, copies: copies)
    }

    /// A rank that computed step 8 when one died: the step that all have come to is 7, twice.
    @Test(arguments: 0..<4) func oneIsLost(_ lost: Int) {
        let left = (0..<4).filter { $0 != lost }
        let words = left.map { [word($0, own: [6, 7], copies: [6, 7])] } + [[]]
        let found = Restoration.choose(words)
        #expect(found?.step == 7 && found?.sources.count == 4)
        for (share, source) in (found?.sources ?? []).enumerated() {
            // The new ranks are the old ones in their order, and the newcomer is the last.
            let holder = share == lost ? (share + 1) % 4 : share
            #expect(source == Restoration.Source(rank: left.firstIndex(of: holder) ?? -1, isCopy: share == lost))
        }
    }

    /// The neighbour has not got the copy of step 7 yet: then it is step 6, which nobody has written over.
    @Test func aCopyThatWasOnItsWay() {
        let words = [[word(0, own: [6, 7], copies: [6])], [word(1, own: [6, 7], copies: [6, 7])],
                     [word(3, own: [6, 7], copies: [6])]]
        // Rank 2's copies are with rank 3.
        #expect(Restoration.choose(words)?.step == 6)
        // A rank that is not through its update has nothing of step 7.
        #expect(Restoration.choose([[word(0, own: [6], copies: [6])], [word(1, own: [6, 7], copies: [6])],
                                    [word(3, own: [6, 7], copies: [6, 7])]])?.step == 6)
    }

    /// Two that are no neighbours may be lost, and not two that are.
    @Test func twoAreLost() {
        func left(_ ranks: [Int]) -> [[Testimony]] { ranks.map { [word($0, of: 5, own: [3, 4], copies: [3, 4])] } }
        #expect(Restoration.choose(left([0, 2, 4]))?.step == 4)
        #expect(Restoration.choose(left([0, 1, 4])) == nil)
        #expect(Restoration.choose([[], [], []]) == nil)
        #expect(Restoration.choose([]) == nil)
    }

    /// A death during a recovery: slots of the new life that are not all there give way to those of the old one.
    @Test func livesAreToldApart() {
        let old = [word(0, own: [8, 9], copies: [8, 9]), word(1, own: [8, 9], copies: [8, 9]),
                   word(3, own: [8, 9], copies: [8, 9])]
        let new = [word(0, own: [9], copies: [], generation: 1), word(1, own: [9], copies: [], generation: 1)]
        let found = Restoration.choose([[old[0], new[0]], [old[1], new[1]], [old[2]]])
        #expect(found?.generation == 0 && found?.step == 9)
        let whole = (0..<3).map { [word($0, of: 3, own: [9], copies: [9], generation: 1)] }
        #expect(Restoration.choose([whole[0] + [old[0]], whole[1], whole[2]])?.generation == 1)
    }

    /// Of those that are left, half of the ranks can hold everything, if they are the right ones.
    @Test(arguments: [4, 8, 16]) func halfOfThemHoldAll(_ ranks: Int) {
        for lost in 0..<ranks {
            let members = (0..<ranks).filter { $0 != lost }
            guard let chosen = Restoration.holders(ranks / 2, among: members, of: ranks) else {
                Issue.record("rank \(lost) of \(ranks)")
                continue
            }
            #expect(chosen.count == ranks / 2 && chosen == chosen.sorted() && Set(chosen).isSubset(of: members))
            let words = chosen.map { [word($0, of: ranks, own: [5], copies: [5])] }
            #expect(Restoration.choose(words)?.step == 5, "\(chosen) of \(ranks), without \(lost)")
            #expect(Restoration.holders(ranks / 2 - 1, among: members, of: ranks) == nil)
            #expect(Restoration.holders(ranks - 1, among: members, of: ranks) == members)
        }
        #expect(Restoration.holders(2, among: [0, 3], of: 4) == nil, "neighbours are lost")
    }

    @Test func whatIsSaidIsRead() {
        let words = [word(2, own: [1, 2], copies: []), word(0, of: 9, own: [], copies: [7], generation: 3)]
        #expect(Testimony.decode(Testimony.encode(words)) == words)
        #expect(Testimony.decode(Testimony.encode([])) == [])
    }
}
