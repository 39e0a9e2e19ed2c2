import Base

// Payloads of the control stream. Texts are UTF-8 after their length (2 bytes), cut at the limits below.
//
//   hello    a place: address length (1 byte: 4 or 16), address, port (2), host name; says where the
//            sender listens
//   roster   number of ranks (4), then for each rank 0 if it has not come yet, or 1 and its place
//   abort    0 for a fault while running or 1 for bad input (1), culprit (4), reporter (4), then host,
//            operation and evidence

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
