/// Whether a host, as somebody wrote it, is this machine's loopback interface: a name or an address that no other
/// machine can be meant by. Brackets around an IPv6 address, as URLs have them, mean nothing.
public func isLoopback(host: String) -> Bool {
    let host = withoutBrackets(host)
    return host == "localhost" || host == "::1" || host.hasPrefix("127.")
}

/// "[::1]" is the address ::1.
public func withoutBrackets(_ host: String) -> String {
    host.hasPrefix("[") && host.hasSuffix("]") ? String(host.dropFirst().dropLast()) : host
}
