import Base
#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

extension MetricsLog {
    /// The lines of a log, as tags with their numbers; empty where there is no log yet. It reads what `append` writes:
    /// one flat object a line, whose strings are numbers that are not finite. A torn last line is left out.
    public static func read(_ path: String) throws(TelemetryError) -> [[String: Double]] {
        let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            if errno == ENOENT { return [] }
            throw TelemetryError("open", path, errno)
        }
        defer { _ = close(descriptor) }
        guard let bytes = readAll(descriptor) else { throw TelemetryError("read", path, errno) }
        return bytes.split(separator: UInt8(ascii: "\n")).compactMap { line in
            guard line.first == UInt8(ascii: "{"), line.last == UInt8(ascii: "}") else { return nil }
            return fields(String(decoding: line.dropFirst().dropLast(), as: UTF8.self))
        }
    }

    /// `"tag":1,"tag":"inf"`: tags and values hold neither commas nor colons.
    private static func fields(_ text: String) -> [String: Double] {
        var found: [String: Double] = [:]
        for field in text.split(separator: ",") {
            let parts = field.split(separator: ":")
            guard parts.count == 2 else { continue }
            func bare(_ text: Substring) -> String { text.filter { $0 != "\"" } }
            found[bare(parts[0])] = Double(bare(parts[1]))
        }
        return found
    }
}
