import Base
import Foundation
import Telemetry
import Testing

/// A reader of TensorBoard's files, written from the formats' descriptions and sharing nothing with the writer.
private struct EventReader {
    struct Event: Equatable {
        var step = 0
        var wallTime = 0.0
        var version: String?
        var starts = false
        var values: [String: Float] = [:]
    }

    /// Nil where a record is torn or a checksum wrong.
    static func events(_ data: [UInt8]) -> [Event]? {
        var events: [Event] = [], place = 0
        while place < data.count {
            guard data.count >= place + 12 else { return nil }
            let length = Int(little(data[place..<(place + 8)]))
            guard little(data[(place + 8)..<(place + 12)]) == mask(crc(data[place..<(place + 8)])),
                  data.count >= place + 16 + length else { return nil }
            let body = data[(place + 12)..<(place + 12 + length)]
            guard little(data[(place + 12 + length)..<(place + 16 + length)]) == mask(crc(body)) else { return nil }
            events.append(event(fields(Array(body))))
            place += 16 + length
        }
        return events
    }

    private static func little(_ bytes: ArraySlice<UInt8>) -> UInt64 {
        bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// CRC-32C bit by bit, from its polynomial.
    private static func crc(_ bytes: ArraySlice<UInt8>) -> UInt64 {
        var crc: UInt32 = ~0
        for byte in bytes {
            crc ^= UInt32(byte)
            for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0x82F6_3B78 : crc >> 1 }
        }
        return UInt64(~crc)
    }

    private static func mask(_ crc: UInt64) -> UInt64 {
        ((crc >> 15 | crc << 17 & 0xFFFF_FFFF) + 0xA282_EAD8) & 0xFFFF_FFFF
    }

    private enum Field { case number(UInt64), bytes([UInt8]) }

    private static func fields(_ bytes: [UInt8]) -> [(Int, Field)] {
        var found: [(Int, Field)] = [], place = 0
        func varint() -> UInt64 {
            var value: UInt64 = 0, shift: UInt64 = 0
            while true {
                value |= UInt64(bytes[place] & 0x7F) << shift
                shift += 7
                place += 1
                if bytes[place - 1] < 0x80 { return value }
            }
        }
        while place < bytes.count {
            let key = varint(), number = Int(key >> 3)
            switch key & 7 {
            case 0: found.append((number, .number(varint())))
            case 1, 5:
                let width = key & 7 == 1 ? 8 : 4
                found.append((number, .number(little(bytes[place..<(place + width)]))))
                place += width
            default:
                let count = Int(varint())
                found.append((number, .bytes(Array(bytes[place..<(place + count)]))))
                place += count
            }
        }
        return found
    }

    private static func event(_ fields: [(Int, Field)]) -> Event {
        var event = Event()
        for (number, field) in fields {
            switch (number, field) {
            case (1, .number(let bits)): event.wallTime = Double(bitPattern: bits)
            case (2, .number(let step)): event.step = Int(step)
            case (3, .bytes(let text)): event.version = String(decoding: text, as: UTF8.self)
            case (5, .bytes(let summary)):
                for case (1, .bytes(let value)) in self.fields(summary) {
                    var tag = "", number = Float.nan
                    for part in self.fields(value) {
                        if case (1, .bytes(let text)) = part { tag = String(decoding: text, as: UTF8.self) }
                        if case (2, .number(let bits)) = part { number = Float(bitPattern: UInt32(bits)) }
                    }
                    event.values[tag] = number
                }
            case (7, .bytes(let log)):
                if case .number(1)? = self.fields(log).first?.1 { event.starts = true }
            default: event.values["unknown field \(number)"] = 0
            }
        }
        return event
    }
}

@Suite struct EventFileTests {
    private func inFolder(_ body: (String) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.path + "/skein-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try body(folder)
    }

    private func read(_ file: EventFile) throws -> [UInt8] {
        Array(try Data(contentsOf: URL(fileURLWithPath: file.path)))
    }

    /// Every number of every step comes back, rounded to 32 bits, under the tags of metrics.jsonl.
    @Test func aReaderOfItsOwnReadsIt() throws {
        try inFolder { folder in
            let file = try EventFile(in: folder, goingOnFrom: 0)
            for step in [1, 2, 300, 70_000] {
                var report = StepReport.example(step)
                (report.loss, report.ranks, report.memoryBytes) = (1 / Double(step), 2, 3 << 29)
                let validation = step == 300 ? ValidationReport(step: step, loss: .infinity, bitsPerByte: 2.5) : nil
                file.append(step: step, report.metrics + (validation?.metrics ?? []))
            }
            #expect(file.problem == nil)
            let events = try #require(EventReader.events(read(file)))
            #expect(events.map(\.step) == [0, 1, 2, 300, 70_000])
            #expect(events[0].version == "brain.Event:2" && events[0].values.isEmpty)
            #expect(events.allSatisfy { abs($0.wallTime - Date().timeIntervalSince1970) < 600 && !$0.starts })
            for event in events.dropFirst() {
                #expect(event.values["loss_metrics/global_avg_loss"] == Float(1 / Double(event.step)))
                #expect(event.values["memory/max_active(GiB)"] == 1.5)
                #expect(event.values["val/bpb"] == (event.step == 300 ? 2.5 : nil))
                #expect(event.values.keys.allSatisfy { !$0.hasPrefix("unknown") })
                let others = event.step == 300 ? 4 : 2
                #expect(event.values.count == StepReport.example(event.step).metrics.count + others)
            }
            #expect(events[3].values["validation_metrics/loss"] == .infinity)
            // The reader would notice a changed byte.
            var damaged = try read(file)
            damaged[damaged.count / 2] ^= 1
            #expect(EventReader.events(damaged) == nil)
        }
    }

    /// A run that goes on has a file of its own, whose start tells which steps come again.
    @Test func aRunThatGoesOn() throws {
        try inFolder { folder in
            let first = try EventFile(in: folder, goingOnFrom: 0), second = try EventFile(in: folder, goingOnFrom: 41)
            #expect(first.path != second.path)
            second.append(step: 42, StepReport.example(42).metrics)
            let events = try #require(EventReader.events(read(second)))
            #expect(events.map(\.step) == [0, 42, 42] && events.map(\.starts) == [false, true, false])
        }
    }

    @Test func whereNoFolderCanBe() throws {
        let error = #expect(throws: TelemetryError.self) { _ = try EventFile(in: "/dev/null/tb", goingOnFrom: 0) }
        #expect(error?.description.hasPrefix("cannot make /dev/null/tb") == true)
    }
}

@Suite struct PrometheusFileTests {
    /// Lines as the text format has them: comments before the first value of each name, one value a line.
    private func values(_ text: String) throws -> [String: Double] {
        var found: [String: Double] = [:], typed: Set<String> = []
        for line in text.split(separator: "\n", omittingEmptySubsequences: false).dropLast() {
            if let type = line.wholeMatch(of: /# TYPE (\w+) (gauge|counter|histogram)/) {
                #expect(typed.insert(String(type.1)).inserted)
                continue
            }
            if line.hasPrefix("# HELP ") { continue }
            let match = try #require(line.wholeMatch(of: /((\w+)\{[^}]*\}) (\S+)/), "\(line)")
            let name = String(match.2).replacing(/_(bucket|sum|count)$/, with: "")
            #expect(typed.contains(name) || typed.contains(String(match.2)), "\(line)")
            found[String(match.1)] = Double(String(match.3).replacing("Inf", with: "inf").replacing("NaN", with: "nan"))
        }
        #expect(text.hasSuffix("\n"))
        return found
    }

    @Test func theFile() throws {
        let path = FileManager.default.temporaryDirectory.path + "/skein-\(UUID().uuidString).prom"
        defer { try? FileManager.default.removeItem(atPath: path) }
        var file = PrometheusFile(path, run: "tiny")
        for (step, seconds) in [0.005, 0.05, 2, 500].enumerated() {
            var report = StepReport.example(step + 1)
            (report.seconds, report.loss) = (seconds, step == 3 ? .nan : 2.5)
            (report.ranks, report.memoryBytes) = (4, 1 << 30)
            file.add(report, updated: step != 3, validation: step == 1 ? ValidationReport(step: 2, loss: 3) : nil,
                     now: Double(step) * 0.4)
            if step == 0 { file.addCheckpoint() }
            // At most one a second: the first, and the fourth.
            let now = try values(String(contentsOfFile: path, encoding: .utf8))
            #expect(now["skein_step{run=\"tiny\"}"] == (step == 3 ? 4 : 1))
        }
        file.finish()
        #expect(file.problem == nil && !FileManager.default.fileExists(atPath: path + ".tmp"))
        let found = try values(String(contentsOfFile: path, encoding: .utf8))
        func value(_ name: String) -> Double? { found["skein_\(name){run=\"tiny\"}"] }
        #expect(value("step") == 4 && value("training_loss")?.isNaN == true && value("validation_loss") == 3)
        #expect(value("skipped_steps_total") == 1 && value("checkpoints_total") == 1 && value("ranks") == 4)
        #expect(value("memory_max_bytes") == 1_073_741_824 && value("step_duration_seconds_count") == 4)
        #expect(value("step_duration_seconds_sum") == 502.055)
        for (bound, count) in [("0.01", 1), ("0.03", 1), ("0.1", 2), ("1", 2), ("3", 3), ("100", 3), ("+Inf", 4)] {
            let name = "skein_step_duration_seconds_bucket{run=\"tiny\",le=\"\(bound)\"}"
            #expect(found[name] == Double(count), "\(bound)")
        }
        let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
        #expect(mode.map { $0 & 0o444 } == 0o444)
    }

    @Test func aFileThatCannotBe() {
        var file = PrometheusFile("/dev/null/x.prom", run: "r")
        file.add(StepReport.example(1), updated: true, validation: nil)
        #expect(file.problem?.hasPrefix("cannot open /dev/null/x.prom.tmp") == true)
    }
}
