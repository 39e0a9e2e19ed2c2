import Base

// What comes after a fault in a job that goes on without the ranks that it has lost.
extension Session {
    /// The fault is reported: the survivors look for each other on the control streams that still stand.
    func beginAgreement(_ fault: LinkFault) {
        guard options.survives else { return }
        let absent = controls.indices.filter { peer in
            peer != options.rank && (controls[peer]?.hasEnded ?? true || watch.hasLeft(peer))
        }
        carryOn(agreement.begin(fault, absent: absent, at: now))
    }

    /// A peer's list of ranks that are lost. False when it makes no sense.
    func hearLost(_ content: [UInt8], from peer: Int) -> Bool {
        guard options.survives, let lost = ControlPayload.readRanks(content, worldSize: options.worldSize) else {
            return false
        }
        carryOn(agreement.heard(lost, from: peer, at: now))
        return true
    }

    /// The leader's word. False when it makes no sense.
    func hearSuccession(_ content: [UInt8], from peer: Int) -> Bool {
        guard options.survives,
              let (address, members) = ControlPayload.readSuccession(content, worldSize: options.worldSize) else {
            return false
        }
        guard agreement.led(members, by: peer) else { return true }
        goOn(members, at: address)
        return true
    }

    /// This rank leads, and the others are to meet it at this port.
    package func leads(at port: UInt16) {
        guard agreement.isUnderWay, agreement.hasSettled else { return }
        let members = agreement.members, address = ownPlace(seenBy: lastLocal).address.with(port: port)
        for peer in members where peer != options.rank {
            say(.succession, ControlPayload.succession(address, members), to: peer)
        }
        agreement.hasLed()
        goOn(members, at: address)
    }

    /// A leader that listens on every address of its machine, and was rank 0, is where all have found it before.
    private func goOn(_ members: [Int], at address: SocketAddress) {
        let host = address.isWildcard ? options.masterHost : address.hostText
        act(.sequel(.goesOn(Succession(epoch: options.epoch + 1, members: members, host: host,
                                       port: Int(address.port)))))
    }

    func carryOn(_ actions: [Agreement.Action]) {
        for action in actions {
            switch action {
            case .say(let lost): sayToAll(.lost, ControlPayload.ranks(lost))
            case .lead: act(.findPort)
            case .end(let retirement): act(.sequel(.ends(retirement)))
            }
        }
    }
}

extension ControlPayload {
    /// How many (4), and each rank (4).
    package static func ranks(_ ranks: [Int]) -> [UInt8] {
        var writer = ByteWriter()
        append(ranks, to: &writer)
        return writer.bytes
    }

    package static func readRanks(_ bytes: [UInt8], worldSize: Int) -> [Int]? {
        var reader = ByteReader(bytes)
        guard let ranks = ranks(&reader, worldSize: worldSize), reader.remaining == 0 else { return nil }
        return ranks
    }

    /// Where to meet: the address's length (1), the address, its port (2); and who.
    package static func succession(_ address: SocketAddress, _ members: [Int]) -> [UInt8] {
        var writer = ByteWriter()
        writer.append(UInt8(address.host.count))
        writer.append(bytes: address.host)
        writer.append(address.port)
        append(members, to: &writer)
        return writer.bytes
    }

    package static func readSuccession(_ bytes: [UInt8], worldSize: Int)
        -> (address: SocketAddress, members: [Int])? {
        var reader = ByteReader(bytes)
        guard let width = reader.read(UInt8.self), width == 4 || width == 16,
              let host = reader.read(count: Int(width)), let port = reader.read(UInt16.self),
              let members = ranks(&reader, worldSize: worldSize), reader.remaining == 0 else { return nil }
        return (SocketAddress(host: Array(host), port: port), members)
    }

    private static func append(_ ranks: [Int], to writer: inout ByteWriter) {
        writer.append(UInt32(ranks.count))
        for rank in ranks { writer.append(UInt32(rank)) }
    }

    /// Ranks in ascending order, each once.
    private static func ranks(_ reader: inout ByteReader, worldSize: Int) -> [Int]? {
        guard let count = reader.read(UInt32.self), count <= worldSize else { return nil }
        var ranks: [Int] = []
        for _ in 0..<count {
            guard let rank = reader.read(UInt32.self), rank < worldSize, Int(rank) > ranks.last ?? -1 else {
                return nil
            }
            ranks.append(Int(rank))
        }
        return ranks
    }
}
