import Base

/// The settings of a communicator; equal on all ranks.
public struct CommunicatorOptions: Sendable {
    /// A wait gives up when nothing has moved for this long.
    public var timeoutSeconds: Double
    /// Then it asks the other ranks whom they wait for, and gives them this long to answer.
    public var graceSeconds: Double
    /// Longest message, a multiple of 64. On loopback shorter ones than 512 KiB cost a third of the rate.
    public var segmentBytes: Int
    /// A rank that says that it computes is waited for so long, and not longer.
    public var patienceSeconds: Double
    /// Which algorithm each collective takes; the same on all ranks.
    public var choice: Choice

    public init(timeoutSeconds: Double = 120, graceSeconds: Double = 0.5, segmentBytes: Int = 512 << 10,
                patienceSeconds: Double? = nil, choice: Choice = Choice()) {
        precondition(timeoutSeconds > 0 && graceSeconds >= 0, "a timeout is positive")
        precondition(segmentBytes >= 64 && segmentBytes % 64 == 0, "segments are multiples of 64 bytes")
        self.timeoutSeconds = timeoutSeconds
        self.graceSeconds = graceSeconds
        self.segmentBytes = segmentBytes
        self.patienceSeconds = patienceSeconds ?? 10 * timeoutSeconds
        self.choice = choice
    }

    /// Fewer segments of staging than usual, for tests: one is enough for everything to end.
    package var stagingLimit: Int?

    /// Segments of memory where summands wait: two for each peer, but not for more than sixteen.
    func stagingSegments(worldSize: Int) -> Int { stagingLimit ?? min(32, max(4, 2 * (worldSize - 1))) }

    /// Bytes that a communicator takes from the start.
    public func stagingBytes(worldSize: Int) -> Int { stagingSegments(worldSize: worldSize) * segmentBytes }

    /// Segments for what leaves in another format than memory's, made when the first one does.
    var narrowSegments: Int { 4 }
}
