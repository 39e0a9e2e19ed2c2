import Collectives
import Model
import Recipe
import Tensor

/// Sums gradients over the ranks of the world, bucket by bucket, while the backward still runs.
///
/// A step's micro-batches are added up locally; only the last one's backward reports blocks to the network. The
/// loss is already divided by the global count of targets, so the sum is the gradient: nothing is averaged.
public final class GradientReducer: GradientSink {
    public let plan: BucketPlan
    private let gradients: Parameters
    private let communicator: Communicator
    private var tickets: TicketQueue
    private var nextBucket = 0
    private var isReducing = false

    /// All ranks pass the same plan.
    public init(_ plan: BucketPlan, gradients: Parameters, communicator: Communicator) {
        self.plan = plan
        self.gradients = gradients
        self.communicator = communicator
        tickets = TicketQueue(communicator)
    }

    /// Before the backward of a micro-batch. With `isLast` its blocks are sent off as they become ready, and the
    /// network moves under the computation from here to `finish`.
    public func begin(isLast: Bool) {
        precondition(!isReducing, "the last reduction was not finished")
        guard isLast else { return }
        isReducing = true
        nextBucket = 0
        communicator.beginOverlap()
    }

    public func ready(_ block: Int) {
        guard isReducing, nextBucket < plan.buckets.count else { return }
        let bucket = plan.buckets[nextBucket]
        guard block == bucket.lastBlock else { return }
        nextBucket += 1
        let row = gradients.flat.slice(bucket.range.lowerBound, bucket.range.count)
        unsafe tickets.append(communicator.allReduce(row.floats, style: .init(label: UInt32(nextBucket))))
    }

    /// Returns when every bucket holds the sum over all ranks.
    public func finish() throws(CollectiveFault) {
        precondition(isReducing && nextBucket == plan.buckets.count, "finish before every block was ready")
        isReducing = false
        communicator.endOverlap()
        try tickets.waitAll()
    }
}
