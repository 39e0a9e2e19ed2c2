import Base

/// A connection that is still shaking hands, on the control loop. Until the other side has proven that it
/// knows the secret, it can make this rank read 110 bytes into 256, and wait 3 seconds.
@safe final class Greeting: UVStreamOwner {
    let stream: UVStream
    /// Where this rank is connecting to; nil for a connection that came in.
    let target: (peer: Int, stream: Int)?
    let address: SocketAddress
    private(set) var handshake: Handshake
    private(set) var deadline: UInt64
    private unowned let controller: Controller
    private var buffer: UnsafeMutableRawBufferPointer
    private var got = 0

    init(stream: UVStream, target: (peer: Int, stream: Int)?, address: SocketAddress, handshake: Handshake,
         controller: Controller) {
        self.stream = stream
        self.target = target
        self.address = address
        self.handshake = handshake
        self.controller = controller
        deadline = Self.deadlineFromNow()
        unsafe buffer = .allocate(byteCount: Handshake.unprovenByteCount, alignment: 8)
        stream.owner = self
    }

    deinit { unsafe buffer.deallocate() }

    private static func deadlineFromNow() -> UInt64 {
        MonotonicClock.nanoseconds() + UInt64(Handshake.seconds * 1e9)
    }

    func didConnect(_ stream: UVStream, problem: String?) {
        if let problem { return controller.drop(self, because: problem) }
        stream.write(handshake.open())
        stream.startReading()
    }

    func destination(for stream: UVStream) -> UnsafeMutableRawBufferPointer {
        if unsafe handshake.wanted > buffer.count {
            precondition(handshake.isProven, "a stranger is given no memory")
            unsafe buffer.deallocate()
            unsafe buffer = .allocate(byteCount: Identity.maximumRecordByteCount + 64, alignment: 8)
        }
        return unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[got..<handshake.wanted])
    }

    func didRead(_ count: Int, from stream: UVStream) {
        got += count
        guard got == handshake.wanted else { return }
        let bytes = unsafe Array(buffer[..<got])
        got = 0
        let wasProven = handshake.isProven
        act(handshake.receive(bytes))
        if !wasProven, handshake.isProven { deadline = Self.deadlineFromNow() }
    }

    func didEnd(_ stream: UVStream, evidence: String) {
        controller.drop(self, because: evidence)
    }

    private func act(_ step: Handshake.Step) {
        if !step.send.isEmpty { stream.write(step.send) }
        switch step.outcome {
        case nil: break
        case .established(let result):
            stream.stopReading()
            controller.establish(self, result)
        case .proven(let rank, let number):
            act(handshake.answer(refusing: controller.roster.refusal(of: rank, stream: number)))
        case .stranger(let reason): controller.drop(self, because: reason)
        case .busy: controller.drop(self, because: "it has too many half-open connections")
        case .failed(let error): controller.failed(self, error)
        }
    }
}
