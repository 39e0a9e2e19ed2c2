import Base
#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// An IPv4 or IPv6 address with its port. IPv4 addresses that arrive in IPv6 clothes (::ffff:1.2.3.4, as a
/// socket for both families reports them) are undressed, so that equal hosts compare equal.
package struct SocketAddress: Hashable, Sendable, CustomStringConvertible {
    /// 4 or 16 bytes, most significant first.
    package let host: [UInt8]
    package var port: UInt16
    /// The interface that a link-local IPv6 address belongs to; otherwise 0.
    package let scope: UInt32

    package init(host: [UInt8], port: UInt16, scope: UInt32 = 0) {
        precondition(host.count == 4 || host.count == 16, "an address has 4 or 16 bytes")
        let mapped: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]
        self.host = host.count == 16 && host.starts(with: mapped) ? Array(host.suffix(4)) : host
        self.port = port
        self.scope = scope
    }

    package static let anyIPv4 = SocketAddress(host: [0, 0, 0, 0], port: 0)
    package static let anyIPv6 = SocketAddress(host: [UInt8](repeating: 0, count: 16), port: 0)

    package var isLoopback: Bool {
        host.count == 4 ? host[0] == 127 : host == [UInt8](repeating: 0, count: 15) + [1]
    }

    /// IPv6 addresses that mean something on one link only: fe80::/10.
    package var isLinkLocal: Bool { host.count == 16 && host[0] == 0xFE && host[1] & 0xC0 == 0x80 }

    package var isWildcard: Bool { host.allSatisfy { $0 == 0 } }

    package func with(port: UInt16) -> SocketAddress { SocketAddress(host: host, port: port, scope: scope) }

    package var description: String { host.count == 4 ? "\(hostText):\(port)" : "[\(hostText)]:\(port)" }

    /// Without the port.
    package var hostText: String {
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        let family = host.count == 4 ? AF_INET : AF_INET6
        _ = unsafe inet_ntop(family, host, &text, socklen_t(text.count))
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// The addresses of `host` (a name or a number), in the order that the system prefers.
    package static func resolve(_ host: String, port: UInt16) throws(WireError) -> [SocketAddress] {
        let host = withoutBrackets(host)
        var hints = unsafe addrinfo()
        unsafe hints.ai_family = AF_UNSPEC
        unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let status = unsafe getaddrinfo(host, nil, &hints, &list)
        guard status == 0 else {
            // A bare container has no /etc/hosts; the name means this machine nevertheless (RFC 6761, section 6.3).
            if host.lowercased() == "localhost" { return [SocketAddress(host: [127, 0, 0, 1], port: port)] }
            let problem = unsafe String(cString: gai_strerror(status))
            throw .cannotResolve(host: host, problem: problem)
        }
        defer { unsafe freeaddrinfo(list) }
        var found: [SocketAddress] = []
        var next = unsafe list
        while let entry = unsafe next {
            if let raw = unsafe entry.pointee.ai_addr, let address = unsafe SocketAddress(raw) {
                found.append(address.with(port: port))
            }
            unsafe next = entry.pointee.ai_next
        }
        guard !found.isEmpty else { throw .cannotResolve(host: host, problem: "it has no address") }
        return found
    }

    /// The address of a network interface: IPv4 before IPv6, and one that is good beyond the link before one that is
    /// not.
    package static func ofInterface(_ name: String) throws(WireError) -> SocketAddress {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard unsafe getifaddrs(&list) == 0 else {
            throw .cannotResolve(host: name, problem: "this machine's interfaces cannot be listed")
        }
        defer { unsafe freeifaddrs(list) }
        var found: [SocketAddress] = [], others: Set<String> = []
        var next = unsafe list
        while let entry = unsafe next {
            let own = unsafe String(cString: entry.pointee.ifa_name)
            others.insert(own)
            if own == name, let raw = unsafe entry.pointee.ifa_addr, let address = unsafe SocketAddress(raw) {
                found.append(address)
            }
            unsafe next = entry.pointee.ifa_next
        }
        func rank(_ address: SocketAddress) -> Int { address.host.count == 4 ? 0 : address.isLinkLocal ? 2 : 1 }
        guard let best = found.min(by: { rank($0) < rank($1) }) else {
            let names = others.sorted().joined(separator: ", ")
            throw .cannotResolve(host: name, problem: "no interface of that name has an address; there are \(names)")
        }
        return best
    }

    /// What a socket call filled in; nil for families other than IPv4 and IPv6.
    package init?(_ raw: UnsafePointer<sockaddr>) {
        let start = unsafe UnsafeRawPointer(raw)
        switch unsafe Int32(raw.pointee.sa_family) {
        case AF_INET:
            let address = unsafe start.loadUnaligned(as: sockaddr_in.self)
            let host = unsafe withUnsafeBytes(of: address.sin_addr) { unsafe Array($0) }
            self.init(host: host, port: UInt16(bigEndian: address.sin_port))
        case AF_INET6:
            let address = unsafe start.loadUnaligned(as: sockaddr_in6.self)
            let host = unsafe withUnsafeBytes(of: address.sin6_addr) { unsafe Array($0) }
            self.init(host: host, port: UInt16(bigEndian: address.sin6_port), scope: address.sin6_scope_id)
        default:
            return nil
        }
    }

    /// Calls `body` with this address in the C library's form.
    package func withRaw<Result>(_ body: (UnsafePointer<sockaddr>) -> Result) -> Result {
        var storage = sockaddr_storage()
        return unsafe withUnsafeMutableBytes(of: &storage) { bytes in
            if host.count == 4 {
                var address = sockaddr_in()
                address.sin_family = sa_family_t(AF_INET)
                address.sin_port = port.bigEndian
                unsafe withUnsafeMutableBytes(of: &address.sin_addr) { unsafe $0.copyBytes(from: host) }
                unsafe bytes.storeBytes(of: address, as: sockaddr_in.self)
            } else {
                var address = sockaddr_in6()
                address.sin6_family = sa_family_t(AF_INET6)
                address.sin6_port = port.bigEndian
                address.sin6_scope_id = scope
                unsafe withUnsafeMutableBytes(of: &address.sin6_addr) { unsafe $0.copyBytes(from: host) }
                unsafe bytes.storeBytes(of: address, as: sockaddr_in6.self)
            }
            guard let start = bytes.baseAddress else { preconditionFailure("storage has bytes") }
            return unsafe body(UnsafePointer(start.assumingMemoryBound(to: sockaddr.self)))
        }
    }
}

/// This machine's name, for people.
package func hostName() -> String {
    var name = [CChar](repeating: 0, count: 256)
    guard unsafe gethostname(&name, name.count - 1) == 0 else { return "unknown host" }
    return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
