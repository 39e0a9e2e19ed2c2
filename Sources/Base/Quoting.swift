#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// `text` as a JSON string with its quotes. TOML's basic strings are written in the same way.
public func jsonString(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"": result += "\\\""
        case "\\": result += "\\\\"
        case "\n": result += "\\n"
        case "\t": result += "\\t"
        case "\r": result += "\\r"
        // JSON would take U+007F as it is, TOML does not.
        case _ where scalar.value < 0x20 || scalar.value == 0x7F:
            result += "\\u" + hexadecimal(UInt16(scalar.value))
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result + "\""
}

/// Bytes as a shell's `$'...'` has them between its quotes: what a name that is not UTF-8 is called in a message.
public func shellEscaped(_ name: some Sequence<UInt8>) -> String {
    name.map { byte in
        switch byte {
        case UInt8(ascii: "\\"), UInt8(ascii: "'"): "\\" + String(Unicode.Scalar(byte))
        case 0x20..<0x7F: String(Unicode.Scalar(byte))
        default: "\\x" + hexadecimal(CollectionOfOne(byte))
        }
    }.joined()
}

/// A message as one line: a file may have a line feed in its name, and a damaged one anything in its texts, which must
/// neither break the line nor steer a terminal. Control characters and separators of lines become `\u{...}`.
public func oneLine(_ message: String) -> String {
    let breaks: (Unicode.Scalar) -> Bool = { scalar in
        scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) || scalar == "\u{2028}" || scalar == "\u{2029}"
    }
    guard message.unicodeScalars.contains(where: breaks) else { return message }
    var line = ""
    for scalar in message.unicodeScalars {
        if breaks(scalar) {
            line += "\\u{" + String(scalar.value, radix: 16) + "}"
        } else {
            line.unicodeScalars.append(scalar)
        }
    }
    return line
}

/// The first argument of this process that is not UTF-8, as `shellEscaped` writes it: such bytes cannot become a
/// Swift text and come back, so a file of that name could not be opened.
public func unreadableArgument() -> String? {
    for index in 0..<Int(CommandLine.argc) {
        guard let argument = unsafe CommandLine.unsafeArgv[index] else { continue }
        let bytes = unsafe Array(UnsafeRawBufferPointer(start: argument, count: strlen(argument)))
        if String(validating: bytes, as: UTF8.self) == nil { return shellEscaped(bytes) }
    }
    return nil
}
