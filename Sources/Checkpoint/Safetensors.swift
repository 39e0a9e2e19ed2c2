import Base
import Foundation
import Storage

/// The safetensors format (github.com/huggingface/safetensors): a header that says where each tensor is,
/// then the tensors.
///
///     8 bytes              n, the header's length, little-endian
///     n bytes              JSON, padded with spaces so that the data begins at a multiple of 8
///                            { "__metadata__": {"format": "pt"},
///                              "NAME": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ... }
///     the rest             the tensors; data_offsets count from the beginning of this part
///
/// The data is covered exactly: tensors neither overlap nor leave holes, nothing follows the last. So a
/// changed length or offset cannot go unnoticed, and no byte can hide outside a tensor. `__metadata__` is
/// there because older readers refuse a file without it.
public struct Safetensors: Equatable, Sendable {
    public struct Tensor: Equatable, Sendable {
        public let name: String
        public let type: ElementType
        public let shape: [Int]
        /// Where the bytes are, counted from the beginning of the file.
        public let range: Range<Int>
    }

    /// In the order of their bytes.
    public let tensors: [Tensor]
    /// What precedes the data: the length word and the padded header.
    package let head: [UInt8]
    /// Bytes of the whole file.
    public let fileSize: Int

    /// The cap of the reference implementation: a length word beyond it is damage, not a model.
    package static let headerLimit = 100_000_000
}

extension Safetensors {
    /// Lays out `tensors` in a new file: wide elements first, so that each tensor is aligned to its own
    /// element, else in the order given. Names must differ, sizes must fit an `Int`.
    public init(laying tensors: [(name: String, type: ElementType, shape: [Int])]) {
        precondition(Set(tensors.map(\.name)).count == tensors.count, "two tensors of one name")
        let order = tensors.indices.sorted { (-tensors[$0].type.width, $0) < (-tensors[$1].type.width, $1) }
        var entries = ["\"__metadata__\":{\"format\":\"pt\"}"], ranges: [Range<Int>] = [], end = 0
        for index in order {
            let (name, type, shape) = tensors[index]
            guard let size = type.byteCount(of: shape) else { preconditionFailure("\(name): \(shape)") }
            ranges.append(end..<(end + size))
            entries.append(jsonString(name) + ":{\"dtype\":\"\(type.rawValue)\",\"shape\":"
                + "[\(shape.map(String.init).joined(separator: ","))],"
                + "\"data_offsets\":[\(end),\(end + size)]}")
            end += size
        }
        var header = Array("{\(entries.joined(separator: ","))}".utf8)
        while header.count % 8 != 0 { header.append(UInt8(ascii: " ")) }
        precondition(header.count <= Safetensors.headerLimit, "too many tensors for one safetensors file")
        var head = ByteWriter(capacity: 8 + header.count)
        head.append(UInt64(header.count))
        head.append(bytes: header)
        self.head = head.bytes
        let start = head.bytes.count
        fileSize = start + end
        self.tensors = zip(order, ranges).map { index, range in
            Tensor(name: tensors[index].name, type: tensors[index].type, shape: tensors[index].shape,
                   range: (range.lowerBound + start)..<(range.upperBound + start))
        }
    }

    /// Reads the header of the file at `path`, which anybody may have written, and checks all that the
    /// format promises. Names and ranges may be used without further checks afterwards.
    public init(reading path: String, disk: any Disk) throws(CheckpointError) {
        let kind = try onDisk { () throws(DiskError) in try disk.kind(path) }
        guard case .file(let size) = kind else {
            throw .notFound("\(path) is not a file")
        }
        guard size >= 8 else { throw .damaged(path, "\(size) bytes, too few for a safetensors file") }
        let file = try onDisk { () throws(DiskError) in try disk.open(path) }
        defer { disk.close(file) }
        let word = try onDisk { () throws(DiskError) in try readBytes(8, from: file, at: 0, disk) }
        var reader = ByteReader(word)
        let length: UInt64 = reader.read()!
        guard length <= UInt64(Safetensors.headerLimit) else {
            throw .damaged(path, "a header of \(length) bytes, more than \(Safetensors.headerLimit)")
        }
        guard Int(length) <= size - 8 else {
            throw .damaged(path, "a header of \(length) bytes in a file of \(size)")
        }
        let head = try onDisk { () throws(DiskError) in
            try readBytes(8 + Int(length), from: file, at: 0, disk)
        }
        do {
            try self.init(parsing: head, fileSize: size)
        } catch {
            throw .damaged(path, error.text)
        }
    }

    /// `head` is the length word, known to be right, and the header.
    package init(parsing head: [UInt8], fileSize: Int) throws(HeaderError) {
        guard head.count > 8, head[8] == UInt8(ascii: "{") else {
            throw HeaderError("the header does not begin with {")
        }
        let header: Header
        do {
            header = try JSONDecoder().decode(Header.self, from: Data(head[8...]))
        } catch {
            throw HeaderError("the header is not a safetensors header (\(jsonProblem(error)))")
        }
        tensors = try Safetensors.checked(header, head.count, fileSize)
        self.head = head
        self.fileSize = fileSize
    }

    /// The entries in the order of their bytes, if each has the size of its shape and they cover the data
    /// from `start` to `end` exactly.
    private static func checked(_ header: Header, _ start: Int, _ end: Int) throws(HeaderError) -> [Tensor] {
        // A tensor without elements shares its offset with its neighbour, and comes before it.
        let entries = header.entries.sorted { ($0.value.begin, $0.value.end, $0.key)
                                            < ($1.value.begin, $1.value.end, $1.key) }
        var tensors: [Tensor] = [], position = 0
        for (name, entry) in entries {
            guard let type = ElementType(rawValue: entry.dtype) else {
                throw HeaderError("tensor \(name) has the unsupported dtype \(entry.dtype)")
            }
            guard let size = type.byteCount(of: entry.shape) else {
                throw HeaderError("tensor \(name) has the impossible shape \(entry.shape)")
            }
            guard entry.begin == position, entry.end >= position, entry.end <= end - start else {
                throw HeaderError("tensor \(name) is at bytes \(entry.begin) to \(entry.end) of the data, "
                    + "expected from \(position) to at most \(end - start)")
            }
            guard entry.end - position == size else {
                throw HeaderError("tensor \(name) has \(entry.end - position) bytes, "
                    + "its shape \(entry.shape) of \(type.rawValue) needs \(size)")
            }
            tensors.append(Tensor(name: name, type: type, shape: entry.shape,
                                  range: (start + position)..<(start + entry.end)))
            position = entry.end
        }
        guard position == end - start else {
            throw HeaderError("\(end - start) bytes of data, its tensors cover \(position)")
        }
        return tensors
    }
}

/// What is wrong with a header; the caller knows the file.
package struct HeaderError: Error, Equatable {
    package let text: String
    init(_ text: String) { self.text = text }
}

/// The header's JSON: one key is metadata, all others are tensors.
private struct Header: Decodable {
    struct Entry: Decodable {
        let dtype: String
        let shape: [Int]
        let begin: Int
        let end: Int

        init(from decoder: any Decoder) throws {
            let fields = try decoder.container(keyedBy: Key.self)
            dtype = try fields.decode(String.self, forKey: Key("dtype"))
            shape = try fields.decode([Int].self, forKey: Key("shape"))
            let offsets = try fields.decode([Int].self, forKey: Key("data_offsets"))
            guard offsets.count == 2 else {
                throw DecodingError.dataCorrupted(.init(codingPath: decoder.codingPath,
                                                        debugDescription: "data_offsets are not two numbers"))
            }
            (begin, end) = (offsets[0], offsets[1])
        }
    }

    struct Key: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }
        init(_ name: String) { stringValue = name }
        init?(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    var entries: [String: Entry] = [:]

    init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: Key.self)
        for key in fields.allKeys {
            if key.stringValue == "__metadata__" {
                _ = try fields.decode([String: String].self, forKey: key)
            } else {
                entries[key.stringValue] = try fields.decode(Entry.self, forKey: key)
            }
        }
    }
}
