import Wire

/// Who really holds things up? When one rank does not take part, its neighbour waits for it, the next rank
/// waits for the neighbour, and so on; blaming whoever is awaited would name an innocent. So a rank whose
/// patience has ended first asks all others whom they wait for, and follows the answers to a rank that
/// gives none.
///
/// Questions and answers are messages of 8 bytes: a kind, and the rank that the sender waits for. Each pair
/// of ranks numbers its own, under an operation number that no collective reaches; one receive per peer is
/// always posted. A question whose predecessor has not left yet is not asked: that peer reads nothing.
@safe package final class StallInquiry {
    /// The place in a token where others carry the operation.
    static let tokenSlot = OperationToken.operationLimit - 1
    private static let wordBytes = 8

    private enum Kind: UInt32 {
        case question = 1
        case answer = 2
    }

    private let link: any Link
    /// Three words per peer: received, question, answer.
    private let memory: UnsafeMutableRawBufferPointer
    private var isLeaving: [Bool]
    private var sent: [UInt32]
    private var received: [UInt32]
    /// The rank that each peer waits for, from its answer to the last question.
    private var answers: [Int?]
    /// When the last question was asked.
    package private(set) var askedAt: UInt64?

    package init(link: any Link) {
        self.link = link
        let size = link.worldSize
        unsafe memory = .allocate(byteCount: 3 * size * Self.wordBytes, alignment: 8)
        unsafe memory.initializeMemory(as: UInt8.self, repeating: 0)
        isLeaving = Array(repeating: false, count: 3 * size)
        sent = Array(repeating: 0, count: size)
        received = sent
        answers = Array(repeating: nil, count: size)
        for peer in 0..<size where peer != link.rank { listen(to: peer) }
    }

    deinit { unsafe memory.deallocate() }

    /// Asks everyone; `awaited` is the rank that this one waits for.
    package func ask(awaited: Int) {
        askedAt = link.now
        for peer in answers.indices {
            answers[peer] = nil
            if peer != link.rank { send(.question, to: peer, awaited: awaited) }
        }
    }

    /// Something moved after all.
    func withdraw() { askedAt = nil }

    /// A word of ours has left.
    package func sent(_ place: Int) { isLeaving[place] = false }

    /// A word has come. A question is answered if this rank is in a collective and waits for someone; a rank
    /// that takes no part cannot excuse itself.
    package func received(from peer: Int, awaited: Int?) {
        let kind = unsafe memory.load(fromByteOffset: peer * Self.wordBytes, as: UInt32.self)
        let rank = unsafe memory.load(fromByteOffset: peer * Self.wordBytes + 4, as: UInt32.self)
        received[peer] &+= 1
        listen(to: peer)
        switch Kind(rawValue: UInt32(littleEndian: kind)) {
        case .question: if let awaited { send(.answer, to: peer, awaited: awaited) }
        case .answer: answers[peer] = Int(UInt32(littleEndian: rank))
        case nil: break
        }
    }

    /// This rank, whom it waits for, whom that one waits for, and so on: up to a rank that did not answer,
    /// or that is in the chain already.
    package func chain(awaited: Int) -> [Int] {
        var chain = [link.rank, awaited]
        while let next = answers[chain[chain.count - 1]], answers.indices.contains(next) {
            let isCircle = chain.contains(next)
            chain.append(next)
            if isCircle { break }
        }
        return chain
    }

    private func listen(to peer: Int) {
        let tag = MessageTag(operation: .max, fingerprint: 0, segment: received[peer])
        unsafe link.receive(into: word(peer), from: peer, tag: tag, token: token(peer))
    }

    private func send(_ kind: Kind, to peer: Int, awaited: Int) {
        let place = answers.count * Int(kind.rawValue) + peer
        guard !isLeaving[place] else { return }
        isLeaving[place] = true
        let bytes = unsafe word(place)
        unsafe bytes.storeBytes(of: kind.rawValue.littleEndian, as: UInt32.self)
        unsafe bytes.storeBytes(of: UInt32(awaited).littleEndian, toByteOffset: 4, as: UInt32.self)
        let tag = MessageTag(operation: .max, fingerprint: 0, segment: sent[peer])
        sent[peer] &+= 1
        unsafe link.send(UnsafeRawBufferPointer(bytes), to: peer, tag: tag, token: token(place))
    }

    private func word(_ place: Int) -> UnsafeMutableRawBufferPointer {
        let start = place * Self.wordBytes
        return unsafe UnsafeMutableRawBufferPointer(rebasing: memory[start..<(start + Self.wordBytes)])
    }

    private func token(_ place: Int) -> UInt32 {
        OperationToken(operation: Self.tokenSlot, message: place).raw
    }
}
