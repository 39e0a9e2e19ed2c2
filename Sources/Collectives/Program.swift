import Wire

/// A schedule made ready to run: byte offsets, world ranks, message numbers, and which message must wait
/// for which. Made once per request and kept; running it allocates nothing.
package final class Program {
    struct Message {
        var isSend: Bool
        /// An adding receive: it lands in a staging segment first, so its memory can be posted early.
        var isStaged: Bool
        /// World rank of the other end.
        var peer: Int
        /// The message's number among those of this operation from its sender to its receiver.
        var segment: UInt32
        var offset: Int
        var length: Int
    }

    let request: Request
    let fingerprint: UInt32
    let messages: [Message]
    /// How many earlier messages each message waits for.
    let blockerCounts: [Int32]
    /// Those that wait for message m: dependents[firstDependent[m]..<firstDependent[m + 1]].
    let firstDependent: [Int32]
    let dependents: [Int32]
    /// The peers that this rank sends to, and the messages to each, in order.
    let sends: [(peer: Int, messages: [Int32])]
    /// The adding receives, in order.
    let staged: [Int32]
    /// Operations of this program that are not running, to be used again.
    var idle: [Operation] = []

    init(_ request: Request, segmentBytes: Int) {
        let schedule = request.schedule(segmentBytes: segmentBytes)
        let width = request.element.size
        let ranks = request.group.ranks
        var sent = [UInt32](repeating: 0, count: ranks.count)
        var received = sent
        var messages: [Message] = []
        for step in schedule.steps {
            let isSend = step.direction == .send
            messages.append(Message(
                isSend: isSend, isStaged: step.direction == .receive(.add), peer: ranks[step.peer],
                segment: isSend ? sent[step.peer] : received[step.peer],
                offset: step.range.lowerBound * width, length: step.range.count * width))
            if isSend { sent[step.peer] += 1 } else { received[step.peer] += 1 }
        }
        precondition(messages.count <= OperationToken.messageLimit, "too many segments in one collective")
        self.request = request
        self.messages = messages
        fingerprint = request.fingerprint(segmentBytes: segmentBytes)
        staged = messages.indices.filter { messages[$0].isStaged }.map(Int32.init)
        sends = ranks.compactMap { rank in
            let own = messages.indices.filter { messages[$0].isSend && messages[$0].peer == rank }
            return own.isEmpty ? nil : (rank, own.map(Int32.init))
        }
        let blockers = Self.blockers(of: schedule)
        blockerCounts = blockers.map { Int32($0.count) }
        var waiting = [[Int32]](repeating: [], count: messages.count)
        for (message, earlier) in blockers.enumerated() {
            for blocker in earlier { waiting[blocker].append(Int32(message)) }
        }
        var first: [Int32] = [0]
        for list in waiting { first.append(first[first.count - 1] + Int32(list.count)) }
        firstDependent = first
        dependents = waiting.flatMap { $0 }
    }

    /// For each step the earlier steps that it must wait for, from the overlaps of their ranges: a send
    /// waits for the last receive into its elements (they must be there), a receive for the last receive
    /// (which fixes the order of sums) and for the sends since (the network still reads those elements).
    ///
    /// The bounds of all ranges cut the buffer into intervals; each remembers its last writer and the
    /// readers since.
    package static func blockers(of schedule: Schedule) -> [Set<Int>] {
        let bounds = Set(schedule.steps.flatMap { [$0.range.lowerBound, $0.range.upperBound] }).sorted()
        var place: [Int: Int] = [:]
        for (index, bound) in bounds.enumerated() { place[bound] = index }
        var lastWriter = [Int?](repeating: nil, count: bounds.count)
        var readers = [[Int]](repeating: [], count: bounds.count)
        var result: [Set<Int>] = []
        for (index, step) in schedule.steps.enumerated() {
            var earlier: Set<Int> = []
            for interval in place[step.range.lowerBound]!..<place[step.range.upperBound]! {
                if let writer = lastWriter[interval] { earlier.insert(writer) }
                if step.direction == .send {
                    readers[interval].append(index)
                } else {
                    earlier.formUnion(readers[interval])
                    readers[interval] = []
                    lastWriter[interval] = index
                }
            }
            result.append(earlier)
        }
        return result
    }
}

/// What a link hands back with an event: which operation, which of its messages.
struct OperationToken {
    static let messageBits: UInt32 = 20
    static let messageLimit = 1 << 20
    static let operationLimit = 1 << 12

    let raw: UInt32
    var operation: Int { Int(raw >> Self.messageBits) }
    var message: Int { Int(raw & (1 << Self.messageBits - 1)) }

    init(raw: UInt32) { self.raw = raw }
    init(operation: Int, message: Int) {
        raw = UInt32(operation) << Self.messageBits | UInt32(message)
    }
}

/// One run of a program on one buffer.
@safe package final class Operation {
    enum MessageState: UInt8 {
        /// Waits for its blockers, or for a staging segment.
        case pending
        /// With the link.
        case posted
        /// Arrived in its staging segment; its sum must wait for its blockers.
        case arrived
        case done
    }

    let program: Program
    /// Counts this group's collectives; the same on every member.
    private(set) var number: UInt64 = 0
    private(set) var base: UnsafeMutableRawPointer?
    var states: [MessageState]
    var blockers: [Int32]
    /// The staging segment of each message that has one.
    var segments: [Int32]
    /// How far each list of `program.sends`, and `program.staged`, has been handed to the link.
    var sendCursors: [Int]
    var stagedCursor = 0
    var unfinished = 0
    /// No message before this one is unfinished.
    private var frontier = 0
    /// Where the executor keeps this operation while it runs.
    var slot = 0
    /// Only where somebody observes.
    var startedAt: UInt64 = 0
    package internal(set) var isDone = false

    init(_ program: Program) {
        self.program = program
        states = Array(repeating: .pending, count: program.messages.count)
        blockers = program.blockerCounts
        segments = Array(repeating: -1, count: program.messages.count)
        sendCursors = Array(repeating: 0, count: program.sends.count)
    }

    /// A run of `request` on its own, outside a communicator: for tests and simulations.
    package convenience init(_ request: Request, segmentBytes: Int, buffer: UnsafeMutableRawBufferPointer,
                             number: UInt64) {
        precondition(buffer.count == request.bytes, "the buffer has the request's size")
        self.init(Program(request, segmentBytes: segmentBytes))
        unsafe prepare(base: buffer.baseAddress, number: number)
    }

    func prepare(base: UnsafeMutableRawPointer?, number: UInt64) {
        unsafe self.base = base
        self.number = number
        for message in states.indices {
            states[message] = .pending
            blockers[message] = program.blockerCounts[message]
        }
        for list in sendCursors.indices { sendCursors[list] = 0 }
        stagedCursor = 0
        frontier = 0
        unfinished = program.messages.count
        isDone = false
    }

    /// The first message in the schedule's order that is not done.
    var firstUnfinished: Int? {
        while frontier < states.count, states[frontier] == .done { frontier += 1 }
        return frontier < states.count ? frontier : nil
    }

    func tag(of message: Int) -> MessageTag {
        MessageTag(operation: UInt64(program.request.group.id) << 40 | number,
                   fingerprint: program.fingerprint, segment: program.messages[message].segment)
    }

    /// The elements of one message in the caller's buffer.
    func memory(of message: Int) -> UnsafeMutableRawBufferPointer {
        guard let base = unsafe base else { preconditionFailure("a message needs a buffer") }
        let place = program.messages[message]
        return unsafe UnsafeMutableRawBufferPointer(start: base + place.offset, count: place.length)
    }

    /// For people: "all-reduce of 1,048,576 float32 (4.0 MiB), operation 812".
    package var name: String {
        let group = program.request.group
        let whose = group.id == 0 ? "" : " of group \(group.ranks)"
        return program.request.name + ", operation \(number)" + whose
    }
}

/// Segments of memory where received summands wait to be added. Allocated and touched once.
@safe final class StagingPool {
    let segmentBytes: Int
    private let memory: UnsafeMutableRawPointer
    private var free: [Int32]

    init(segments: Int, segmentBytes: Int) {
        self.segmentBytes = segmentBytes
        unsafe memory = .allocate(byteCount: segments * segmentBytes, alignment: 4096)
        unsafe memory.initializeMemory(as: UInt8.self, repeating: 0, count: segments * segmentBytes)
        free = (0..<Int32(segments)).reversed()
    }

    deinit { unsafe memory.deallocate() }

    func take() -> Int32? { free.popLast() }
    func giveBack(_ segment: Int32) { free.append(segment) }

    func memory(of segment: Int32, length: Int) -> UnsafeMutableRawBufferPointer {
        precondition(length <= segmentBytes, "a message is no longer than a staging segment")
        let start = unsafe memory + Int(segment) * segmentBytes
        return unsafe UnsafeMutableRawBufferPointer(start: start, count: length)
    }
}
