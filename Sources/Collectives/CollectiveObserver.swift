/// Whoever wants to know when the network works and who waits for it. Times are the link's clock, in nanoseconds.
/// Called on the thread that drives the network, between messages: it must be quick.
public protocol CollectiveObserver: AnyObject, Sendable {
    /// From its start to the end of this rank's part. Collectives overlap; those of one `lane` (0, 1, ...) do not.
    func ran(_ request: Request, lane: Int, from: UInt64, to: UInt64)

    /// The caller waited for it.
    func waited(for request: Request, from: UInt64, to: UInt64)
}
