/// Lower-case hexadecimal digits, two for each byte.
public func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
    var text: [UInt8] = []
    text.reserveCapacity(2 * bytes.underestimatedCount)
    for byte in bytes { text += [digits[Int(byte >> 4)], digits[Int(byte & 15)]] }
    return String(decoding: text, as: UTF8.self)
}

/// All digits of a number, leading zeros included: 8 of a `UInt32`.
public func hexadecimal(_ value: some FixedWidthInteger & UnsignedInteger) -> String {
    var writer = ByteWriter(capacity: value.bitWidth / 8)
    writer.append(value.byteSwapped)
    return hexadecimal(writer.bytes)
}

/// The bytes that `digits`, of either case, stand for. Nil when they are something else, or half a byte is missing.
public func bytes(hexadecimal digits: some Sequence<UInt8>) -> [UInt8]? {
    var bytes: [UInt8] = []
    var high: UInt8?
    for digit in digits {
        let value: UInt8
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): value = digit - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): value = digit - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): value = digit - UInt8(ascii: "A") + 10
        default: return nil
        }
        if let first = high { bytes.append(first << 4 | value) }
        high = high == nil ? value : nil
    }
    return high == nil ? bytes : nil
}

private let digits = Array("0123456789abcdef".utf8)
