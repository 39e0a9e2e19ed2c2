import Base

/// What the elements of a stored tensor are. The raw value is the name in a safetensors header.
public enum ElementType: String, CaseIterable, Codable, Sendable {
    case float64 = "F64"
    case float32 = "F32"
    case bfloat16 = "BF16"
    case float16 = "F16"
    /// 4 exponent bits, 3 mantissa bits, no infinity ("E4M3FN"): FP8 formats, arXiv 2209.05433, table 1.
    case float8E4M3 = "F8_E4M3"
    /// 5 exponent bits, 2 mantissa bits: the upper byte of a float16.
    case float8E5M2 = "F8_E5M2"
    case int8 = "I8"
    case int16 = "I16"
    case int32 = "I32"
    case int64 = "I64"
    case uint8 = "U8"
    case uint16 = "U16"
    case uint32 = "U32"
    case uint64 = "U64"
    /// One byte: 0 is false, all else true.
    case bool = "BOOL"

    /// Bytes of one element.
    public var width: Int {
        switch self {
        case .float64, .int64, .uint64: 8
        case .float32, .int32, .uint32: 4
        case .bfloat16, .float16, .int16, .uint16: 2
        case .float8E4M3, .float8E5M2, .int8, .uint8, .bool: 1
        }
    }

    public var isFloat: Bool {
        switch self {
        case .float64, .float32, .bfloat16, .float16, .float8E4M3, .float8E5M2: true
        case .int8, .int16, .int32, .int64, .uint8, .uint16, .uint32, .uint64, .bool: false
        }
    }

    /// Bytes of a tensor of this `shape`, row-major and dense. Nil if a dimension is negative or the
    /// product does not fit an `Int`: both happen only in files that somebody else wrote or damaged.
    public func byteCount(of shape: [Int]) -> Int? {
        var count = width
        for dimension in shape {
            guard dimension >= 0 else { return nil }
            let (product, overflow) = count.multipliedReportingOverflow(by: dimension)
            guard !overflow else { return nil }
            count = product
        }
        return count
    }

    /// The elements in `bytes` (little-endian, a whole number of them), exactly, replacing `values`.
    /// Only integers beyond 2^53 are rounded.
    package func decode(_ bytes: UnsafeRawBufferPointer, into values: inout [Double]) {
        precondition(bytes.count % width == 0)
        switch self {
        case .float64:
            unsafe fill(&values, bytes, UInt64.self) { Double(bitPattern: $0) }
        case .float32:
            unsafe fill(&values, bytes, UInt32.self) { Double(Float(bitPattern: $0)) }
        case .bfloat16:
            unsafe fill(&values, bytes, UInt16.self) { Double(Float(bitPattern: UInt32($0) << 16)) }
        case .float16:
            unsafe fill(&values, bytes, UInt16.self) { Double(Float16(bitPattern: $0)) }
        case .float8E4M3:
            unsafe fill(&values, bytes, UInt8.self) { decodeE4M3($0) }
        case .float8E5M2:
            unsafe fill(&values, bytes, UInt8.self) { Double(Float16(bitPattern: UInt16($0) << 8)) }
        case .int8:
            unsafe fill(&values, bytes, UInt8.self) { Double(Int8(bitPattern: $0)) }
        case .int16:
            unsafe fill(&values, bytes, UInt16.self) { Double(Int16(bitPattern: $0)) }
        case .int32:
            unsafe fill(&values, bytes, UInt32.self) { Double(Int32(bitPattern: $0)) }
        case .int64:
            unsafe fill(&values, bytes, UInt64.self) { Double(Int64(bitPattern: $0)) }
        case .uint8:
            unsafe fill(&values, bytes, UInt8.self) { Double($0) }
        case .uint16:
            unsafe fill(&values, bytes, UInt16.self) { Double($0) }
        case .uint32:
            unsafe fill(&values, bytes, UInt32.self) { Double($0) }
        case .uint64:
            unsafe fill(&values, bytes, UInt64.self) { Double($0) }
        case .bool:
            unsafe fill(&values, bytes, UInt8.self) { $0 == 0 ? 0 : 1 }
        }
    }
}

private func fill<Bits: FixedWidthInteger>(
    _ values: inout [Double], _ bytes: UnsafeRawBufferPointer, _: Bits.Type, _ convert: (Bits) -> Double
) {
    let width = Bits.bitWidth / 8
    values.removeAll(keepingCapacity: true)
    for index in 0..<(bytes.count / width) {
        let bits = unsafe bytes.loadUnaligned(fromByteOffset: index * width, as: Bits.self)
        values.append(convert(Bits(littleEndian: bits)))
    }
}

/// One E4M3 code. Bias 7; exponent 0 is subnormal; only S.1111.111 is not a number.
private func decodeE4M3(_ code: UInt8) -> Double {
    let exponent = Int(code >> 3 & 15), mantissa = Double(code & 7)
    let sign = code & 0x80 == 0 ? 1.0 : -1.0
    if code & 0x7F == 0x7F { return .nan }
    if exponent == 0 { return sign * mantissa * 0x1p-9 }
    return sign * (1 + mantissa / 8) * Double(sign: .plus, exponent: exponent - 7, significand: 1)
}
