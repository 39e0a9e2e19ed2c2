import Base
import Wire

/// The last operations of a rank, always kept, so that after a failure it can be seen who was in which of them and who
/// waited for whom. A ring of fixed size: to note an operation allocates nothing.
@safe final class FlightRecorder {
    static let capacity = 256

    private struct Entry {
        let count: Int
        let program: Program
        let tag: UInt64
        let began: UInt64
        var ended: UInt64?
        /// While it runs.
        var operation: Operation?
    }

    private var entries: [Entry] = []
    private(set) var count = 0

    init() { entries.reserveCapacity(Self.capacity) }

    func begin(_ operation: Operation, at now: UInt64) {
        operation.flight = count
        let entry = Entry(count: count, program: operation.program, tag: operation.tagOperation, began: now,
                          operation: operation)
        if entries.count < Self.capacity { entries.append(entry) } else { entries[count % Self.capacity] = entry }
        count += 1
    }

    func end(_ operation: Operation, at now: UInt64) {
        let place = operation.flight % Self.capacity
        guard entries.indices.contains(place), entries[place].count == operation.flight else { return }
        entries[place].ended = now
        entries[place].operation = nil
    }

    /// One JSON object a line, oldest first. Times are seconds before `now`.
    func lines(at now: UInt64) -> [String] {
        entries.sorted { $0.count < $1.count }.map { entry in
            let request = entry.program.request
            func seconds(_ time: UInt64) -> String { "-" + Units.fixed(Double(now - min(now, time)) * 1e-9, 6) }
            var line = "{\"number\":\(entry.count),\"operation\":\(jsonString(request.kind.name))"
            line += ",\"algorithm\":\(jsonString(request.algorithm.name)),\"label\":\(request.label)"
            line += ",\"group\":\(entry.tag >> 32),\"ranks\":\(request.group.ranks)"
            line += ",\"number_in_group\":\(entry.tag & 0xFFFF_FFFF),\"bytes\":\(request.bytes)"
            line += ",\"began\":\(seconds(entry.began)),\"ended\":\(entry.ended.map(seconds) ?? "null")"
            line += ",\"state\":\"\(entry.ended == nil ? "running" : "done")\""
            line += ",\"waits_for\":[\((entry.operation?.waits ?? []).map(Self.wait).joined(separator: ","))]}"
            return line
        }
    }

    private static func wait(_ wait: Operation.Wait) -> String {
        "{\"rank\":\(wait.peer),\"received\":\(wait.received.done),\"to_receive\":\(wait.received.all)"
            + ",\"sent\":\(wait.sent.done),\"to_send\":\(wait.sent.all)}"
    }
}

extension Operation {
    /// How much of what is to pass between this rank and a peer has passed, in segments.
    struct Wait {
        let peer: Int
        var received = (done: 0, all: 0)
        var sent = (done: 0, all: 0)
    }

    /// What passes between this rank and each other one.
    var exchanges: [Wait] {
        var found: [Int: Wait] = [:]
        for (message, place) in program.messages.enumerated() where !place.isDoneHere {
            var wait = found[place.peer] ?? Wait(peer: place.peer)
            let state = states[message]
            if place.deed == .send {
                wait.sent.all += 1
                wait.sent.done += state == .done ? 1 : 0
            } else {
                wait.received.all += 1
                wait.received.done += state == .done || state == .arrived ? 1 : 0
            }
            found[place.peer] = wait
        }
        return found.values.sorted { $0.peer < $1.peer }
    }

    /// The peers with which it is not through.
    var waits: [Wait] {
        exchanges.filter { $0.received.done < $0.received.all || $0.sent.done < $0.sent.all }
    }
}

extension Communicator {
    /// What this rank was doing: a line about `reason`, then its last 256 operations, oldest first, one JSON object a
    /// line. docs/troubleshooting.md explains the fields.
    public func flightRecord(because reason: String) -> String {
        driver.withExecutor { executor in
            var head = "{\"rank\":\(rank),\"host\":\(jsonString(host(of: rank))),\"world_size\":\(worldSize)"
            head += ",\"time\":\(jsonString(utcTimestamp())),\"reason\":\(jsonString(reason))"
            if let fault = executor.fault { head += ",\"culprit\":\(fault.culprit)" }
            head += ",\"operations\":\(executor.flight.count)}"
            return ([head] + executor.flight.lines(at: link.now)).joined(separator: "\n") + "\n"
        }
    }
}
