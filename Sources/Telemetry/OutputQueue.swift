import Dispatch
import Synchronization

/// Output that somebody reads, or does not: what is written is taken at once and passed on by another thread, so that
/// a reader who pauses (`| less`, Ctrl-S) holds up neither training nor the launcher's loop.
///
/// At most `capacity` bytes wait. What comes on top is left out, in whole writes, and said with a count where the gap
/// is. A reader that has gone is none: what is written for it is forgotten.
public final class OutputQueue: Sendable {
    private struct State {
        var waiting = 0
        var omitted = 0
        var hasReader = true
    }

    public static let capacity = 1 << 20

    private let descriptor: Int32
    private let capacity: Int
    private let state = Mutex(State())
    private let thread: DispatchQueue

    public init(_ descriptor: Int32, capacity: Int = OutputQueue.capacity) {
        self.descriptor = descriptor
        self.capacity = capacity
        thread = DispatchQueue(label: "output \(descriptor)")
    }

    private static let all = Mutex<[Int32: OutputQueue]>([:])

    /// The one queue of this process for a descriptor.
    public static func shared(_ descriptor: Int32) -> OutputQueue {
        all.withLock { queues in
            if let queue = queues[descriptor] { return queue }
            let queue = OutputQueue(descriptor)
            queues[descriptor] = queue
            return queue
        }
    }

    /// Never waits for the reader.
    public func write(_ text: String) { write(Array(text.utf8)) }

    public func write(_ bytes: [UInt8]) {
        let notice: [UInt8]? = state.withLock { state in
            guard state.hasReader else { return nil }
            guard state.waiting + bytes.count <= capacity || state.waiting == 0 else {
                state.omitted += 1
                return nil
            }
            let text = state.omitted == 0 ? "" : Self.notice(state.omitted)
            state.omitted = 0
            state.waiting += bytes.count
            return Array(text.utf8)
        }
        guard let notice else { return }
        thread.async { [self] in
            let isRead = state.withLock { $0.hasReader } && writeAll(notice + bytes, to: descriptor)
            state.withLock { state in
                state.waiting -= bytes.count
                state.hasReader = isRead
            }
        }
    }

    /// Whether everything has been passed on.
    public var isEmpty: Bool { state.withLock { $0.waiting == 0 } }

    /// Waits until everything has been passed on, at most for so many seconds. Returns whether it has.
    @discardableResult
    public func flush(within seconds: Double = .infinity) -> Bool {
        let done = DispatchSemaphore(value: 0)
        let left = state.withLock { state in
            defer { state.omitted = 0 }
            return state.omitted
        }
        thread.async { [self] in
            if left > 0, state.withLock({ $0.hasReader }) {
                writeAll(Self.notice(left), to: descriptor)
            }
            done.signal()
        }
        let limit: DispatchTime = seconds.isFinite ? .now() + seconds : .distantFuture
        return done.wait(timeout: limit) == .success
    }

    private static func notice(_ count: Int) -> String {
        "[\(count) write\(count == 1 ? " was" : "s were") left out while nobody read this]\n"
    }

    /// Before a descriptor is closed: what waits is passed on, and whoever gets its number next has a queue of its own.
    public static func close(_ descriptor: Int32) {
        all.withLock { $0.removeValue(forKey: descriptor) }?.flush()
    }

    /// `flush` of all shared queues: for the end of the process.
    public static func flushAll(within seconds: Double = .infinity) {
        for queue in all.withLock({ Array($0.values) }) { queue.flush(within: seconds) }
    }
}
