import Base

// What control streams say, and what the caller wants to be said on them.
extension Session {
    /// A whole frame has come from a peer. False when it makes no sense.
    func heard(_ type: FrameType, _ content: [UInt8], from control: ControlChannel) -> Bool {
        let peer = control.peer
        watch.heard(from: peer, at: now)
        switch type {
        case .heartbeat: return content.isEmpty
        case .goodbye:
            watch.goodbye(from: peer)
            act(.left(watch.leftCount))
            return content.isEmpty
        case .abort:
            guard let (fault, kind) = ControlPayload.readAbort(content) else { return false }
            toldKind = kind
            perform(watch.told(fault))
            return true
        case .hello:
            guard options.rank == 0, let place = ControlPayload.readHello(content) else { return false }
            roster.learn(place, of: peer)
            watch.name(peer, place.hostName)
            for other in controls.indices where other != peer {
                say(.arrival, ControlPayload.arrival(of: peer, at: place), to: other)
            }
            say(.roster, ControlPayload.roster(roster.places), to: peer)
            return true
        case .arrival:
            guard peer == 0, let masterAddress,
                  let (rank, place) = ControlPayload.readArrival(content, worldSize: options.worldSize) else {
                return false
            }
            roster.learn(place, of: rank, masterAddress: masterAddress)
            watch.name(rank, place.hostName)
            return true
        case .roster:
            guard peer == 0, let masterAddress,
                  let places = ControlPayload.readRoster(content, worldSize: options.worldSize) else { return false }
            roster.learn(places, masterAddress: masterAddress)
            for (rank, place) in places.enumerated() { if let place { watch.name(rank, place.hostName) } }
            return true
        case .inquiry:
            act(.asked(by: peer))
            return content.isEmpty
        case .answer:
            guard let answer = ControlPayload.readAnswer(content, worldSize: options.worldSize) else { return false }
            act(.answered(by: peer, answer))
            return true
        case .memory: return stage == .starting && hearMemory(content, from: peer)
        case .memoryAnswer: return stage == .starting && hearMemoryAnswer(content, from: peer)
        case .lost: return hearLost(content, from: peer)
        case .succession: return hearSuccession(content, from: peer)
        case .data, .doorbell: return false
        }
    }

    /// A control stream has ended, or carried nonsense.
    func controlEnded(_ control: ControlChannel, evidence: String) {
        let peer = control.peer
        control.hasEnded = true
        if control.hasSpoken {
            perform(watch.ended(peer, evidence: evidence, operation: doing))
        } else {
            watch.broke(peer, evidence: evidence, at: now)
        }
        carryOn(agreement.gone(peer, at: now))
    }

    // MARK: what the caller brings

    /// A data stream of this peer ended while something was expected from it.
    package func broke(_ peer: Int, evidence: String, at now: UInt64) { watch.broke(peer, evidence: evidence, at: now) }

    /// What came over a data stream proves the peer wrong.
    package func misbehaved(_ peer: Int, evidence: String) {
        perform(watch.misbehaved(peer, evidence: evidence, operation: doing))
    }

    package func abort(_ fault: LinkFault) { perform(watch.abort(fault)) }

    package func inquire() { sayToAll(.inquiry) }

    package func answer(_ peer: Int, _ answer: LinkAnswer) { say(.answer, ControlPayload.answer(answer), to: peer) }

    package func sayGoodbye() { sayToAll(.goodbye) }

    // MARK: shared memory

    // Which peers share memory with this rank is settled at the end of the start, when every stream stands. Of two
    // ranks the lower one offers memory, or nothing; the higher one answers an offer. So both know the same.

    /// Says a word on memory to every higher rank.
    func offerMemory() {
        hasOfferedMemory = true
        let peers = controls.indices.filter { $0 != options.rank && mayShare(with: $0) }
        let isWanted = options.transport == .shm || peers.count <= Transport.sharedPeerLimit
        for peer in (options.rank + 1)..<max(options.worldSize, options.rank + 1) {
            if isWanted, peers.contains(peer) { act(.makeMemory(peer)) } else { offer(nil, to: peer) }
        }
    }

    /// A machine's name only says where to try: the memory's cookie proves it.
    private func mayShare(with peer: Int) -> Bool {
        guard options.transport != .tcp else { return false }
        return roster.places[peer]?.hostName == hostName
    }

    /// The memory that was made; nil where the system gives none.
    package func offer(_ name: SharedSegment.Name?, to peer: Int) {
        say(.memory, ControlPayload.memory(name), to: peer)
        if name == nil { settle(peer, false) } else { memoryOffered.insert(peer) }
    }

    /// A lower rank's word.
    private func hearMemory(_ content: [UInt8], from peer: Int) -> Bool {
        guard peer < options.rank, memoryAwaited.contains(peer), let offer = ControlPayload.readMemory(content) else {
            return false
        }
        if let offer {
            if options.transport == .tcp { opened(false, from: peer) } else { act(.openMemory(peer, offer)) }
        } else {
            settle(peer, false)
        }
        return true
    }

    /// Whether what a lower rank offered could be had.
    package func opened(_ isOpen: Bool, from peer: Int) {
        say(.memoryAnswer, [isOpen ? 1 : 0], to: peer)
        settle(peer, isOpen)
    }

    /// A higher rank's answer to our offer.
    private func hearMemoryAnswer(_ content: [UInt8], from peer: Int) -> Bool {
        guard memoryOffered.remove(peer) != nil, content == [0] || content == [1] else { return false }
        settle(peer, content == [1])
        return true
    }

    private func settle(_ peer: Int, _ isShared: Bool) {
        memoryAwaited.remove(peer)
        act(.settleMemory(peer, isShared))
        if !isShared, options.transport == .shm { fail(.noSharedMemory(rank: peer, host: name(of: peer))) }
        completeIfDone()
    }
}
