import Base
import Foundation
import Telemetry
import Testing

@Suite struct TraceTests {
    private func events(_ json: String) throws -> [[String: Any]] {
        let object = try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any]
        return try #require(object?["traceEvents"] as? [[String: Any]])
    }

    /// What Perfetto needs of a complete event, and the names of process and lanes.
    @Test func spansAsEvents() throws {
        let trace = Trace(capacity: 8)
        let now = MonotonicClock.nanoseconds()
        trace.record("mlp", "compute", lane: 1, from: now, to: now + 2_500)
        #expect(trace.span("wait", "comm") { 7 } == 7)
        let all = try events(trace.json(process: 3, lanes: ["thread 0", "thread 1"], clockOffset: 5_000_000))
        #expect(all.map { $0["ph"] as? String } == ["M", "M", "M", "X", "X"])
        #expect(all.allSatisfy { $0["pid"] as? Int == 3 })
        #expect((all[0]["args"] as? [String: String])?["name"] == "rank 3")
        #expect((all[2]["args"] as? [String: String])?["name"] == "thread 1")
        #expect(all[3]["name"] as? String == "mlp" && all[3]["cat"] as? String == "compute")
        #expect(all[3]["tid"] as? Int == 1 && all[4]["tid"] as? Int == 0)
        #expect(all[3]["dur"] as? Double == 2.5)
        // 5 ms of offset, and the little time since the trace was made.
        #expect((all[3]["ts"] as? Double ?? 0) >= 5_000)
        #expect((all[4]["ts"] as? Double ?? 0) >= (all[3]["ts"] as? Double ?? .infinity))
    }

    /// A full ring keeps the last spans, in their order.
    @Test(arguments: [0, 1, 3, 4, 5, 8, 11]) func theRingKeepsTheLast(count: Int) throws {
        let trace = Trace(capacity: 4)
        let now = MonotonicClock.nanoseconds()
        for index in 0..<count { trace.record("x", "y", lane: index, from: now, to: now) }
        let lanes = try events(trace.json()).dropFirst().map { $0["tid"] as? Int }
        #expect(lanes == Array(max(0, count - 4)..<count))
    }

    /// Threads record into one trace, and nothing is lost.
    @Test func threadsRecordTogether() throws {
        let trace = Trace(capacity: 4_000)
        DispatchQueue.concurrentPerform(iterations: 4) { lane in
            for _ in 0..<1_000 { trace.record("x", "y", lane: lane, from: 1, to: 2) }
        }
        let lanes = try events(trace.json()).dropFirst().compactMap { $0["tid"] as? Int }
        for lane in 0..<4 { #expect(lanes.count { $0 == lane } == 1_000) }
    }
}
