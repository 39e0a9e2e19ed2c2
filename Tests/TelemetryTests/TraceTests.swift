import Base
import Foundation
import Telemetry
import Testing

@Suite struct TraceTests {
    private static let same = ClockAlignment(at: 0, .none, at: 1, .none)
    private static let zero: UInt64 = 1_000_000_000_000

    private func object(_ trace: Trace, rank: Int = 0, host: String = "here",
                        alignment: ClockAlignment = same) throws -> [String: Any] {
        let json = TraceFile.json([TraceFile.part(trace, rank: rank, host: host, alignment: alignment,
                                                 zero: Int64(Self.zero))])
        return try #require(try JSONSerialization.jsonObject(with: Data(json)) as? [String: Any])
    }

    private func events(_ object: [String: Any], _ phase: String) throws -> [[String: Any]] {
        try #require(object["traceEvents"] as? [[String: Any]]).filter { $0["ph"] as? String == phase }
    }

    /// What Perfetto needs of a complete event, and the names of process and lanes.
    @Test func spansAsEvents() throws {
        let trace = Trace(capacity: 8)
        func record(_ name: StaticString, _ kind: Trace.Kind, lane: Int, at: UInt64, for length: UInt64, amount: Int) {
            trace.record(Trace.Span(name, kind, lane: lane, from: Self.zero + at, to: Self.zero + at + length,
                                    amount: amount))
        }
        record("mlp", .compute, lane: 1, at: 5_000_001, for: 2_500, amount: 77)
        record("all-reduce", .communication, lane: Trace.networkLane + 2, at: 1_000, for: 4_000, amount: 4_096)
        record("all-reduce", .wait, lane: 0, at: 2_000, for: 0, amount: 12)
        record("step", .phase, lane: 0, at: 0, for: 9_000, amount: 3)
        record("data", .phase, lane: 0, at: 0, for: 1_000, amount: 0)
        let ahead = ClockOffset(nanoseconds: 5_000_000, uncertainty: 1_234)
        let object = try object(trace, rank: 3, host: "a \"b\"",
                                alignment: ClockAlignment(at: 0, ahead, at: 10_000_000, ahead))
        let names = try events(object, "M")
        #expect(names.allSatisfy { $0["pid"] as? Int == 3 })
        #expect(names.map { ($0["args"] as? [String: String])?["name"] }
            == ["rank 3 (a \"b\")", "thread 0", "thread 1", "network 2"])
        let spans = try events(object, "X")
        #expect(spans.map { $0["name"] as? String } == ["step", "data", "all-reduce", "mlp", "all-reduce"])
        #expect(spans.map { $0["cat"] as? String } == ["phase", "phase", "wait", "compute", "communication"])
        #expect(spans.map { $0["tid"] as? Int } == [0, 0, 0, 1, 10_002])
        #expect(spans.map { $0["ts"] as? Double } == [-5_000, -5_000, -4_998, 0.001, -4_999])
        #expect(spans.map { $0["dur"] as? Double } == [9, 1, 0, 2.5, 4])
        #expect(spans.map { $0["args"] as? [String: Int] }
            == [["step": 3], nil, ["bytes": 12], ["flops": 77], ["bytes": 4_096]])
        let about = (object["otherData"] as? [String: Any])?["ranks"] as? [[String: Any]]
        #expect(about?.count == 1 && about?[0]["spans"] as? Int == 5 && about?[0]["spans_lost"] as? Int == 0)
        #expect(about?[0]["clock_offset_us"] as? Double == 5_000)
        #expect(about?[0]["clock_uncertainty_us"] as? Double == 1.234)
    }

    /// The parts of all ranks, also of those that have nothing to show, are one object.
    @Test(arguments: 1...4) func ranksShareAFile(ranks: Int) throws {
        let parts = (0..<ranks).map { rank -> [UInt8] in
            let trace = Trace(capacity: 4)
            for _ in 0..<rank { trace.record(Trace.Span("x", .compute, from: Self.zero, to: Self.zero + 1)) }
            return TraceFile.part(trace, rank: rank, host: "h", alignment: Self.same, zero: Int64(Self.zero))
        }
        let object = try JSONSerialization.jsonObject(with: Data(TraceFile.json(parts))) as? [String: Any]
        let spans = try events(try #require(object), "X")
        for rank in 0..<ranks { #expect(spans.count { $0["pid"] as? Int == rank } == rank) }
        #expect(try events(try #require(object), "M").count == 2 * ranks)
    }

    /// A full ring keeps the last spans, in their order, and says how many it lost.
    @Test(arguments: [0, 1, 3, 4, 5, 8, 11]) func theRingKeepsTheLast(count: Int) throws {
        let trace = Trace(capacity: 4)
        for index in 0..<count {
            let time = Self.zero + UInt64(index)
            trace.record(Trace.Span("x", .compute, from: time, to: time, amount: index + 1))
        }
        #expect(trace.spans.map(\.amount) == Array((max(0, count - 4) + 1)..<(count + 1)))
        #expect(trace.lost == max(0, count - 4))
    }

    /// Threads record into one trace, and nothing is lost.
    @Test func threadsRecordTogether() throws {
        let trace = Trace(capacity: 4_000)
        DispatchQueue.concurrentPerform(iterations: 4) { lane in
            for _ in 0..<1_000 { trace.record(Trace.Span("x", .compute, lane: lane, from: 1, to: 2)) }
        }
        for lane in 0..<4 { #expect(trace.spans.count { $0.lane == lane } == 1_000) }
    }

    @Test func aBodyIsASpan() throws {
        let trace = Trace(capacity: 4)
        #expect(trace.span("outer", .phase, amount: 2) { trace.span("inner", .wait) { 7 } } == 7)
        #expect(throws: CancellationError.self) { try trace.span("thrown", .phase) { throw CancellationError() } }
        let spans = trace.spans
        #expect(spans.map(\.name.description) == ["outer", "inner", "thrown"])
        #expect(spans[0].from <= spans[1].from && spans[1].to <= spans[0].to && spans[0].to <= spans[2].from)
    }
}

@Suite struct TraceTableTests {
    /// Two steps of 10 ms: 4 ms of a stage (1 of which it waits for its threads), 3 ms of waiting inside a phase of
    /// 5 ms, and 1 ms that nothing covers; the other threads and what lies between the steps do not count.
    private func trace() -> Trace {
        let trace = Trace(capacity: 100)
        func add(_ name: StaticString, _ kind: Trace.Kind, _ from: Double, _ to: Double, lane: Int = 0,
                 amount: Int = 0) {
            trace.record(Trace.Span(name, kind, lane: lane, from: UInt64(from * 1e6), to: UInt64(to * 1e6),
                                    amount: amount))
        }
        for (step, at) in [(7, 0.0), (8, 50.0)] {
            add("other threads", .wait, at + 3, at + 4)
            add("mlp", .compute, at, at + 4, amount: 200_000_000)
            add("mlp", .compute, at, at + 3.9, lane: 1)
            add("all-reduce", .wait, at + 4, at + 7, amount: 8)
            add("reduce", .phase, at + 4, at + 9)
            add("all-reduce", .communication, at + 1, at + 7, lane: Trace.networkLane, amount: 8)
            add("step", .phase, at, at + 10, amount: step)
            add("optimizer", .compute, at + 20, at + 30)
        }
        return trace
    }

    @Test func everyMillisecondCountsOnce() {
        let table = TraceTable(trace(), peak: 100)
        #expect(table.steps == 7...8)
        let expected = [("mlp", 4.0), ("wait for all-reduce", 3), ("reduce, the rest", 2), ("step, the rest", 1)]
        #expect(table.rows.map(\.name) == expected.map(\.0))
        for (row, (_, milliseconds)) in zip(table.rows, expected) {
            #expect(abs(row.seconds * 1e3 - milliseconds) < 1e-9)
        }
        #expect(table.rows[0].flops == 200_000_000)
        #expect(abs(table.rows.reduce(0) { $0 + $1.seconds } - table.stepSeconds) < 1e-12)
        #expect(abs(table.joinSeconds - 1e-3) < 1e-12)
        #expect(abs(table.seconds(.wait) - 3e-3) < 1e-12 && abs(table.seconds(.compute) - 4e-3) < 1e-12)
    }

    /// 200 MFLOP take 2 ms at 100 GFLOP/s, so a stage of 4 ms loses 2 of them, and a wait all of its time.
    @Test func lossesAreAgainstThePeak() {
        let lines = TraceTable(trace(), peak: 100).text.split(separator: "\n").map { line in
            line.split(separator: " ").joined(separator: " ")
        }
        #expect(lines[0] == "steps 7 to 8 ms share GFLOP/s of peak ms lost")
        #expect(lines[1] == "mlp 4.0 40.0 % 50.0 50 % 2.0")
        #expect(lines[2] == "wait for all-reduce 3.0 30.0 % 3.0")
        #expect(lines.contains("step 10.0 100.0 % 20.0 20 % 8.0"))
        #expect(lines.last?.contains("thread 0 waited 1.0 ms for others") == true)
    }

    @Test func nothingTraced() {
        #expect(TraceTable(Trace(capacity: 1), peak: 1).text == "no step was traced")
    }
}
