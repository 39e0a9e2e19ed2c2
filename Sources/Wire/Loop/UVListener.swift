import Base
import CUV

/// Accepts TCP connections and hands each to `onAccept` as a stream that does not read yet.
@safe final class UVListener {
    /// How many connections are taken in one pass of the loop, so that a flood of them leaves time for everything
    /// else. The others wait in the kernel.
    static let acceptsPerPass = 16

    private let raw: UnsafeMutablePointer<uv_tcp_t>
    private let loop: UVLoop
    let address: SocketAddress
    var onAccept: ((UVStream) -> Void)?
    private var isClosed = false
    private var left = acceptsPerPass
    /// A connection was not taken: libuv looks for no others until it is.
    private var isHeld = false

    /// Port 0 takes any free port. The error's text is libuv's.
    init(loop: UVLoop, address wanted: SocketAddress) throws(UVFailure) {
        self.loop = loop
        unsafe raw = .allocate(capacity: 1)
        let handle = unsafe raw
        var status = unsafe uv_tcp_init(loop.raw, handle)
        precondition(status == 0, "libuv gave no socket: \(uvText(status))")
        status = unsafe wanted.withRaw { unsafe uv_tcp_bind(handle, $0, 0) }
        if status == 0 {
            status = unsafe uv_listen(
                UnsafeMutableRawPointer(handle).assumingMemoryBound(to: uv_stream_t.self), 512,
                { server, status in
                    guard status == 0, let server = unsafe server,
                          let data = unsafe server.pointee.data else { return }
                    unsafe Unmanaged<UVListener>.fromOpaque(data).takeUnretainedValue().accept()
                })
        }
        guard status == 0, let found = unsafe SocketAddress.local(of: handle) else {
            let base = unsafe UnsafeMutableRawPointer(handle).assumingMemoryBound(to: uv_handle_t.self)
            unsafe uv_close(base, { unsafe $0?.deallocateAsTCP() })
            throw UVFailure(status: status)
        }
        address = found
        let own = unsafe Unmanaged.passUnretained(self).toOpaque()
        unsafe raw.pointee.data = unsafe own
    }

    /// Listens where the options say: all interfaces only when others need them, so that a job on the loopback
    /// interface stays there.
    static func open(_ options: MeshOptions, on loop: UVLoop) throws(WireError) -> UVListener {
        let wanted = try address(options)
        let ports = options.rank == 0 ? options.masterPort...options.masterPort : options.portRange ?? 0...0
        var problem = ""
        for port in ports {
            do throws(UVFailure) {
                return try UVListener(loop: loop, address: wanted.with(port: UInt16(port)))
            } catch {
                problem = error.text
                // Without IPv6 in the kernel the address of all interfaces is IPv4's.
                guard error.isAddressMissing, wanted == .anyIPv6 else { continue }
                let all = SocketAddress.anyIPv4.with(port: UInt16(port))
                if let listener = try? UVListener(loop: loop, address: all) { return listener }
            }
        }
        let shown = ports.count == 1 ? wanted.with(port: UInt16(ports.lowerBound)).description
            : "\(wanted.with(port: 0)), ports \(ports.lowerBound) to \(ports.upperBound)"
        throw .cannotListen(address: shown, problem: problem)
    }

    private static func address(_ options: MeshOptions) throws(WireError) -> SocketAddress {
        if let interface = options.interface { return try SocketAddress.ofInterface(interface) }
        if let bind = options.bind { return try SocketAddress.resolve(bind, port: 0)[0] }
        let master = options.masterHost
        return isLoopback(host: master) ? try SocketAddress.resolve(master, port: 0)[0] : .anyIPv6
    }

    private func accept() {
        guard left > 0 else {
            isHeld = true
            return
        }
        left -= 1
        let stream = UVStream(loop: loop)
        guard unsafe stream.accept(from: raw) else { return stream.close() }
        if let onAccept { onAccept(stream) } else { stream.close() }
    }

    /// The pass is over: more connections may be taken.
    func goOn() {
        left = Self.acceptsPerPass
        guard isHeld, !isClosed else { return }
        isHeld = false
        accept()
    }

    /// Stops listening; what waits is turned away by the kernel. The memory lives until the loop has run once more.
    func close() {
        guard !isClosed else { return }
        isClosed = true
        onAccept = nil
        unsafe raw.pointee.data = nil
        let base = unsafe UnsafeMutableRawPointer(raw).assumingMemoryBound(to: uv_handle_t.self)
        unsafe uv_close(base, { unsafe $0?.deallocateAsTCP() })
    }
}
