import Synchronization
import Wire

/// One run of a program on one buffer.
@safe package final class Operation {
    enum StepState: UInt8 {
        /// Waits for its blockers, or for a staging segment.
        case pending
        /// With the link, or with the caller.
        case posted
        /// Arrived in its staging segment; what is made of it must wait for its blockers.
        case arrived
        case done
    }

    let program: Program
    /// What its messages carry: the group's id, and how many collectives the group had begun before.
    private(set) var tagOperation: UInt64 = 0
    private(set) var base: UnsafeMutableRawPointer?
    private(set) var source: UnsafeRawPointer?
    var states: [StepState]
    var blockers: [Int32]
    /// The staging segment of each message that has one.
    var segments: [Int32]
    /// How far each list of `program.sends`, and `program.staged`, has been handed to the link.
    var sendCursors: [Int]
    var stagedCursor = 0
    /// Steps that wait for the caller, oldest first.
    var toPrepare: [Int] = []
    var unfinished = 0
    /// No message before this one is unfinished.
    private var frontier = 0
    /// Where the executor keeps this operation while it runs.
    var slot = 0
    /// Its number in the flight recorder.
    var flight = 0
    /// Only where somebody observes.
    var startedAt: UInt64 = 0
    /// Set last, when the executor is through with the operation: whoever sees it may have it.
    private let done = Atomic<Bool>(false)

    package var isDone: Bool { done.load(ordering: .acquiring) }

    init(_ program: Program) {
        self.program = program
        states = Array(repeating: .pending, count: program.messages.count)
        blockers = program.blockerCounts
        segments = Array(repeating: -1, count: program.messages.count)
        sendCursors = Array(repeating: 0, count: program.sends.count)
    }

    /// A run of `request` on its own, outside a communicator: for tests and simulations.
    package convenience init(_ request: Request, segmentBytes: Int, buffer: UnsafeMutableRawBufferPointer,
                             source: UnsafeRawBufferPointer? = nil, group: UInt32, number: UInt32) {
        precondition(buffer.count == request.ownCount * request.element.size, "the buffer has the request's size")
        self.init(Program(request, segmentBytes: segmentBytes))
        unsafe prepare(base: buffer.baseAddress, source: source?.baseAddress,
                       tagOperation: UInt64(group) << 32 | UInt64(number))
    }

    func prepare(base: UnsafeMutableRawPointer?, source: UnsafeRawPointer?, tagOperation: UInt64) {
        unsafe self.base = base
        unsafe self.source = source
        self.tagOperation = tagOperation
        for message in states.indices {
            states[message] = .pending
            blockers[message] = program.blockerCounts[message]
        }
        for list in sendCursors.indices { sendCursors[list] = 0 }
        toPrepare.removeAll(keepingCapacity: true)
        stagedCursor = 0
        frontier = 0
        unfinished = program.messages.count
        done.store(false, ordering: .relaxed)
    }

    func finish() { done.store(true, ordering: .releasing) }

    /// The first message in the schedule's order that is not done.
    var firstUnfinished: Int? {
        while frontier < states.count, states[frontier] == .done { frontier += 1 }
        return frontier < states.count ? frontier : nil
    }

    /// The elements of one step in the caller's buffer.
    func memory(of message: Int) -> UnsafeMutableRawBufferPointer {
        guard let base = unsafe base else { preconditionFailure("a message needs a buffer") }
        let place = program.messages[message]
        return unsafe UnsafeMutableRawBufferPointer(start: base + place.offset, count: place.length)
    }

    /// The same as a range of the buffer.
    func elements(of message: Int) -> Range<Int> {
        let place = program.messages[message], width = program.request.element.size
        return (place.offset / width)..<((place.offset + place.length) / width)
    }

    /// What a send reads.
    func outgoing(_ message: Int) -> UnsafeRawBufferPointer {
        let place = program.messages[message]
        guard place.isOfSource else { return unsafe UnsafeRawBufferPointer(memory(of: message)) }
        guard let source = unsafe source else { preconditionFailure("a message needs a buffer") }
        return unsafe UnsafeRawBufferPointer(start: source + place.offset, count: place.length)
    }

    /// For people: "all-reduce of 1,048,576 float32 (4.0 MiB), operation 812".
    package var name: String {
        let ranks = program.request.group.ranks
        let whose = tagOperation >> 32 == 0 ? "" : " of group \(ranks)"
        return program.request.name + ", operation \(tagOperation & 0xFFFF_FFFF)" + whose
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
