import Base
import Wire
#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// A plain blocking TCP socket, for peers that do what no mesh does.
final class RawSocket {
    let descriptor: Int32

    init?(port: Int) {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        let address = SocketAddress(host: [127, 0, 0, 1], port: UInt16(port))
        // Nothing in these tests may wait for ever.
        var limit = timeval(tv_sec: 10, tv_usec: 0)
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        let own = descriptor
        let length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let status = unsafe address.withRaw { unsafe connect(own, $0, length) }
        if status != 0 { return nil }
    }

    deinit { close() }

    private var isClosed = false

    func close() {
        guard !isClosed else { return }
        isClosed = true
        Glibc.close(descriptor)
    }

    /// Writes what the other side takes; false when it has closed.
    @discardableResult
    func write(_ bytes: [UInt8]) -> Bool {
        var offset = 0
        while offset < bytes.count {
            let count = unsafe bytes.withUnsafeBytes {
                unsafe Glibc.send(descriptor, $0.baseAddress?.advanced(by: offset), bytes.count - offset,
                                  Int32(MSG_NOSIGNAL))
            }
            if count <= 0 { return false }
            offset += count
        }
        return true
    }

    /// Reads exactly `count` bytes, or what came before the end.
    func read(_ count: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var got = 0
        while got < count {
            let more = unsafe bytes.withUnsafeMutableBytes {
                unsafe Glibc.read(descriptor, $0.baseAddress?.advanced(by: got), count - got)
            }
            if more <= 0 { break }
            got += more
        }
        return Array(bytes[..<got])
    }
}

/// One stream of a rank that speaks the protocol as far as the test wants.
final class RawStream {
    let socket: RawSocket
    private var writer = FrameWriter(epoch: 0, protection: .checked)

    init(rank: Int, worldSize: Int, port: Int, stream: Int) throws {
        var handshake = Handshake(connectingTo: 0, stream: stream,
                                  identity: rawIdentity(rank: rank, worldSize: worldSize), secret: testSecret,
                                  address: "x")
        // The mesh may not listen yet.
        var connected: RawSocket?
        for _ in 0..<500 where connected == nil {
            connected = RawSocket(port: port)
            if connected == nil { usleep(10_000) }
        }
        guard let connected else { throw Disappointment(description: "nobody listens") }
        socket = connected
        socket.write(handshake.open())
        while true {
            let wanted = handshake.wanted
            let bytes = socket.read(wanted)
            guard bytes.count == wanted else { throw Disappointment(description: "the handshake broke off") }
            let step = handshake.receive(bytes)
            socket.write(step.send)
            if case .established = step.outcome { return }
            if let outcome = step.outcome { throw Disappointment(description: "\(outcome)") }
        }
    }

    /// Shakes hands as rank 1 of 2 and leaves one of its three messages, the last, unsaid.
    static func breakOff(_ socket: RawSocket, before message: Int) throws {
        var handshake = Handshake(connectingTo: 0, stream: 0, identity: rawIdentity(rank: 1, worldSize: 2),
                                  secret: testSecret, address: "x")
        var next = handshake.open(), said = 0
        while said + 1 < message {
            socket.write(next)
            said += 1
            next = []
            while next.isEmpty {
                let bytes = socket.read(handshake.wanted)
                guard bytes.count == handshake.wanted else { throw Disappointment(description: "nobody answers") }
                next = handshake.receive(bytes).send
            }
        }
    }

    func send(_ type: FrameType, _ payload: [UInt8] = []) {
        socket.write(writer.bytes(type, payload: payload))
    }

    func sendData(_ payload: [UInt8], tag: MessageTag, damagedBit: Int? = nil) {
        var bytes = writer.bytes(.data, tag: tag, payload: payload)
        if let damagedBit { bytes[damagedBit / 8] ^= 1 << UInt8(damagedBit % 8) }
        socket.write(bytes)
    }

    /// Reads frames until one of `type` comes; nil at the end of the stream.
    func next(_ type: FrameType) -> [UInt8]? {
        while true {
            let head = socket.read(FrameHeader.byteCount)
            guard head.count == FrameHeader.byteCount,
                  let header = try? unsafe head.withUnsafeBytes({ unsafe try FrameHeader.read(from: $0) })
            else { return nil }
            let payload = socket.read(header.length)
            if header.type == type { return payload }
        }
    }
}

private func rawIdentity(rank: Int, worldSize: Int) -> Identity {
    Identity(rank: rank, worldSize: worldSize, jobID: "test", epoch: 0, protection: .checked,
             claims: [("data streams", "1"), ("transport", "auto")])
}

/// Rank 1 of a job of two, without a mesh: no heartbeats unless the test sends them.
final class RawPeer {
    let control: RawStream
    let data: RawStream

    init(port: Int) throws {
        control = try RawStream(rank: 1, worldSize: 2, port: port, stream: 0)
        let place = Place(address: SocketAddress(host: [127, 0, 0, 1], port: 1), hostName: "raw host")
        control.send(.hello, ControlPayload.hello(place))
        data = try RawStream(rank: 1, worldSize: 2, port: port, stream: 1)
    }
}
