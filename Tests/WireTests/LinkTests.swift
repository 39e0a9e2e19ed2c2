import Base
import Testing
import Wire

@Suite struct LinkTests {
    /// What every survivor prints: one line that names the culprit, the deed, the evidence and the witness.
    @Test func aFaultIsOneLine() {
        let fault = LinkFault(culprit: 3, host: "node-b", operation: "all-reduce of 4.0 MiB, operation 812",
                              evidence: "no heartbeat for 5.0 s", reporter: 0)
        #expect(fault.description == "rank 3 (node-b) failed during all-reduce of 4.0 MiB, operation 812: "
            + "no heartbeat for 5.0 s [seen by rank 0]")
        #expect(fault.kind.exitCode == 1)
    }

    /// Each part of a tag tells messages apart.
    @Test func tagsDiffer() {
        let tag = MessageTag(operation: 1, fingerprint: 2, segment: 3)
        let others = [MessageTag(operation: 2, fingerprint: 2, segment: 3),
                      MessageTag(operation: 1, fingerprint: 3, segment: 3),
                      MessageTag(operation: 1, fingerprint: 2, segment: 4)]
        #expect(Set(others + [tag]).count == 4)
    }
}
