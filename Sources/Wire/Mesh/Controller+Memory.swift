import Base

// Which peers share memory with this rank: settled at the end of the start, when every stream stands. Of two ranks the
// lower one offers memory, or nothing; the higher one answers an offer. So both know the same.
extension Controller {
    /// Says a word on memory to every higher rank.
    func offerMemory() {
        hasOfferedMemory = true
        let peers = (0..<options.worldSize).filter { $0 != options.rank && mayShare(with: $0) }
        let isWanted = options.transport == .shm || peers.count <= Transport.sharedPeerLimit
        for control in controls.values where control.peer > options.rank {
            guard isWanted, peers.contains(control.peer), let (segment, name) = SharedSegment.make() else {
                control.send(.memory, ControlPayload.memory(nil))
                settle(control.peer, nil)
                continue
            }
            offeredMemory[control.peer] = segment
            control.send(.memory, ControlPayload.memory(name))
        }
    }

    /// A machine's name only says where to try: the memory's cookie proves it.
    private func mayShare(with peer: Int) -> Bool {
        guard options.transport != .tcp else { return false }
        return roster.places[peer]?.hostName == roster.places[options.rank]?.hostName
    }

    /// A lower rank's word. False when it makes no sense.
    func hearMemory(_ content: [UInt8], from control: ControlStream) -> Bool {
        guard control.peer < options.rank, memoryAwaited.contains(control.peer),
              let offer = ControlPayload.readMemory(content) else { return false }
        guard let offer else {
            settle(control.peer, nil)
            return true
        }
        let segment = options.transport == .tcp ? nil : SharedSegment.open(offer)
        control.send(.memoryAnswer, [segment == nil ? 0 : 1])
        settle(control.peer, segment)
        return true
    }

    /// A higher rank's answer to our offer.
    func hearMemoryAnswer(_ content: [UInt8], from control: ControlStream) -> Bool {
        guard let segment = offeredMemory.removeValue(forKey: control.peer), content == [0] || content == [1] else {
            return false
        }
        segment.closeDescriptor()
        settle(control.peer, content == [1] ? segment : nil)
        return true
    }

    private func settle(_ peer: Int, _ segment: SharedSegment?) {
        memoryAwaited.remove(peer)
        sharedMemory[peer] = segment
        if segment == nil, options.transport == .shm, failure == nil {
            failure = .noSharedMemory(rank: peer, host: hostName(of: peer))
        }
    }
}
