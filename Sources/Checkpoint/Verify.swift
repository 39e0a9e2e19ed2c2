import Base
import Crypto
import Glibc
import Storage

/// What a check of every byte has found, and what it cost.
public struct Verification: Sendable {
    /// Each place that is not as it was written. Empty means whole.
    public internal(set) var damages: [Damage] = []
    /// Bytes read.
    public internal(set) var bytes = 0
    public internal(set) var seconds = 0.0
    /// Of these, how long SHA-256 was computed, on the second thread.
    public internal(set) var hashSeconds = 0.0

    /// Bytes a second.
    public var rate: Double { Double(bytes) / max(seconds, 1e-9) }
    /// Bytes a second while SHA-256 was computed.
    public var hashRate: Double { Double(bytes) / max(hashSeconds, 1e-9) }
    public var isBoundByHash: Bool { hashSeconds > 0.75 * seconds }
}

extension Checkpoint {
    /// Reads every byte and returns each place that is not as it was written; empty means whole. Never
    /// throws: a file that cannot be read is damage like any other.
    public func verify() -> [Damage] {
        manifest.files.flatMap { file in
            var own = Verification()
            do throws(DiskError) {
                try verify(file, joined(path, file.name), &own)
            } catch {
                own.damages.append(Damage(path: joined(path, file.name), evidence: error.description))
            }
            return own.damages
        }
    }

    /// The same, with what it cost. What is only not to be read now (an I/O error, no permission, too many open
    /// files) is thrown as `.disk`: it says nothing about the bytes.
    public func verification() throws(CheckpointError) -> Verification {
        var all = Verification()
        let started = MonotonicClock.seconds()
        for file in manifest.files {
            let path = joined(self.path, file.name)
            do throws(DiskError) {
                try verify(file, path, &all)
            } catch {
                guard error.code == 0 || error.code == ENOENT else { throw .disk(error) }
                all.damages.append(Damage(path: path, evidence: error.description))
            }
        }
        all.seconds = MonotonicClock.seconds() - started
        return all
    }

    /// Throws `.damaged` with everything that is not as it was written, else as `verification`.
    public func requireWhole() throws(CheckpointError) {
        let damages = try verification().damages
        guard damages.isEmpty else { throw .damaged(damages) }
    }

    /// Reads block `block` of a file and returns what is wrong with it; the file has blocks.
    package func verify(block: Int, of file: StoredFile) throws(CheckpointError) -> [Damage] {
        let place = file.places()[block], path = joined(self.path, file.name)
        let bytes = try onDisk { () throws(DiskError) in
            let open = try disk.open(path)
            defer { disk.close(open) }
            return try readBytes(place.count, from: open, at: place.lowerBound, disk)
        }
        let crc = CRC32C.checksum(bytes)
        return crc == file.blocks![block] ? [] : [damage(file, path, block: block, place, found: crc)]
    }

    /// One pass: the SHA-256 of the file on a thread of its own, beside it the CRC-32C of each block, and of each
    /// slice where the bytes are not compressed.
    private func verify(_ file: StoredFile, _ path: String, _ all: inout Verification) throws(DiskError) {
        var slices = SliceChecksums(file.frames == nil ? slices(of: file.name) : [])
        let places = file.places()
        let hasher = Hasher(blocks: places.count, largest: places.map(\.count).max() ?? 0)
        var broken: [(block: Int, crc: UInt32)] = []
        let open = try disk.open(path)
        defer { disk.close(open) }
        for (block, place) in places.enumerated() {
            try unsafe hasher.withBuffer(place.count) { bytes throws(DiskError) in
                try unsafe disk.read(into: bytes, from: open, at: place.lowerBound)
                let bytes = UnsafeRawBufferPointer(bytes)
                unsafe slices.add(bytes, at: place.lowerBound)
                if let blocks = file.blocks {
                    let crc = unsafe CRC32C.checksum(bytes)
                    if crc != blocks[block] { broken.append((block, crc)) }
                }
            }
            all.bytes += place.count
        }
        let (digest, seconds) = hasher.finish()
        all.hashSeconds += seconds
        var found = slices.damages(path, in: broken.map { ($0.block, places[$0.block]) })
        for (block, crc) in broken where !found.contains(where: { $0.block == block }) {
            // Not compressed, and every slice as it was: what is left of the file is its header, or it is a text.
            let isHeader = file.frames == nil && !slices.isEmpty
            let evidence = checksumEvidence(crc, file.blocks![block]) + blockEvidence(block, places[block])
            found.append(isHeader ? Damage(path: path, block: block, evidence: evidence + ", in its header")
                : damage(file, path, block: block, places[block], found: crc))
        }
        if found.isEmpty, digest != file.sha256 {
            // Every byte of a tensor is as it was, so it is the others: all of a text, the header of tensors.
            let isHeader = file.blocks == nil && !slices.isEmpty
            found = [Damage(path: path, evidence: (isHeader ? "its header has changed, the file's" : "its")
                + " SHA-256 does not match the manifest")]
        }
        all.damages += found
    }

    /// The slices in a file, in the order of their bytes.
    private func slices(of file: String) -> [(tensor: String, slice: StoredSlice)] {
        manifest.tensors.flatMap { tensor in
            tensor.slices.filter { $0.file == file }.map { (tensor.name, $0) }
        }.sorted { $0.slice.begin < $1.slice.begin }
    }

    /// A block whose checksum is wrong, with the tensors that its content holds.
    private func damage(_ file: StoredFile, _ path: String, block: Int, _ place: Range<Int>, found: UInt32) -> Damage {
        let content = file.content(ofBlock: block)
        let held = slices(of: file.name).filter { $0.slice.touches(content) }
        var evidence = checksumEvidence(found, file.blocks![block]) + blockEvidence(block, place)
        if held.count > 1 {
            evidence += ", which holds \(held.count) tensors, \(held[0].tensor) to \(held.last!.tensor)"
        }
        // Of what is compressed the block is all that is known.
        return Damage(path: path, tensor: held.count == 1 ? held[0].tensor : nil, block: block, evidence: evidence)
    }
}

extension StoredSlice {
    func touches(_ content: Range<Int>) -> Bool { begin < content.upperBound && end > content.lowerBound }
}

/// The CRC-32C of each slice of a file whose bytes go by in order.
private struct SliceChecksums {
    private let slices: [(tensor: String, slice: StoredSlice)]
    private var crcs: [UInt32]
    private var current = 0

    var isEmpty: Bool { slices.isEmpty }

    /// `slices` in the order of their bytes.
    init(_ slices: [(tensor: String, slice: StoredSlice)]) {
        self.slices = slices
        crcs = [UInt32](repeating: 0, count: slices.count)
    }

    mutating func add(_ bytes: UnsafeRawBufferPointer, at offset: Int) {
        let end = offset + bytes.count
        while current < slices.count, slices[current].slice.begin < end {
            let slice = slices[current].slice
            let part = max(slice.begin, offset) - offset..<max(min(slice.end, end) - offset, 0)
            crcs[current] = unsafe CRC32C.checksum(UnsafeRawBufferPointer(rebasing: bytes[part]), from: crcs[current])
            if slice.end > end { break }
            current += 1
        }
    }

    /// Those that are not as they were written, each with the `broken` blocks that it lies in.
    func damages(_ path: String, in broken: [(block: Int, place: Range<Int>)]) -> [Damage] {
        zip(slices, crcs).flatMap { entry, crc -> [Damage] in
            guard let damage = entry.slice.damage(path, entry.tensor, found: crc) else { return [] }
            let blocks = broken.filter { entry.slice.touches($0.place) }
            if blocks.isEmpty { return [damage] }
            return blocks.map { block, place in
                Damage(path: path, tensor: entry.tensor, block: block,
                       evidence: damage.evidence + blockEvidence(block, place))
            }
        }
    }
}
