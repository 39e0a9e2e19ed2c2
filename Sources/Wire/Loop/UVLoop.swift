import CUV

// This folder owns the C interface of libuv: nothing else of the room imports it. libuv's
// rule is that a loop and everything on it belong to one thread at a time; `uv_async_send` is the one
// call that any thread may make.

/// One libuv loop with one timer and one wake-up call. Not thread-safe, except for its `waker`.
@safe final class UVLoop {
    let raw: UnsafeMutablePointer<uv_loop_t>
    private let timer: UnsafeMutablePointer<uv_timer_t>
    let waker: UVWaker
    private var isClosed = false

    init() {
        unsafe raw = .allocate(capacity: 1)
        unsafe timer = .allocate(capacity: 1)
        unsafe UVLoop.demand(uv_loop_init(raw), "loop")
        unsafe UVLoop.demand(uv_timer_init(raw, timer), "timer")
        waker = unsafe UVWaker(loop: raw)
    }

    /// Out of descriptors or memory before anything has begun: there is nothing sensible to go on with.
    private static func demand(_ status: Int32, _ what: String) {
        precondition(status == 0, "libuv gave no \(what): \(uvText(status))")
    }

    /// One pass over what is ready, without waiting.
    func pass() { unsafe _ = uv_run(raw, UV_RUN_NOWAIT) }

    /// Waits until something is ready or `milliseconds` have passed, and handles it.
    func wait(milliseconds: UInt64) {
        unsafe uv_update_time(raw)
        unsafe uv_timer_start(timer, { _ in }, milliseconds, 0)
        unsafe _ = uv_run(raw, UV_RUN_ONCE)
        unsafe uv_timer_stop(timer)
    }

    /// From now on `runOnce` returns at least every `milliseconds`.
    func tick(every milliseconds: UInt64) {
        unsafe uv_timer_start(timer, { _ in }, milliseconds, milliseconds)
    }

    /// Handles one batch of events, waiting for it.
    func runOnce() { unsafe _ = uv_run(raw, UV_RUN_ONCE) }

    /// Ends the loop. Every stream and listener on it must have been closed; their last callbacks run here.
    func close() {
        guard !isClosed else { return }
        isClosed = true
        unsafe uv_close(UnsafeMutableRawPointer(timer).assumingMemoryBound(to: uv_handle_t.self), nil)
        waker.close()
        unsafe _ = uv_run(raw, UV_RUN_DEFAULT)
        unsafe UVLoop.demand(uv_loop_close(raw), "end of a loop with open handles")
        unsafe timer.deallocate()
        waker.free()
        unsafe raw.deallocate()
    }

    deinit { close() }
}

/// Makes a loop that waits in another thread return.
///
@safe struct UVWaker: @unchecked Sendable {
    // @unchecked Sendable: the pointer never changes; `uv_async_send` may be called from any thread (libuv's
    // documentation of uv_async_t), and is the only call made through here while two threads hold it. The
    // memory outlives every caller: `UVLoop.close` frees it, and the mesh closes the control loop only after
    // the control thread has ended and its own loop only after that, so that no second thread is left.
    private let async: UnsafeMutablePointer<uv_async_t>

    @unsafe fileprivate init(loop: UnsafeMutablePointer<uv_loop_t>) {
        unsafe async = .allocate(capacity: 1)
        let status = unsafe uv_async_init(loop, async, { _ in })
        precondition(status == 0, "libuv gave no wake-up call: \(uvText(status))")
    }

    func wake() { unsafe uv_async_send(async) }

    fileprivate func close() {
        unsafe uv_close(UnsafeMutableRawPointer(async).assumingMemoryBound(to: uv_handle_t.self), nil)
    }

    fileprivate func free() { unsafe async.deallocate() }
}

/// libuv's words for a status: "connection refused", "address already in use".
func uvText(_ status: Int32) -> String {
    status == Int32(UV_EOF.rawValue) ? "connection closed" : unsafe String(cString: uv_strerror(status))
}

struct UVFailure: Error {
    let status: Int32
    var isAddressMissing: Bool {
        status == Int32(UV_EADDRNOTAVAIL.rawValue) || status == Int32(UV_EAFNOSUPPORT.rawValue)
    }
    var text: String { uvText(status) }
}

extension UnsafeMutablePointer<uv_handle_t> {
    /// Every handle that is closed with this was allocated as a uv_tcp_t.
    func deallocateAsTCP() {
        unsafe UnsafeMutableRawPointer(self).assumingMemoryBound(to: uv_tcp_t.self).deallocate()
    }
}

extension SocketAddress {
    /// The near end of a socket.
    static func local(of handle: UnsafeMutablePointer<uv_tcp_t>) -> SocketAddress? {
        unsafe named { unsafe uv_tcp_getsockname(handle, $0, $1) }
    }

    /// The far end of a socket.
    static func remote(of handle: UnsafeMutablePointer<uv_tcp_t>) -> SocketAddress? {
        unsafe named { unsafe uv_tcp_getpeername(handle, $0, $1) }
    }

    private static func named(
        _ ask: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<Int32>) -> Int32
    ) -> SocketAddress? {
        var storage = sockaddr_storage()
        var length = Int32(MemoryLayout<sockaddr_storage>.size)
        return unsafe withUnsafeMutablePointer(to: &storage) { pointer in
            let raw = unsafe UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: sockaddr.self)
            guard unsafe ask(raw, &length) == 0 else { return nil }
            return unsafe SocketAddress(raw)
        }
    }
}

/// Sealing asks for a block of memory for each message: see `skein_keep_freed_memory`.
func keepFreedMemory() { skein_keep_freed_memory() }
