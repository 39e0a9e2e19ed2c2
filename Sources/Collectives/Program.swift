import Wire

/// A schedule made ready to run: byte offsets, world ranks, message numbers, and which step must wait
/// for which. Made once per request and kept; running it allocates nothing.
package final class Program {
    struct Message {
        enum Deed { case send, land, combine, copy, narrow, prepare }

        var deed: Deed
        var isOfSource: Bool
        /// World rank of the other end.
        var peer: Int
        /// The message's number among those of this operation from its sender to its receiver.
        var segment: UInt32
        /// Bytes of memory.
        var offset: Int
        var length: Int
        /// Bytes on the wire; 0 for what is no message.
        var wireLength: Int
        /// Where a copy is from.
        var from: Int

        /// A receive that lands in a staging segment first, so that its memory can be posted early.
        var isStaged: Bool { deed == .combine || deed == .land && wireLength != length }
        var isDoneHere: Bool { deed == .copy || deed == .narrow || deed == .prepare }
    }

    package let request: Request
    let fingerprint: UInt32
    /// For a link that adds in place.
    let sum: LinkSum?
    let messages: [Message]
    /// How many earlier steps each step waits for.
    let blockerCounts: [Int32]
    /// Those that wait for step m: dependents[firstDependent[m]..<firstDependent[m + 1]].
    let firstDependent: [Int32]
    let dependents: [Int32]
    /// The peers that this rank sends to, and the messages to each, in order.
    let sends: [(peer: Int, messages: [Int32])]
    /// The receives that go through staging, in order.
    let staged: [Int32]
    /// Operations of this program that are not running, to be used again.
    var idle: [Operation] = []
    /// Operations that are running, and when one was begun last: for `ProgramCache`.
    var running = 0
    var lastUse: UInt64 = 0

    init(_ request: Request, segmentBytes: Int) {
        let schedule = request.schedule(segmentBytes: segmentBytes)
        let width = request.element.size, wireWidth = request.wire.width ?? width
        let ranks = request.group.ranks
        var sent = [UInt32](repeating: 0, count: ranks.count)
        var received = sent
        let messages = schedule.steps.map { step in
            var message = Message(
                deed: .send, isOfSource: step.isOfSource, peer: ranks[step.peer], segment: 0,
                offset: step.range.lowerBound * width, length: step.range.count * width,
                wireLength: step.isMessage ? step.range.count * wireWidth : 0, from: 0)
            switch step.deed {
            case .send:
                message.segment = sent[step.peer]
                sent[step.peer] += 1
            case .receive(let combine):
                message.deed = combine == .replace ? .land : .combine
                message.segment = received[step.peer]
                received[step.peer] += 1
            case .copy(let from):
                message.deed = .copy
                message.from = from * width
            case .narrow: message.deed = .narrow
            case .prepare: message.deed = .prepare
            }
            return message
        }
        precondition(messages.count <= OperationToken.messageLimit, "too many segments in one collective")
        self.request = request
        self.messages = messages
        sum = request.kind.reduces && request.wire == .native ? linkSum(request.reduction, request.element) : nil
        fingerprint = request.fingerprint(segmentBytes: segmentBytes)
        staged = messages.indices.filter { messages[$0].isStaged }.map(Int32.init)
        sends = ranks.compactMap { rank in
            let own = messages.indices.filter { messages[$0].deed == .send && messages[$0].peer == rank }
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
    /// waits for the last step that wrote its elements (they must be there), a step that writes for the last one
    /// that wrote (which fixes the order of sums) and for the sends since (the network still reads those elements).
    /// The source of an all-to-all is never written, so nothing waits for it.
    ///
    /// The bounds of all ranges cut the buffer into intervals; each remembers its last writer and the
    /// readers since.
    package static func blockers(of schedule: Schedule) -> [Set<Int>] {
        let own = schedule.steps.filter { !$0.isOfSource }
        let bounds = Set(own.flatMap { [$0.range.lowerBound, $0.range.upperBound] }).sorted()
        var place: [Int: Int] = [:]
        for (index, bound) in bounds.enumerated() { place[bound] = index }
        var lastWriter = [Int?](repeating: nil, count: bounds.count)
        var readers = [[Int]](repeating: [], count: bounds.count)
        var result: [Set<Int>] = []
        for (index, step) in schedule.steps.enumerated() {
            var earlier: Set<Int> = []
            if !step.isOfSource {
                for interval in place[step.range.lowerBound]!..<place[step.range.upperBound]! {
                    if let writer = lastWriter[interval] { earlier.insert(writer) }
                    if step.deed == .send {
                        readers[interval].append(index)
                    } else {
                        earlier.formUnion(readers[interval])
                        readers[interval] = []
                        lastWriter[interval] = index
                    }
                }
            }
            result.append(earlier)
        }
        return result
    }
}

/// Programs by request, the most recently used ones: whatever partitions and groups a long run comes along with, so
/// many are kept and no more.
struct ProgramCache {
    static let limit = 256

    private var programs: [Request: Program] = [:]
    private var uses: UInt64 = 0

    var count: Int { programs.count }

    mutating func program(for request: Request, segmentBytes: Int) -> Program {
        uses += 1
        if let known = programs[request] {
            known.lastUse = uses
            return known
        }
        if programs.count >= Self.limit { forget() }
        let program = Program(request, segmentBytes: segmentBytes)
        program.lastUse = uses
        programs[request] = program
        return program
    }

    /// Drops the half that was not used for longest, but for what is running.
    private mutating func forget() {
        let idle = programs.filter { $0.value.running == 0 }.sorted { $0.value.lastUse < $1.value.lastUse }
        for (request, program) in idle.prefix(Self.limit / 2) {
            programs[request] = nil
            program.idle = []
        }
    }

    /// A program and its operations hold each other: whoever lets go of the cache says so.
    mutating func close() {
        for program in programs.values { program.idle = [] }
        programs = [:]
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
