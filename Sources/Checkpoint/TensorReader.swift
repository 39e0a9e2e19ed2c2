import Base
import Compression
import Storage

/// Reads elements of stored tensors, each byte checked on the way. A file stays open, and its last block in memory, so
/// that reading in the order of the bytes reads (and decompresses) each block once. For one thread.
///
/// What checks a byte: the CRC-32C of its slice where a whole slice is read that is not compressed, else that of its
/// block; in checkpoints of version 1, which have no blocks, the slice is gone through once before a part is read.
/// Files that are not ours have no checksums.
public final class TensorReader {
    private let folder: String
    private let disk: any Disk
    private let files: [String: StoredFile]
    private var sources: [String: Source] = [:]
    private lazy var frames = ZstdFrames()
    /// Slices without blocks that were gone through, by file and first byte.
    private var checked: Set<[String]> = []

    private struct Source {
        let file: OpenFile
        let places: [Range<Int>]
        /// The block that `content` holds.
        var block: Int?
        var content: [UInt8] = []
    }

    init(folder: String, files: [StoredFile], disk: any Disk) {
        self.folder = folder
        self.disk = disk
        self.files = Dictionary(uniqueKeysWithValues: files.map { ($0.name, $0) })
    }

    deinit { for source in sources.values { disk.close(source.file) } }

    /// Fills `bytes` with the elements `elements` of `tensor`, counted in row-major order. If this throws, the
    /// contents of `bytes` are undefined.
    public func read(_ tensor: StoredTensor, _ elements: Range<Int>, into bytes: UnsafeMutableRawBufferPointer)
        throws(CheckpointError) {
        let width = tensor.dtype.width
        precondition(bytes.count == elements.count * width, "\(tensor.name): \(bytes.count) bytes for \(elements)")
        precondition(elements.lowerBound >= 0 && elements.upperBound <= tensor.count, "\(tensor.name): \(elements)")
        for slice in tensor.slices {
            let own = slice.first..<(slice.first + slice.byteCount / width)
            let wanted = own.clamped(to: elements)
            if wanted.isEmpty { continue }
            let start = (wanted.lowerBound - elements.lowerBound) * width
            let target = unsafe UnsafeMutableRawBufferPointer(rebasing: bytes[start..<(start + wanted.count * width)])
            let from = slice.begin + (wanted.lowerBound - own.lowerBound) * width
            try unsafe read(slice, of: tensor.name, from..<(from + target.count), into: target)
        }
    }

    private func read(_ slice: StoredSlice, of tensor: String, _ range: Range<Int>,
                      into target: UnsafeMutableRawBufferPointer) throws(CheckpointError) {
        let file = files[slice.file]!
        if file.frames == nil, range == slice.begin..<slice.end {
            return try unsafe stream(slice, of: tensor) { piece, offset in
                unsafe UnsafeMutableRawBufferPointer(rebasing: target[(offset - slice.begin)...])
                    .copyMemory(from: piece)
            }
        }
        if file.blocks == nil {
            if slice.crc != nil, checked.insert([file.name, "\(slice.begin)"]).inserted {
                try unsafe stream(slice, of: tensor) { _, _ in }
            }
            let source = try source(file.name)
            return try onDisk { () throws(DiskError) in
                try unsafe disk.read(into: target, from: source.file, at: range.lowerBound)
            }
        }
        var offset = range.lowerBound
        while offset < range.upperBound {
            let block = offset / blockSize, content = file.content(ofBlock: block)
            let part = offset..<min(content.upperBound, range.upperBound)
            try load(block, of: file, for: tensor)
            let start = part.lowerBound - content.lowerBound, place = part.lowerBound - range.lowerBound
            unsafe sources[file.name]!.content.withUnsafeBytes { bytes in
                unsafe UnsafeMutableRawBufferPointer(rebasing: target[place..<(place + part.count)])
                    .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[start..<(start + part.count)]))
            }
            offset = part.upperBound
        }
    }

    /// The bytes of a tensor in pieces of whole elements, in order. What was handed to `body` before this throws is
    /// not to be trusted.
    func forEachPiece(of tensor: StoredTensor, _ body: (UnsafeRawBufferPointer) -> Void) throws(CheckpointError) {
        for slice in tensor.slices {
            guard files[slice.file]!.frames != nil else {
                try unsafe stream(slice, of: tensor.name) { piece, _ in unsafe body(piece) }
                continue
            }
            let file = files[slice.file]!
            var offset = slice.begin
            while offset < slice.end {
                let block = offset / blockSize, content = file.content(ofBlock: block)
                let end = min(content.upperBound, slice.end), start = offset - content.lowerBound
                try load(block, of: file, for: tensor.name)
                unsafe sources[file.name]!.content.withUnsafeBytes { bytes in
                    unsafe body(UnsafeRawBufferPointer(rebasing: bytes[start..<(start + end - offset)]))
                }
                offset = end
            }
        }
    }

    /// The bytes of a slice that lies as it is, in order, each piece with its place in the file.
    private func stream(_ slice: StoredSlice, of tensor: String, _ body: (UnsafeRawBufferPointer, Int) -> Void)
        throws(CheckpointError) {
        let source = try source(slice.file)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: min(blockSize, slice.byteCount), alignment: 64)
        defer { unsafe buffer.deallocate() }
        var crc: UInt32 = 0, offset = slice.begin
        while offset < slice.end {
            let piece = unsafe UnsafeMutableRawBufferPointer(
                rebasing: buffer[..<min(blockSize, slice.end - offset)])
            try onDisk { () throws(DiskError) in try unsafe disk.read(into: piece, from: source.file, at: offset) }
            crc = unsafe CRC32C.checksum(UnsafeRawBufferPointer(piece), from: crc)
            unsafe body(UnsafeRawBufferPointer(piece), offset)
            offset += piece.count
        }
        if let damage = slice.damage(joined(folder, slice.file), tensor, found: crc) { throw .damaged([damage]) }
    }

    private func source(_ name: String) throws(CheckpointError) -> Source {
        if let known = sources[name] { return known }
        let path = joined(folder, name)
        let source = Source(file: try onDisk { () throws(DiskError) in try disk.open(path) },
                            places: files[name]!.places())
        sources[name] = source
        return source
    }

    /// Brings the content of a block into memory, checked.
    private func load(_ block: Int, of file: StoredFile, for tensor: String) throws(CheckpointError) {
        let source = try source(file.name), place = source.places[block], path = joined(folder, file.name)
        if source.block == block { return }
        sources[file.name] = nil
        defer { if sources[file.name] == nil { disk.close(source.file) } }
        let stored = try onDisk { () throws(DiskError) in
            try readBytes(place.count, from: source.file, at: place.lowerBound, disk)
        }
        let crc = CRC32C.checksum(stored)
        if let expected = file.blocks?[block], expected != crc {
            throw .damaged([Damage(path: path, tensor: tensor, block: block,
                                   evidence: checksumEvidence(crc, expected) + blockEvidence(block, place))])
        }
        var content = stored
        if file.frames != nil {
            content = [UInt8](repeating: 0, count: file.content(ofBlock: block).count)
            do {
                var span = content.mutableSpan
                try unsafe span.withUnsafeMutableBytes { target throws(ZstdError) in
                    try unsafe stored.span.bytes.withUnsafeBytes { frame throws(ZstdError) in
                        try unsafe frames.decompress(frame, into: target)
                    }
                }
            } catch {
                throw .damaged([Damage(path: path, tensor: tensor, block: block,
                                       evidence: "\(error)" + blockEvidence(block, place))])
            }
        }
        sources[file.name] = Source(file: source.file, places: source.places, block: block, content: content)
    }
}

/// "CRC-32C 1A2B3C4D, expected 5E6F7081"
func checksumEvidence(_ found: UInt32, _ expected: UInt32) -> String {
    "CRC-32C \(checksumText(found)), expected \(checksumText(expected))"
}

/// " in block 3 (bytes 12582912 to 16777216)"
func blockEvidence(_ block: Int, _ place: Range<Int>) -> String {
    " in block \(block) (bytes \(place.lowerBound) to \(place.upperBound))"
}

extension StoredSlice {
    /// Nil if `found` is the checksum that was written, or if there is none.
    func damage(_ path: String, _ tensor: String, found: UInt32) -> Damage? {
        guard let crc, crc != found else { return nil }
        return Damage(path: path, tensor: tensor, evidence: checksumEvidence(found, crc))
    }
}
