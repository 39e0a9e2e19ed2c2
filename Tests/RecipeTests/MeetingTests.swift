import Recipe
import Testing

/// What the survivors of a fault leave for processes that wait.
@Suite struct MeetingTests {
    private let meeting = Meeting(epoch: 3, ranks: 4, open: 1, host: "fe80::1", port: 29_500, processes: [11, 12, 13],
                                  claims: [.init("recipe", "abc"), .init("arithmetic", "fused, x86-64")])

    @Test func whatIsWrittenIsRead() {
        let found = Meeting.read(meeting.text(proof: "00ff"))
        #expect(found?.meeting == meeting && found?.proof == "00ff")
        #expect(meeting.places == 3..<4)
        var over = meeting
        over.isOver = true
        #expect(Meeting.read(over.text(proof: "1"))?.meeting.isOver == true)
    }

    @Test(arguments: ["epoch 3", "open 1", "port 29500", "processes 11 12 13", "over 0", "proof 00ff", "ranks 4"])
    func whatIsTornIsNot(_ line: String) {
        let text = meeting.text(proof: "00ff")
        #expect(text.contains(line + "\n"))
        #expect(Meeting.read(text.replacing(line + "\n", with: "")) == nil)
        #expect(Meeting.read(text.replacing(line + "\n", with: "nonsense\n")) == nil)
    }

    @Test func whatCannotBeIsNot() {
        let text = meeting.text(proof: "00ff")
        #expect(Meeting.read(text.replacing("open 1", with: "open 5")) == nil)
        #expect(Meeting.read(text.replacing("port 29500", with: "port 70000")) == nil)
        #expect(Meeting.read("") == nil)
    }
}
