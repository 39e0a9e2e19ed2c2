import CUV
#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// What a stream's owner is told. All calls come from the thread that runs the loop.
protocol UVStreamOwner: AnyObject {
    func didConnect(_ stream: UVStream, problem: String?)
    /// Where the next bytes are to be read to. Not empty.
    func destination(for stream: UVStream) -> UnsafeMutableRawBufferPointer
    func didRead(_ count: Int, from stream: UVStream)
    /// The stream has ended, by the peer's will or by an error, told in words. Called at most once.
    func didEnd(_ stream: UVStream, evidence: String)
    /// A write that `write` could not finish at once is finished.
    func didWrite(_ request: UVWrite, on stream: UVStream)
}

extension UVStreamOwner {
    func didConnect(_ stream: UVStream, problem: String?) {}
    func didWrite(_ request: UVWrite, on stream: UVStream) {}
}

/// One write on its way: a head of at most 64 bytes, then a body that the caller keeps alive (or, when
/// sealed, that this object owns). Streams keep finished requests for the next use.
@safe final class UVWrite {
    static let headByteCount = 64
    fileprivate let raw: UnsafeMutablePointer<uv_write_t>
    let head: UnsafeMutableRawBufferPointer
    fileprivate(set) var headCount = 0
    fileprivate var body = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
    /// Holds the body when nobody else does; grows to the longest it ever held.
    private var owned = unsafe UnsafeMutableRawBufferPointer(start: nil, count: 0)
    fileprivate var ownedByteCount: Int { unsafe owned.count }
    var token: UInt32 = 0
    /// No message of anybody's: nobody hears that it is written.
    var isDoorbell = false

    fileprivate init() {
        unsafe raw = .allocate(capacity: 1)
        unsafe head = .allocate(byteCount: Self.headByteCount, alignment: 8)
    }

    fileprivate func keep(_ bytes: some Collection<UInt8>) {
        if unsafe owned.count < bytes.count {
            unsafe owned.deallocate()
            unsafe owned = .allocate(byteCount: bytes.count, alignment: 16)
        }
        unsafe owned.copyBytes(from: bytes)
        unsafe body = unsafe UnsafeRawBufferPointer(rebasing: owned[..<bytes.count])
    }

    deinit {
        unsafe raw.deallocate()
        unsafe head.deallocate()
        unsafe owned.deallocate()
    }
}

/// A TCP stream on a loop. Closing is final and drops what is unwritten; no owner is called after it.
@safe final class UVStream {
    private let raw: UnsafeMutablePointer<uv_tcp_t>
    private var spare: [UVWrite] = []
    private var connecting: UnsafeMutablePointer<uv_connect_t>?
    weak var owner: (any UVStreamOwner)?
    private(set) var isClosed = false
    private var isReading = false
    private var hasEnded = false
    /// Memory of all requests of this stream for what they keep themselves.
    private(set) var ownedByteCount = 0
    /// Writes that the kernel has not taken yet.
    private(set) var pendingWrites = 0

    init(loop: UVLoop) {
        unsafe raw = .allocate(capacity: 1)
        let status = unsafe uv_tcp_init(loop.raw, raw)
        precondition(status == 0, "libuv gave no socket: \(uvText(status))")
        // libuv holds the stream until the close callback, whatever its owner does.
        let own = unsafe Unmanaged.passRetained(self).toOpaque()
        unsafe raw.pointee.data = unsafe own
    }

    deinit {
        unsafe raw.deallocate()
        unsafe connecting?.deallocate()
    }

    private var stream: UnsafeMutablePointer<uv_stream_t> {
        unsafe UnsafeMutableRawPointer(raw).assumingMemoryBound(to: uv_stream_t.self)
    }

    private static func of(_ data: UnsafeMutableRawPointer?) -> UVStream {
        guard let data = unsafe data else { preconditionFailure("a libuv handle without its stream") }
        return unsafe Unmanaged<UVStream>.fromOpaque(data).takeUnretainedValue()
    }

    // MARK: opening and closing

    func accept(from server: UnsafeMutablePointer<uv_tcp_t>) -> Bool {
        let listener = unsafe UnsafeMutableRawPointer(server).assumingMemoryBound(to: uv_stream_t.self)
        guard unsafe uv_accept(listener, stream) == 0 else { return false }
        unsafe uv_tcp_nodelay(raw, 1)
        return true
    }

    /// Takes over a connected socket.
    func adopt(_ descriptor: Int32) -> Bool {
        guard unsafe uv_tcp_open(raw, descriptor) == 0 else { return false }
        unsafe uv_tcp_nodelay(raw, 1)
        return true
    }

    /// Starts to connect; the owner hears of the result.
    func connect(to address: SocketAddress) {
        let request = UnsafeMutablePointer<uv_connect_t>.allocate(capacity: 1)
        unsafe connecting = unsafe request
        let handle = unsafe raw
        let status = unsafe address.withRaw { target in
            unsafe uv_tcp_connect(request, handle, target, { request, status in
                guard let handle = unsafe request?.pointee.handle else { return }
                let stream = unsafe UVStream.of(handle.pointee.data)
                if !stream.isClosed { stream.connected(status) }
            })
        }
        if status != 0 { connected(status) }
    }

    private func connected(_ status: Int32) {
        if status == 0 { unsafe uv_tcp_nodelay(raw, 1) }
        owner?.didConnect(self, problem: status == 0 ? nil : uvText(status))
    }

    var localAddress: SocketAddress? { unsafe SocketAddress.local(of: raw) }
    var remoteAddress: SocketAddress? { unsafe SocketAddress.remote(of: raw) }

    /// A duplicate of the socket, for another loop; this stream is then closed. Nothing may be unwritten.
    func detach() -> Int32? {
        precondition(pendingWrites == 0, "a stream with unwritten bytes stays on its loop")
        var descriptor: uv_os_fd_t = -1
        let handle = unsafe UnsafeMutableRawPointer(raw).assumingMemoryBound(to: uv_handle_t.self)
        guard unsafe uv_fileno(handle, &descriptor) == 0 else { return nil }
        let copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 0)
        close()
        return copy >= 0 ? copy : nil
    }

    func close() {
        guard !isClosed else { return }
        isClosed = true
        owner = nil
        let handle = unsafe UnsafeMutableRawPointer(raw).assumingMemoryBound(to: uv_handle_t.self)
        unsafe uv_close(handle, { handle in
            guard let data = unsafe handle?.pointee.data else { return }
            unsafe Unmanaged<UVStream>.fromOpaque(data).release()
        })
    }

    // MARK: reading

    func startReading() {
        guard !isClosed, !isReading, !hasEnded else { return }
        isReading = true
        unsafe uv_read_start(stream, { handle, _, buffer in
            let stream = unsafe UVStream.of(handle?.pointee.data)
            guard let owner = stream.owner else { return }
            let place = unsafe owner.destination(for: stream)
            unsafe buffer?.pointee.base = unsafe place.baseAddress?.assumingMemoryBound(to: CChar.self)
            unsafe buffer?.pointee.len = place.count
        }, { handle, count, _ in
            let stream = unsafe UVStream.of(handle?.pointee.data)
            if !stream.isClosed { stream.didRead(count) }
        })
    }

    func stopReading() {
        guard !isClosed, isReading else { return }
        isReading = false
        unsafe uv_read_stop(stream)
    }

    private func didRead(_ count: Int) {
        if count > 0 {
            owner?.didRead(count, from: self)
        } else if count < 0 {
            end(uvText(Int32(count)))
        }
    }

    private func end(_ evidence: String) {
        guard !hasEnded else { return }
        stopReading()
        hasEnded = true
        owner?.didEnd(self, evidence: evidence)
    }

    // MARK: writing

    /// A request whose head the caller may fill.
    func request() -> UVWrite { spare.popLast() ?? UVWrite() }

    /// Writes `headCount` bytes of the request's head, then `body`. True when the kernel took all at once
    /// and the request is done; otherwise `body` must stay, and `didWrite` tells when it is written.
    func write(_ request: UVWrite, headCount: Int, body: UnsafeRawBufferPointer) -> Bool {
        request.headCount = headCount
        unsafe request.body = unsafe body
        return send(request)
    }

    /// The same with a body that the request keeps itself.
    func write(_ request: UVWrite, headCount: Int, owning body: some Collection<UInt8>) -> Bool {
        request.headCount = headCount
        let before = request.ownedByteCount
        request.keep(body)
        ownedByteCount += request.ownedByteCount - before
        return send(request)
    }

    /// Hands small bytes to the kernel or to libuv's queue, and forgets them.
    func write(_ bytes: [UInt8]) {
        _ = write(request(), headCount: 0, owning: bytes)
    }

    /// Whether the peer's kernel has everything that was written. Until then, closing a socket that holds
    /// unread bytes makes the kernel throw the unsent ones away; afterwards the peer can read them whatever
    /// happens here. Nothing more can be delivered to a stream that has ended.
    var isDelivered: Bool {
        if hasEnded || isClosed { return true }
        var descriptor: uv_os_fd_t = -1
        var waiting: Int32 = 0
        let handle = unsafe UnsafeMutableRawPointer(raw).assumingMemoryBound(to: uv_handle_t.self)
        guard pendingWrites == 0, unsafe uv_fileno(handle, &descriptor) == 0,
              unsafe ioctl(descriptor, UInt(TIOCOUTQ), &waiting) == 0 else { return false }
        return waiting == 0
    }

    private func send(_ request: UVWrite) -> Bool {
        guard !isClosed else { return true }
        let total = unsafe request.headCount + request.body.count
        var sent = 0
        if pendingWrites == 0 {
            let status = unsafe withBuffers(of: request, from: 0) { unsafe uv_try_write(stream, $0, $1) }
            if status > 0 { sent = Int(status) }
        }
        if sent == total {
            recycle(request)
            return true
        }
        pendingWrites += 1
        unsafe request.raw.pointee.data = unsafe Unmanaged.passRetained(request).toOpaque()
        let status = unsafe withBuffers(of: request, from: sent) { buffers, count in
            unsafe uv_write(request.raw, stream, buffers, count, { raw, status in
                guard let data = unsafe raw?.pointee.data,
                      let handle = unsafe raw?.pointee.handle else { return }
                let request = unsafe Unmanaged<UVWrite>.fromOpaque(data).takeRetainedValue()
                unsafe UVStream.of(handle.pointee.data).wrote(request, status)
            })
        }
        if status != 0 {
            // libuv takes no writes after a read has failed, and the owner has been told of that.
            pendingWrites -= 1
            unsafe Unmanaged.passUnretained(request).release()
        }
        return false
    }

    private func wrote(_ request: UVWrite, _ status: Int32) {
        pendingWrites -= 1
        guard !isClosed else { return }
        // A failed write says only that the peer is gone. Why, it may have told before: that lies unread in
        // the socket, so the end is left to the reading side, which comes to it after the last byte.
        guard status == 0 else { return }
        owner?.didWrite(request, on: self)
        recycle(request)
    }

    private func recycle(_ request: UVWrite) {
        unsafe request.body = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
        spare.append(request)
    }

    /// The request's bytes from `offset` on, as libuv's list of one or two buffers.
    private func withBuffers(
        of request: UVWrite, from offset: Int,
        _ body: (UnsafeMutablePointer<uv_buf_t>, UInt32) -> Int32
    ) -> Int32 {
        let head = unsafe UnsafeRawBufferPointer(
            rebasing: request.head[min(offset, request.headCount)..<request.headCount])
        let rest = unsafe UnsafeRawBufferPointer(
            rebasing: request.body[min(max(offset - request.headCount, 0), request.body.count)...])
        var buffers = unsafe (Self.buffer(head), Self.buffer(rest))
        return unsafe withUnsafeMutablePointer(to: &buffers) { pair in
            let list = unsafe UnsafeMutableRawPointer(pair).assumingMemoryBound(to: uv_buf_t.self)
            if unsafe head.isEmpty { return unsafe body(list + 1, 1) }
            return unsafe body(list, rest.isEmpty ? 1 : 2)
        }
    }

    private static func buffer(_ bytes: UnsafeRawBufferPointer) -> uv_buf_t {
        let base = unsafe UnsafeMutableRawPointer(mutating: bytes.baseAddress)
        return unsafe uv_buf_t(base: base?.assumingMemoryBound(to: CChar.self), len: bytes.count)
    }
}
