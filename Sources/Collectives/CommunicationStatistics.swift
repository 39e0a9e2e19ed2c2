/// What a communicator has done since it was made. Bandwidth as people compare it is bytes of the buffer
/// over seconds times `CollectiveKind.busFactor`.
public struct CommunicationStatistics: Sendable, Equatable {
    public var operations: Int
    /// Payload bytes, without frames.
    public var bytesSent: Int
    public var bytesReceived: Int
    /// The part of them that arrived while the caller was waiting for a ticket.
    public var bytesReceivedInWaits: Int
    /// The same of all-to-alls alone, which tokens and keys of shared sequences travel by.
    public var exchangedBytes: Int
    public var exchangedInWaits: Int
    /// Time the caller spent waiting for tickets.
    public var waitSeconds: Double
    /// Numbers that this rank sent in E4M3, or rounded to it, and that were beyond its largest.
    public var saturated = 0

    /// The share of the received bytes that arrived while the caller did something else; 0 without traffic.
    public var hiddenShare: Double {
        bytesReceived == 0 ? 0 : 1 - Double(bytesReceivedInWaits) / Double(bytesReceived)
    }

    /// The share of what all-to-alls received that arrived while the caller did something else; 1 without any.
    public var hiddenExchangeShare: Double {
        exchangedBytes == 0 ? 1 : 1 - Double(exchangedInWaits) / Double(exchangedBytes)
    }

    /// What was added since `earlier`.
    public func since(_ earlier: CommunicationStatistics) -> CommunicationStatistics {
        CommunicationStatistics(
            operations: operations - earlier.operations, bytesSent: bytesSent - earlier.bytesSent,
            bytesReceived: bytesReceived - earlier.bytesReceived,
            bytesReceivedInWaits: bytesReceivedInWaits - earlier.bytesReceivedInWaits,
            exchangedBytes: exchangedBytes - earlier.exchangedBytes,
            exchangedInWaits: exchangedInWaits - earlier.exchangedInWaits,
            waitSeconds: waitSeconds - earlier.waitSeconds, saturated: saturated - earlier.saturated)
    }
}
