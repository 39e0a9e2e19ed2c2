import Base

// Payloads of the control stream. Texts are UTF-8 after their length (2 bytes), cut at the limits below.
//
//   hello    a place: address length (1 byte: 4 or 16), address, port (2), host name; says where the
//            sender listens
//   roster   number of ranks (4), then for each rank 0 if it has not come yet, or 1 and its place; rank 0's answer to
//            a hello
//   arrival  a rank (4) and its place: what rank 0 tells those that had come before
//   abort    0 for a fault while running or 1 for bad input (1), culprit (4), reporter (4), then host,
//            operation and evidence
//   answer   0 and the rank that the sender waits for, or 1 and for how many nanoseconds it has computed
//            (1 and 8)
//   memory   nothing, or memory to share: process (4), descriptor (4), size (8), cookie (32)
//   memory's answer  0 no, 1 yes (1)
//   lost     ranks that the sender holds for lost after a fault; succession: where the survivors meet, and who they are
//            (Session+Agreement.swift)

/// Where a rank listens, and the name of its machine.
package struct Place: Equatable, Sendable {
    package var address: SocketAddress
    package var hostName: String

    package init(address: SocketAddress, hostName: String) {
        self.address = address
        self.hostName = hostName
    }
}

package enum ControlPayload {
    /// Nothing longer is read from a control stream. A roster of 1,024 ranks fits.
    package static let maximumByteCount = 1 << 17
    package static let maximumWorldSize = 1024
    static let hostNameByteCount = 64
    static let sentenceByteCount = 512

    package static func hello(_ place: Place) -> [UInt8] {
        var writer = ByteWriter()
        append(place, to: &writer)
        return writer.bytes
    }

    package static func readHello(_ bytes: [UInt8]) -> Place? {
        var reader = ByteReader(bytes)
        guard let place = place(&reader), reader.remaining == 0 else { return nil }
        return place
    }

    package static func roster(_ places: [Place?]) -> [UInt8] {
        var writer = ByteWriter()
        writer.append(UInt32(places.count))
        for place in places {
            writer.append(UInt8(place == nil ? 0 : 1))
            if let place { append(place, to: &writer) }
        }
        return writer.bytes
    }

    package static func readRoster(_ bytes: [UInt8], worldSize: Int) -> [Place?]? {
        var reader = ByteReader(bytes)
        guard let count = reader.read(UInt32.self), count == worldSize else { return nil }
        var places: [Place?] = []
        for _ in 0..<count {
            switch reader.read(UInt8.self) {
            case 0: places.append(nil)
            case 1:
                guard let place = place(&reader) else { return nil }
                places.append(place)
            default: return nil
            }
        }
        return reader.remaining == 0 ? places : nil
    }

    package static func arrival(of rank: Int, at place: Place) -> [UInt8] {
        var writer = ByteWriter()
        writer.append(UInt32(rank))
        append(place, to: &writer)
        return writer.bytes
    }

    package static func readArrival(_ bytes: [UInt8], worldSize: Int) -> (rank: Int, place: Place)? {
        var reader = ByteReader(bytes)
        guard let rank = reader.read(UInt32.self), rank < worldSize, let place = place(&reader),
              reader.remaining == 0 else { return nil }
        return (Int(rank), place)
    }

    package static func abort(_ fault: LinkFault, kind: FaultKind) -> [UInt8] {
        var writer = ByteWriter()
        writer.append(UInt8(kind == .badInput ? 1 : 0))
        writer.append(UInt32(truncatingIfNeeded: fault.culprit))
        writer.append(UInt32(truncatingIfNeeded: fault.reporter))
        append(fault.host, limit: hostNameByteCount, to: &writer)
        append(fault.operation, limit: sentenceByteCount, to: &writer)
        append(fault.evidence, limit: sentenceByteCount, to: &writer)
        return writer.bytes
    }

    package static func readAbort(_ bytes: [UInt8]) -> (LinkFault, FaultKind)? {
        var reader = ByteReader(bytes)
        guard let kind = reader.read(UInt8.self), kind < 2, let culprit = reader.read(UInt32.self),
              let reporter = reader.read(UInt32.self), let host = text(&reader),
              let operation = text(&reader), let evidence = text(&reader),
              reader.remaining == 0 else { return nil }
        let fault = LinkFault(culprit: Int(culprit), host: host, operation: operation, evidence: evidence,
                              reporter: Int(reporter))
        return (fault, kind == 1 ? .badInput : .running)
    }

    package static func memory(_ name: SharedSegment.Name?) -> [UInt8] {
        guard let name else { return [] }
        var writer = ByteWriter()
        writer.append(name.process)
        writer.append(name.descriptor)
        writer.append(name.byteCount)
        writer.append(bytes: name.cookie)
        return writer.bytes
    }

    /// Nil for what makes no sense; an offer of nothing is `.some(nil)`.
    package static func readMemory(_ bytes: [UInt8]) -> SharedSegment.Name?? {
        if bytes.isEmpty { return .some(nil) }
        var reader = ByteReader(bytes)
        guard let process = reader.read(UInt32.self), let descriptor = reader.read(UInt32.self),
              let byteCount = reader.read(UInt64.self),
              let cookie = reader.read(count: SharedSegment.cookieByteCount), reader.remaining == 0 else { return nil }
        return SharedSegment.Name(process: process, descriptor: descriptor, byteCount: byteCount, cookie: Array(cookie))
    }

    package static func answer(_ answer: LinkAnswer) -> [UInt8] {
        var writer = ByteWriter()
        switch answer {
        case .waits(let rank):
            writer.append(UInt8(0))
            writer.append(UInt64(truncatingIfNeeded: rank))
        case .computes(let nanoseconds):
            writer.append(UInt8(1))
            writer.append(nanoseconds)
        }
        return writer.bytes
    }

    package static func readAnswer(_ bytes: [UInt8], worldSize: Int) -> LinkAnswer? {
        var reader = ByteReader(bytes)
        guard let kind = reader.read(UInt8.self), let value = reader.read(UInt64.self),
              reader.remaining == 0 else { return nil }
        switch kind {
        case 0: return value < worldSize ? .waits(for: Int(value)) : nil
        case 1: return .computes(value)
        default: return nil
        }
    }

    private static func append(_ place: Place, to writer: inout ByteWriter) {
        writer.append(UInt8(place.address.host.count))
        writer.append(bytes: place.address.host)
        writer.append(place.address.port)
        append(place.hostName, limit: hostNameByteCount, to: &writer)
    }

    private static func place(_ reader: inout ByteReader) -> Place? {
        guard let width = reader.read(UInt8.self), width == 4 || width == 16,
              let host = reader.read(count: Int(width)), let port = reader.read(UInt16.self),
              let name = text(&reader) else { return nil }
        return Place(address: SocketAddress(host: Array(host), port: port), hostName: name)
    }

    private static func append(_ text: String, limit: Int, to writer: inout ByteWriter) {
        let bytes = text.utf8.prefix(limit)
        writer.append(UInt16(bytes.count))
        writer.append(bytes: bytes)
    }

    private static func text(_ reader: inout ByteReader) -> String? {
        guard let length = reader.read(UInt16.self),
              let bytes = reader.read(count: Int(length)) else { return nil }
        return String(decoding: bytes, as: UTF8.self)
    }
}
