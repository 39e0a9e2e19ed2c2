import Base
import Glibc
import Synchronization

/// A way between two processes that can be made to fail: passes bytes on, or swallows them without a word, or flips a
/// bit of the next ones.
final class FaultProxy: Sendable {
    let port: Int
    private let target: Int
    private let listener: Int32
    private let isSilent = Atomic<Bool>(false)
    /// Flips to be made in what goes to the target, and in what comes from it.
    private let flipsThere = Atomic<Bool>(false)
    private let flipsBack = Atomic<Bool>(false)
    private let isOver = Atomic<Bool>(false)

    /// Nil where the system gives no socket.
    init?(to target: Int) {
        self.target = target
        guard let (listener, port) = LoopbackSocket.listen() else { return nil }
        self.listener = listener
        self.port = port
        pthread_detach(startThread { self.accept() })
    }

    func fallSilent() { isSilent.store(true, ordering: .sequentiallyConsistent) }

    func flip(towardsTarget: Bool) {
        if towardsTarget {
            flipsThere.store(true, ordering: .sequentiallyConsistent)
        } else {
            flipsBack.store(true, ordering: .sequentiallyConsistent)
        }
    }

    func end() { isOver.store(true, ordering: .sequentiallyConsistent) }

    private func accept() {
        while !isOver.load(ordering: .sequentiallyConsistent) {
            guard LoopbackSocket.isReadable(listener, milliseconds: 50) else { continue }
            let near = Glibc.accept(listener, nil, nil)
            guard near >= 0 else { continue }
            // Nobody listens there yet: whoever connects hears it as from the target itself.
            guard let far = LoopbackSocket.connect(target) else {
                close(near)
                continue
            }
            let pair = SocketPair(near, far)
            pthread_detach(startThread { self.pass(from: near, to: far, isThere: true, pair) })
            pthread_detach(startThread { self.pass(from: far, to: near, isThere: false, pair) })
        }
        close(listener)
    }

    private func pass(from: Int32, to: Int32, isThere: Bool, _ pair: SocketPair) {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while !isOver.load(ordering: .sequentiallyConsistent) {
            guard LoopbackSocket.isReadable(from, milliseconds: 50) else { continue }
            let count = unsafe recv(from, &buffer, buffer.count, 0)
            guard count > 0 else { break }
            if isSilent.load(ordering: .sequentiallyConsistent) { continue }
            let flips = isThere ? flipsThere.exchange(false, ordering: .sequentiallyConsistent)
                : flipsBack.exchange(false, ordering: .sequentiallyConsistent)
            if flips { buffer[count / 2] ^= 4 }
            guard LoopbackSocket.send(buffer[..<count], on: to) else { break }
        }
        shutdown(to, Int32(SHUT_WR))
        withExtendedLifetime(pair) {}
    }
}

/// Closes both ends of a passage when neither direction uses them any more.
private final class SocketPair: Sendable {
    private let ends: (Int32, Int32)
    init(_ near: Int32, _ far: Int32) { ends = (near, far) }
    deinit {
        close(ends.0)
        close(ends.1)
    }
}

/// Plain blocking sockets on the loopback interface.
enum LoopbackSocket {
    private static func withAddress<Result>(
        _ port: Int, _ body: (UnsafeMutablePointer<sockaddr>, socklen_t) -> Result
    ) -> Result {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        return unsafe withUnsafeMutablePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }

    private static func open() -> Int32 {
        socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    }

    static func connect(_ port: Int) -> Int32? {
        let descriptor = open()
        guard descriptor >= 0 else { return nil }
        if unsafe withAddress(port, { unsafe Glibc.connect(descriptor, $0, $1) }) == 0 { return descriptor }
        close(descriptor)
        return nil
    }

    /// Listens at `port`; 0 takes any free one.
    static func listen(at port: Int = 0) -> (descriptor: Int32, port: Int)? {
        let descriptor = open()
        guard descriptor >= 0 else { return nil }
        var yes: Int32 = 1
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        let isBound = unsafe withAddress(port) { unsafe bind(descriptor, $0, $1) } == 0
        guard isBound, Glibc.listen(descriptor, 128) == 0 else {
            close(descriptor)
            return nil
        }
        var found = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        unsafe withUnsafeMutablePointer(to: &found) { pointer in
            _ = unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe getsockname(descriptor, $0, &length)
            }
        }
        return (descriptor, Int(UInt16(bigEndian: found.sin_port)))
    }

    static func isReadable(_ descriptor: Int32, milliseconds: Int32) -> Bool {
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        return unsafe poll(&entry, 1, milliseconds) > 0
    }

    static func send(_ bytes: ArraySlice<UInt8>, on descriptor: Int32) -> Bool {
        var rest = bytes
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes {
                unsafe Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { return false }
            rest = rest.dropFirst(count)
        }
        return true
    }
}
