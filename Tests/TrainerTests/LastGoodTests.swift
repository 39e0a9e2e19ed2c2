import Testing
import Trainer

@Suite struct LastGoodTests {
    /// A checkpoint is good once a later step could use its weights, and stays so until a newer one is.
    @Test func aCheckpointProvesItselfByTheNextStep() {
        var good = LastGood(limit: 3)
        let proven1 = good.add(step: 1, updated: true)
        #expect(!proven1)
        good.saved(step: 1, path: "a")
        #expect(good.confirmed == nil)
        let proven2 = good.add(step: 2, updated: true)
        #expect(proven2)
        #expect(good.confirmed?.path == "a")
        let proven3 = good.add(step: 3, updated: true)
        #expect(!proven3)
        good.saved(step: 3, path: "b")
        for step in 4...6 {
            #expect(!good.isLost)
            let now = good.add(step: step, updated: false)
            #expect(!now)
            #expect(good.confirmed?.step == 1 && good.skipped == step - 3)
        }
        #expect(good.isLost)
        let text = good.fault("outputs/x").description
        for words in ["since step 4", "in 3 steps in a row", "the last good checkpoint is a;", "outputs/x"] {
            #expect(text.contains(words), "\(words)")
        }
    }

    /// One bad step is a step that is skipped: the next one that works ends the row.
    @Test func onlyARowCounts() {
        var good = LastGood(limit: 2)
        for step in 1...40 {
            #expect(!good.isLost)
            _ = good.add(step: step, updated: step % 2 == 0)
        }
        var never = LastGood(limit: 0)
        for step in 1...40 { _ = never.add(step: step, updated: false) }
        #expect(!never.isLost && never.skipped == 40)
    }

    @Test func saysWhatIsThereIfNothingIsGood() {
        var good = LastGood(limit: 1)
        _ = good.add(step: 1, updated: false)
        #expect(good.fault("r").description.contains("nothing was saved before"))
        good.saved(step: 0, path: "c")
        #expect(good.fault("r").description.contains("the weights of c gave this"))
    }
}
