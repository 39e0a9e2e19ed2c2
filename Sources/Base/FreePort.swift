#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif
import Synchronization

/// A port of the loopback interface that nobody listens on, never the same twice in one process.
///
/// It is one below those that the kernel gives to outgoing connections (32768 and more, unless configured otherwise).
/// From among those, another program may take it before a listener does; and who knocks before that may even be given
/// the port itself and connect to itself.
public func freePort() -> Int {
    let range = 20_000..<32_768
    for _ in range {
        let port = range.lowerBound + nextPort.wrappingAdd(1, ordering: .relaxed).newValue % range.count
        if isFree(port) { return port }
    }
    return Int.random(in: range)
}

/// Begins anywhere, so that processes that ask at the same time get different ports.
private let nextPort = Atomic<Int>(Int.random(in: 0..<1 << 20))

private func isFree(_ port: Int) -> Bool {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { return false }
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(port).bigEndian
    address.sin_addr.s_addr = INADDR_LOOPBACK.bigEndian
    return unsafe withUnsafePointer(to: address) { pointer in
        unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            unsafe bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
        }
    }
}
