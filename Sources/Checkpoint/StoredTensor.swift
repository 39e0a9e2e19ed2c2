import Base

/// A tensor as it is stored: what it is, and where the runs of its elements lie.
public struct StoredTensor: Equatable, Sendable {
    public let name: String
    public let dtype: ElementType
    public let shape: [Int]
    /// In the order of their elements; together they are all of the tensor, each element once.
    public internal(set) var slices: [StoredSlice]

    public var byteCount: Int { slices.reduce(0) { $0 + $1.byteCount } }
    public var count: Int { byteCount / dtype.width }
    public var spec: TensorSpec { TensorSpec(name, dtype, shape) }
}

/// A run of neighbouring elements of a tensor, row-major, in one file.
public struct StoredSlice: Equatable, Sendable {
    public let file: String
    /// The first of its elements, counted over the whole tensor.
    public let first: Int
    /// The first byte in the file's content, and the one after the last. Content is what was written, before it was
    /// compressed.
    public let begin: Int
    public let end: Int
    /// Of these bytes. Nil in files that are not ours.
    public let crc: UInt32?

    public var byteCount: Int { end - begin }
}

/// A file as it is stored.
public struct StoredFile: Equatable, Sendable {
    public let name: String
    /// Bytes on the disk.
    public let size: Int
    /// 64 lower-case hex digits. Empty for files that are not ours.
    public let sha256: String
    /// The CRC-32C of each block, as it lies on the disk. Nil in checkpoints of version 1, and for files that are not
    /// ours. Block n is the content's bytes from n x 4 MiB on.
    public let blocks: [UInt32]?
    /// Bytes of the content. The same as `size` unless it is compressed.
    public let content: Int
    /// If it is compressed, the bytes on the disk of each block: a zstd frame.
    public let frames: [Int]?

    init(name: String, size: Int, sha256: String, blocks: [UInt32]? = nil, content: Int? = nil, frames: [Int]? = nil) {
        self.name = name
        self.size = size
        self.sha256 = sha256
        self.blocks = blocks
        self.content = content ?? size
        self.frames = frames
    }

    /// How many blocks there are.
    public var blockCount: Int { (content + blockSize - 1) / blockSize }

    /// The part of the content that block `index` holds.
    func content(ofBlock index: Int) -> Range<Int> {
        index * blockSize..<min((index + 1) * blockSize, content)
    }

    /// Where each block lies on the disk.
    package func places() -> [Range<Int>] {
        guard let frames else { return (0..<blockCount).map { content(ofBlock: $0) } }
        var begin = 0
        return frames.map { size in
            defer { begin += size }
            return begin..<(begin + size)
        }
    }

    /// What must hold for the numbers to be used without further checks.
    var isPossible: Bool {
        guard size >= 0, content >= 0, content < 1 << 60 else { return false }
        if let blocks, blocks.count != blockCount { return false }
        guard let frames else { return content == size }
        guard blocks != nil, frames.count == blockCount, frames.allSatisfy({ $0 > 0 && $0 <= frameLimit }) else {
            return false
        }
        return frames.reduce(0, +) == size
    }
}

/// Bytes that are hashed, written, compressed and read at a time.
package let blockSize = 4 << 20

/// More than any frame of a block needs.
let frameLimit = blockSize + (1 << 20)

extension StoredFile: Codable {
    private enum Key: String, CodingKey { case name, size, sha256, blocks, content, frames }

    public func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: Key.self)
        try fields.encode(name, forKey: .name)
        try fields.encode(size, forKey: .size)
        try fields.encode(sha256, forKey: .sha256)
        try fields.encodeIfPresent(blocks.map(digits), forKey: .blocks)
        if let frames {
            try fields.encode(content, forKey: .content)
            try fields.encode(digits(frames.map { UInt32($0) }), forKey: .frames)
        }
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: Key.self)
        func numbers(_ key: Key) throws -> [UInt32]? {
            guard let text = try fields.decodeIfPresent(String.self, forKey: key) else { return nil }
            guard let numbers = Self.numbers(text) else {
                throw DecodingError.dataCorruptedError(forKey: key, in: fields, debugDescription: "no hex digits")
            }
            return numbers
        }
        self.init(name: try fields.decode(String.self, forKey: .name), size: try fields.decode(Int.self, forKey: .size),
                  sha256: try fields.decode(String.self, forKey: .sha256), blocks: try numbers(.blocks),
                  content: try fields.decodeIfPresent(Int.self, forKey: .content),
                  frames: try numbers(.frames)?.map { Int($0) })
    }

    /// Eight digits for each number, without anything between them.
    private static func numbers(_ text: String) -> [UInt32]? {
        guard let bytes = bytes(hexadecimal: text.utf8), bytes.count % 4 == 0 else { return nil }
        return stride(from: 0, to: bytes.count, by: 4).map { start in
            bytes[start..<(start + 4)].reduce(0) { $0 << 8 | UInt32($1) }
        }
    }
}

private func digits(_ numbers: [UInt32]) -> String { numbers.map(checksumText).joined() }

extension StoredTensor: Codable {
    private enum Key: String, CodingKey { case name, dtype, shape, slices, file, begin, end, crc32c }

    public func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: Key.self)
        try fields.encode(name, forKey: .name)
        try fields.encode(dtype, forKey: .dtype)
        try fields.encode(shape, forKey: .shape)
        try fields.encode(slices, forKey: .slices)
    }

    /// Version 1 had one slice for each tensor, without a name for it.
    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: Key.self)
        name = try fields.decode(String.self, forKey: .name)
        dtype = try fields.decode(ElementType.self, forKey: .dtype)
        shape = try fields.decode([Int].self, forKey: .shape)
        slices = if fields.contains(.slices) {
            try fields.decode([StoredSlice].self, forKey: .slices)
        } else {
            [StoredSlice(file: try fields.decode(String.self, forKey: .file), first: 0,
                         begin: try fields.decode(Int.self, forKey: .begin),
                         end: try fields.decode(Int.self, forKey: .end),
                         crc: try checksum(fields.decode(String.self, forKey: .crc32c), decoder))]
        }
    }
}

extension StoredSlice: Codable {
    private enum Key: String, CodingKey { case file, first, begin, end, crc32c }

    public func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: Key.self)
        try fields.encode(file, forKey: .file)
        try fields.encode(first, forKey: .first)
        try fields.encode(begin, forKey: .begin)
        try fields.encode(end, forKey: .end)
        try fields.encodeIfPresent(crc.map(checksumText), forKey: .crc32c)
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: Key.self)
        self.init(file: try fields.decode(String.self, forKey: .file),
                  first: try fields.decode(Int.self, forKey: .first),
                  begin: try fields.decode(Int.self, forKey: .begin),
                  end: try fields.decode(Int.self, forKey: .end),
                  crc: try checksum(fields.decode(String.self, forKey: .crc32c), decoder))
    }
}

private func checksum(_ text: String, _ decoder: any Decoder) throws -> UInt32 {
    guard text.utf8.count == 8, let value = UInt32(text, radix: 16) else {
        throw DecodingError.dataCorrupted(.init(codingPath: decoder.codingPath, debugDescription: "no checksum"))
    }
    return value
}

/// A checksum as the format has it: 8 upper-case digits.
func checksumText(_ crc: UInt32) -> String { hexadecimal(crc).uppercased() }
