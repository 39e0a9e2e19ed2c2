import Base
import Foundation
import Telemetry
import Testing

@Suite struct MetricsLogTests {
    private func inFolder(_ body: (String) throws -> Void) throws {
        let folder = FileManager.default.temporaryDirectory.path + "/skein-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try body(folder + "/metrics.jsonl")
    }

    private func read(_ path: String) throws -> String { try String(contentsOfFile: path, encoding: .utf8) }

    /// JSONSerialization rounds some numbers wrongly on Linux, JSONDecoder none.
    private struct Loss: Decodable {
        let value: Double
        enum CodingKeys: String, CodingKey { case value = "loss_metrics/global_avg_loss" }
    }

    private func objects(_ path: String) throws -> [[String: Any]] {
        try read(path).split(separator: "\n").map { line in
            try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
        }
    }

    @Test func theText() throws {
        try inFolder { path in
            let log = try MetricsLog(path)
            log.append(ValidationReport(step: 0, loss: 5.5, bitsPerByte: 8))
            var report = StepReport.example()
            (report.ranks, report.waitSeconds, report.hiddenShare) = (2, 0.25, 0.5)
            (report.bucketLength, report.length) = (512, 64)
            (report.varianceNorm, report.varianceMax, report.lossRatio) = (12.5, 0.75, 1.25)
            log.append(report, validation: ValidationReport(step: 840, loss: 1.5))
            log.sync()
            #expect(log.problem == nil)
            #expect(try read(path) == """
                {"step":0,"validation_metrics/loss":5.5,"val/bpb":8.0}
                {"step":840,"loss_metrics/global_avg_loss":2.31449,"train/bpb":1.6724,\
                "loss_metrics/loss_ratio":1.25,"grad_norm":0.9123,"optim/variance_norm":12.5,\
                "optim/variance_max":0.75,"lr":0.0003,"throughput(tps)":6172.5,"throughput/total_tps":12345.0,\
                "tflops":0.030615,\
                "mfu(%)":31.41,"time_metrics/end_to_end(s)":0.3318,"comm/wait(s)":0.25,"comm/hidden(%)":50.0,\
                "data/bucket_len":512,"data/length":64,"n_tokens_seen":3440640,\
                "validation_metrics/loss":1.5}

                """)
        }
    }

    /// Any number comes back as it was; what is not finite comes back as a word.
    @Test func numbersComeBack() throws {
        try inFolder { path in
            let log = try MetricsLog(path), rng = CounterRNG(seed: 3, stream: 0)
            let values = [0, -0.0, 1, 1e16, 1e-5, 1e21, .leastNonzeroMagnitude, .greatestFiniteMagnitude, .pi]
                + (0..<500).map { Double(bitPattern: rng.bits(at: UInt64($0))) }
            for (step, value) in values.enumerated() {
                var report = StepReport.example(step)
                report.loss = value
                log.append(report)
            }
            for (value, line) in zip(values, try read(path).split(separator: "\n")) where value.isFinite {
                let found = try JSONDecoder().decode(Loss.self, from: Data(line.utf8)).value
                #expect(found.bitPattern == value.bitPattern, "\(value)")
            }
            var report = StepReport.example()
            (report.loss, report.gradientNorm, report.learningRate) = (.nan, .infinity, -.infinity)
            report.bitsPerByte = nil
            report.mfu = nil
            log.append(report)
            let last = try #require(try objects(path).last)
            #expect(last["loss_metrics/global_avg_loss"] as? String == "nan")
            #expect(last["grad_norm"] as? String == "inf")
            #expect(last["lr"] as? String == "-inf")
            #expect(last["mfu(%)"] == nil && last["train/bpb"] == nil && last["val/bpb"] == nil)
        }
    }

    /// Resumed after any step, and run to the end, the log is the uninterrupted run's.
    @Test func resumingAfterAnyStep() throws {
        try inFolder { path in
            func run(_ steps: ClosedRange<Int>, _ log: MetricsLog) {
                for step in steps {
                    log.append(.example(step), validation: step % 4 == 0
                        ? ValidationReport(step: step, loss: 1) : nil)
                }
            }
            func whole() throws -> String {
                let log = try MetricsLog(path)
                run(1...12, log)
                return try read(path)
            }
            let expected = try whole()
            for step in 0...12 {
                #expect(try whole() == expected)
                let log = try MetricsLog(path, resumingAfter: step)
                #expect(try objects(path).map { $0["step"] as? Int } == Array(1...12).prefix(step).map { $0 })
                if step < 12 { run((step + 1)...12, log) }
                #expect(try read(path) == expected)
            }
        }
    }

    /// A crash may have left any part of the last line.
    @Test func aTornLine() throws {
        try inFolder { path in
            let first = try MetricsLog(path)
            for step in 1...3 { first.append(.example(step)) }
            let whole = Array(try read(path).utf8)
            let kept = whole.split(separator: UInt8(ascii: "\n"))[..<2].reduce(0) { $0 + $1.count + 1 }
            for length in kept..<whole.count {
                try Data(whole[..<length]).write(to: URL(fileURLWithPath: path))
                let log = try MetricsLog(path, resumingAfter: 10)
                #expect(Array(try read(path).utf8) == Array(whole[..<kept]), "\(length) bytes")
                log.append(.example(3))
                #expect(Array(try read(path).utf8) == whole)
            }
            try Data("not a log\n{\"step\":1}\n".utf8).write(to: URL(fileURLWithPath: path))
            _ = try MetricsLog(path, resumingAfter: 10)
            #expect(try read(path) == "")
        }
    }

    @Test func noPlaceToWrite() throws {
        let error = #expect(throws: TelemetryError.self) { try MetricsLog("/nowhere/metrics.jsonl") }
        #expect(error?.description == "cannot open /nowhere/metrics.jsonl: No such file or directory")
        #expect(error?.kind == .running)
        // Full from the first byte on: said once, and training goes on.
        let log = try MetricsLog("/dev/full")
        log.append(.example(1))
        log.append(.example(2))
        #expect(log.problem == "cannot write /dev/full: No space left on device")
    }
}
