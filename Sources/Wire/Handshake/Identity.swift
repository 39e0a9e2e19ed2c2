import Base
import Crypto

/// What this process is, and what it says the job is. Two ranks may only exchange frames when everything
/// but the rank is equal.
package struct Identity: Sendable {
    /// More than this is not worth sending; a claim is a hash, a name, a kind of arithmetic.
    package static let maximumRecordByteCount = 8192

    package let rank: Int
    /// (name, value) pairs, the built-in ones first: "job", "world size", "epoch", "protection".
    package let claims: [(name: String, value: String)]

    package init(rank: Int, worldSize: Int, jobID: String, epoch: UInt32, protection: Protection,
                 claims: [(name: String, value: String)]) {
        self.rank = rank
        self.claims = [("job", jobID), ("world size", "\(worldSize)"), ("epoch", "\(epoch)"),
                       ("protection", "\(protection)")] + claims
    }

    /// The claims as bytes: a count, then name and value with their lengths, as UTF-8.
    package var record: [UInt8] {
        var writer = ByteWriter()
        writer.append(UInt16(claims.count))
        for claim in claims {
            for text in [claim.name, claim.value] {
                let bytes = Array(text.utf8)
                writer.append(UInt16(bytes.count))
                writer.append(bytes: bytes)
            }
        }
        return writer.bytes
    }

    /// Stands for all claims in the first two messages, so that the transcript binds them.
    package var digest: [UInt8] { Self.digest(of: record) }

    package static func digest(of record: [UInt8]) -> [UInt8] { Array(SHA256.hash(data: record)) }

    package static func readRecord(_ bytes: [UInt8]) -> [(name: String, value: String)]? {
        var reader = ByteReader(bytes)
        guard let count = reader.read(UInt16.self) else { return nil }
        var claims: [(name: String, value: String)] = []
        for _ in 0..<count {
            guard let name = text(&reader), let value = text(&reader) else { return nil }
            claims.append((name, value))
        }
        return reader.remaining == 0 ? claims : nil
    }

    private static func text(_ reader: inout ByteReader) -> String? {
        guard let length = reader.read(UInt16.self),
              let bytes = reader.read(count: Int(length)) else { return nil }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// The first thing on which the other rank differs, as the error to show.
    package func difference(from theirs: [(name: String, value: String)], rank: Int) -> WireError? {
        for claim in claims {
            let there = theirs.first { $0.name == claim.name }?.value ?? "nothing"
            if there != claim.value {
                return .disagreement(rank: rank, name: claim.name, here: claim.value, there: there)
            }
        }
        if let extra = theirs.first(where: { their in !claims.contains { $0.name == their.name } }) {
            return .disagreement(rank: rank, name: extra.name, here: "nothing", there: extra.value)
        }
        return nil
    }
}
