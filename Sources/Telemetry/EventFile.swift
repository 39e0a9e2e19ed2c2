import Base
#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// A file of scalars that TensorBoard reads: `events.out.tfevents.SECONDS.HOST.PID`.
///
/// It is a TFRecord file (tensorflow/core/lib/io/record_writer.h): of each record the length as 64 bits, the masked
/// CRC-32C of those, the bytes, and the masked CRC-32C of the bytes, all little-endian. A record is an `Event`
/// (tensorflow/core/util/event.proto) in protocol buffers:
///
///     1 double wall_time   2 int64 step   3 string file_version   5 Summary   7 SessionLog
///     Summary:    1 repeated Value { 1 string tag, 2 float simple_value }
///     SessionLog: 1 enum status (1 is START)
///
/// A run that goes on writes a file of its own, which begins with a START at its first step: TensorBoard then forgets
/// what earlier files say of that step and of later ones.
public final class EventFile {
    public let path: String
    /// What first went wrong. Training goes on without the file.
    public private(set) var problem: String?
    private var descriptor: Int32 = -1

    /// Makes `folder` where it is missing. step: those done before.
    public init(in folder: String, goingOnFrom step: Int) throws(TelemetryError) {
        if unsafe mkdir(folder, 0o777) != 0, errno != EEXIST { throw TelemetryError("make", folder, errno) }
        let seconds = wallSeconds()
        var name = "\(folder)/events.out.tfevents.\(Int(seconds)).\(hostName()).\(getpid())"
        // A run may end and go on within a second.
        while unsafe access(name, F_OK) == 0 { name += ".1" }
        path = name
        descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else { throw TelemetryError("open", path, errno) }
        var first = Message()
        first.add(1, double: seconds)
        first.add(3, text: "brain.Event:2")
        write(first)
        guard step > 0 else { return }
        var status = Message()
        status.add(1, integer: 1)
        var start = Message()
        start.add(1, double: seconds)
        start.add(2, integer: step + 1)
        start.add(7, status)
        write(start)
    }

    deinit { if descriptor >= 0 { _ = close(descriptor) } }

    /// The numbers of a step, in one record.
    public func append(step: Int, _ metrics: [Metric]) {
        var summary = Message()
        for metric in metrics {
            var value = Message()
            value.add(1, text: "\(metric.tag)")
            value.add(2, float: Float(metric.value))
            summary.add(1, value)
        }
        var event = Message()
        event.add(1, double: wallSeconds())
        event.add(2, integer: step)
        event.add(5, summary)
        write(event)
    }

    private func write(_ message: Message) {
        guard problem == nil else { return }
        var record = ByteWriter(capacity: 16 + message.bytes.count)
        record.append(UInt64(message.bytes.count))
        record.append(masked(CRC32C.checksum(record.bytes)))
        record.append(bytes: message.bytes)
        record.append(masked(CRC32C.checksum(message.bytes)))
        if !writeAll(record.bytes, to: descriptor) { problem = TelemetryError("write", path, errno).description }
    }
}

/// A checksum of bytes that hold checksums themselves would be no good one, hence the mask.
private func masked(_ crc: UInt32) -> UInt32 { (crc >> 15 | crc << 17) &+ 0xA282_EAD8 }

/// A protocol buffer in the making.
private struct Message {
    private(set) var bytes: [UInt8] = []

    private mutating func varint(_ value: UInt64) {
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }

    /// wire: 0 varint, 1 eight bytes, 2 a length and so many bytes, 5 four bytes.
    private mutating func key(_ field: Int, _ wire: Int) { varint(UInt64(field << 3 | wire)) }

    mutating func add(_ field: Int, integer: Int) {
        key(field, 0)
        varint(UInt64(bitPattern: Int64(integer)))
    }

    mutating func add(_ field: Int, double: Double) {
        key(field, 1)
        for shift in stride(from: 0, to: 64, by: 8) {
            bytes.append(UInt8(truncatingIfNeeded: double.bitPattern >> UInt64(shift)))
        }
    }

    mutating func add(_ field: Int, float: Float) {
        key(field, 5)
        for shift in stride(from: 0, to: 32, by: 8) {
            bytes.append(UInt8(truncatingIfNeeded: float.bitPattern >> UInt32(shift)))
        }
    }

    mutating func add(_ field: Int, text: String) { add(field, Array(text.utf8)) }
    mutating func add(_ field: Int, _ message: Message) { add(field, message.bytes) }

    private mutating func add(_ field: Int, _ content: [UInt8]) {
        key(field, 2)
        varint(UInt64(content.count))
        bytes += content
    }
}

/// Seconds since 1970.
package func wallSeconds() -> Double {
    var time = timespec()
    unsafe clock_gettime(CLOCK_REALTIME, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
}

private func hostName() -> String {
    var name = [CChar](repeating: 0, count: 256)
    guard unsafe gethostname(&name, name.count - 1) == 0 else { return "host" }
    return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
