import Base
import Crypto
import Glibc
import Storage

extension Checkpoint {
    /// Reads every byte and returns each place that is not as it was written; empty means whole. Never
    /// throws: a file that cannot be read is damage like any other.
    public func verify() -> [Damage] {
        var damages: [Damage] = []
        for file in manifest.files {
            let path = joined(self.path, file.name)
            do {
                damages += try verify(file, path)
            } catch {
                damages.append(Damage(path: path, evidence: error.description))
            }
        }
        return damages
    }

    /// Throws `.damaged` with everything that is not as it was written. What is only not to be read now (an I/O
    /// error, no permission, too many open files) is `.disk`: it says nothing about the bytes.
    public func requireWhole() throws(CheckpointError) {
        var damages: [Damage] = []
        for file in manifest.files {
            let path = joined(self.path, file.name)
            do throws(DiskError) {
                damages += try verify(file, path)
            } catch {
                guard error.code == 0 || error.code == ENOENT else { throw .disk(error) }
                damages.append(Damage(path: path, evidence: error.description))
            }
        }
        guard damages.isEmpty else { throw .damaged(damages) }
    }

    /// One pass: the SHA-256 of the file and the CRC-32C of each tensor in it.
    private func verify(_ file: Manifest.File, _ path: String) throws(DiskError) -> [Damage] {
        let tensors = manifest.tensors.filter { $0.file == file.name }.sorted { $0.begin < $1.begin }
        var crcs = [UInt32](repeating: 0, count: tensors.count), current = 0
        var hash = SHA256()
        try unsafe forEachBlock(of: path, 0..<file.size, disk) { block, offset in
            unsafe hash.update(bufferPointer: block)
            let end = offset + block.count
            while current < tensors.count, tensors[current].begin < end {
                let tensor = tensors[current]
                let part = max(tensor.begin, offset) - offset..<max(min(tensor.end, end) - offset, 0)
                crcs[current] = unsafe CRC32C.checksum(UnsafeRawBufferPointer(rebasing: block[part]),
                                                       from: crcs[current])
                if tensor.end > end { break }
                current += 1
            }
        }
        let damages = zip(tensors, crcs).compactMap { $0.damage(path, found: $1) }
        if hexadecimal(hash.finalize()) == file.sha256 { return damages }
        guard damages.isEmpty else { return damages }
        // Every byte of a tensor is as it was, so it is the others: all of a text, the header of tensors.
        return [Damage(path: path, evidence: (tensors.isEmpty ? "its" : "its header has changed, the file's")
            + " SHA-256 does not match the manifest")]
    }
}

/// Reads the bytes `range` of a file in order, in blocks that begin at multiples of `blockSize` from its
/// start. `body` gets each with the offset of its first byte.
func forEachBlock(of path: String, _ range: Range<Int>, _ disk: any Disk,
                  _ body: (UnsafeRawBufferPointer, Int) -> Void) throws(DiskError) {
    let file = try disk.open(path)
    defer { disk.close(file) }
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: min(blockSize, range.count), alignment: 64)
    defer { unsafe buffer.deallocate() }
    var offset = range.lowerBound
    while offset < range.upperBound {
        let count = min(blockSize, range.upperBound - offset)
        let block = unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])
        try unsafe disk.read(into: block, from: file, at: offset)
        unsafe body(UnsafeRawBufferPointer(block), offset)
        offset += count
    }
}
