import Base
import Compression
import Storage

/// Bytes that are held while a file of so many is written, beside what it is written from: the block that is gathered,
/// those that the hashing thread has, and what zstd makes of one, with its tables.
public func writingBytes(content: Int, compressed: Bool) -> Int {
    let largest = min(content, blockSize), hashed = min((content + blockSize - 1) / blockSize, Hasher.slotCount)
    return (1 + hashed) * largest + (compressed ? ZstdFrames.bound(largest) + ZstdFrames.tableBytes : 0)
}

/// Writes the content of one file, which arrives in parts of any size, block by block: gathered, compressed if the
/// file is to be, handed to the thread that hashes, written.
struct BlockWriter {
    private let disk: any Disk
    private let file: OpenFile
    private let name: String
    private let compressor: ZstdFrames?
    private var block: [UInt8] = []
    private var frame: [UInt8] = []
    private let hasher: Hasher
    private var size = 0
    private(set) var content = 0
    private var checksums: [UInt32] = []
    private var frames: [Int] = []

    /// content: how many bytes will be appended.
    init(_ name: String, to file: OpenFile, content: Int, compressor: ZstdFrames?, _ disk: any Disk) {
        self.name = name
        self.file = file
        self.compressor = compressor
        self.disk = disk
        let largest = min(content, blockSize)
        hasher = Hasher(blocks: (content + blockSize - 1) / blockSize,
                        largest: compressor == nil ? largest : ZstdFrames.bound(largest))
        block.reserveCapacity(largest)
    }

    /// Returns the CRC-32C of `bytes`.
    mutating func append(_ bytes: UnsafeRawBufferPointer) throws(DiskError) -> UInt32 {
        var done = 0, crc: UInt32 = 0
        while done < bytes.count {
            let count = min(blockSize - block.count, bytes.count - done)
            let part = unsafe UnsafeRawBufferPointer(rebasing: bytes[done..<(done + count)])
            crc = unsafe CRC32C.checksum(part, from: crc)
            unsafe block.append(contentsOf: part)
            content += count
            done += count
            if block.count == blockSize { try writeBlock() }
        }
        return crc
    }

    private mutating func writeBlock() throws(DiskError) {
        if let compressor {
            unsafe block.withUnsafeBytes { unsafe compressor.compress($0, into: &frame) }
            swap(&block, &frame)
            frames.append(block.count)
        }
        checksums.append(CRC32C.checksum(block))
        try unsafe block.span.bytes.withUnsafeBytes { bytes throws(DiskError) in
            unsafe hasher.withBuffer(bytes.count) { unsafe $0.copyMemory(from: bytes) }
            try unsafe disk.write(bytes, to: file, at: size)
        }
        size += block.count
        if compressor != nil { swap(&block, &frame) }
        block.removeAll(keepingCapacity: true)
    }

    /// Writes what is left, gives back what was reserved beyond it, and returns the file's entry.
    mutating func finish(reserved: Int) throws(DiskError) -> StoredFile {
        if !block.isEmpty { try writeBlock() }
        if size < reserved { try disk.cut(file, to: size) }
        return StoredFile(name: name, size: size, sha256: hasher.finish().digest, blocks: checksums,
                          content: content, frames: compressor == nil ? nil : frames)
    }
}

/// One file to be written: some bytes, then slices of tensors.
struct Part {
    let name: String
    let isCompressed: Bool
    let head: [UInt8]
    /// Bytes of the content.
    let size: Int
    var tensors: [(place: Safetensors.Tensor, source: TensorSource)] = []

    init(_ name: String, text: String) {
        self.name = name
        isCompressed = false
        head = Array(text.utf8)
        size = head.count
    }

    init(_ name: String, _ sources: [TensorSource], compressed: Bool = false) {
        let layout = Safetensors(laying: sources.map { ($0.storedName, $0.spec.type, $0.storedShape) })
        let byName = Dictionary(uniqueKeysWithValues: sources.map { ($0.storedName, $0) })
        self.name = compressed ? name + Manifest.compressedEnding : name
        isCompressed = compressed
        head = layout.head
        size = layout.fileSize
        tensors = layout.tensors.map { ($0, byName[$0.name]!) }
    }

    /// The most bytes that it can need on the disk.
    var bound: Int {
        guard isCompressed else { return size }
        let whole = size / blockSize, rest = size % blockSize
        return whole * ZstdFrames.bound(blockSize) + (rest > 0 ? ZstdFrames.bound(rest) : 0)
    }

    /// What the manifest says of it before it is written, with the largest numbers that there can be.
    var largestEntry: StoredFile {
        let count = (size + blockSize - 1) / blockSize
        return StoredFile(name: name, size: bound, sha256: hexadecimal([UInt8](repeating: 0, count: 32)),
                          blocks: [UInt32](repeating: 0, count: count), content: size,
                          frames: isCompressed ? [Int](repeating: 0, count: count) : nil)
    }

    func write(to file: OpenFile, _ disk: any Disk) throws(DiskError) -> (StoredFile, [StoredTensor]) {
        var writer = BlockWriter(name, to: file, content: size, compressor: isCompressed ? ZstdFrames() : nil, disk)
        var entries: [StoredTensor] = []
        _ = try unsafe head.span.bytes.withUnsafeBytes { bytes throws(DiskError) in
            try unsafe writer.append(bytes)
        }
        for tensor in tensors {
            precondition(writer.content == tensor.place.range.lowerBound)
            entries.append(entry(tensor.place, tensor.source, crc: try unsafe writer.append(tensor.source.bytes)))
        }
        precondition(writer.content == size)
        return (try writer.finish(reserved: bound), entries)
    }

    func entry(_ place: Safetensors.Tensor, _ source: TensorSource, crc: UInt32) -> StoredTensor {
        let slice = StoredSlice(file: name, first: source.elements.lowerBound, begin: place.range.lowerBound,
                                end: place.range.upperBound, crc: crc)
        return StoredTensor(name: source.spec.name, dtype: source.spec.type, shape: source.spec.shape, slices: [slice])
    }
}
