/// Who stands at the door: connections that came in and have not proven that they know the job's secret. Anybody can
/// make them, so there is a place for few, and who gets a place takes it from a stranger rather than from a rank.
///
/// A rank speaks at once and proves itself a round trip later; a stranger is silent, or says something wrong and is
/// dropped. So of too many one goes that has got least far, and of these the oldest one of the host that has the most:
/// whoever floods from elsewhere takes places from himself only. A rank that had to go comes again.
package struct Gate {
    /// Places in all, and for one host.
    package static let limit = 64
    package static let hostLimit = 32

    /// How far somebody has got.
    package enum Standing: Int, Sendable {
        case silent, speaking
        /// Its first message opened under the secret, which a recording also does.
        case knowing
    }

    private struct Visitor {
        let connection: Int
        let host: [UInt8]
        var deadline: UInt64
        var standing = Standing.silent
    }

    /// Oldest first, so that deadlines ascend.
    private var visitors: [Visitor] = []

    package init() {}

    package var count: Int { visitors.count }

    /// A connection has come in and may stay until `deadline`. Returns the one that has to go for it, if any.
    package mutating func admit(_ connection: Int, from address: SocketAddress, until deadline: UInt64) -> Int? {
        let host = Self.host(of: address)
        var leaves: Int?
        if visitors.count(where: { $0.host == host }) >= Self.hostLimit {
            leaves = least(of: visitors.filter { $0.host == host })
        } else if visitors.count >= Self.limit {
            leaves = least(of: visitors)
        }
        if let leaves { leave(leaves) }
        visitors.append(Visitor(connection: connection, host: host, deadline: deadline))
        return leaves
    }

    package mutating func advance(_ connection: Int, to standing: Standing) {
        guard let place = visitors.firstIndex(where: { $0.connection == connection }) else { return }
        visitors[place].standing = standing
    }

    /// It has proven itself, or is gone.
    package mutating func leave(_ connection: Int) { visitors.removeAll { $0.connection == connection } }

    /// Those whose time is over.
    package func late(at now: UInt64) -> [Int] {
        visitors.prefix { $0.deadline <= now }.map(\.connection)
    }

    /// This rank did not run for a while: nobody is late because of that.
    package mutating func extend(by nanoseconds: UInt64) {
        for place in visitors.indices { visitors[place].deadline += nanoseconds }
    }

    /// Of those that have got least far the oldest one of the host that has most of them.
    private func least(of visitors: [Visitor]) -> Int? {
        guard let standing = visitors.map(\.standing.rawValue).min() else { return nil }
        let last = visitors.filter { $0.standing.rawValue == standing }
        let counts = Dictionary(last.map { ($0.host, 1) }, uniquingKeysWith: +), most = counts.values.max()
        return last.first { counts[$0.host] == most }?.connection
    }

    /// An IPv6 host has as many addresses as it likes in its network of 64 bits.
    private static func host(of address: SocketAddress) -> [UInt8] {
        address.host.count == 4 || address.isLoopback ? address.host : Array(address.host.prefix(8))
    }
}
