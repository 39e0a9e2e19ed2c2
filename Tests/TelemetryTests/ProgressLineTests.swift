import Base
import Glibc
import Telemetry
import Testing

@Suite struct ProgressLineTests {
    private func render(_ columns: Int, _ report: StepReport = .example()) -> String {
        ProgressLine.render(report, columns, Terminal(columns: columns))
    }

    /// Several ranks: each one's rate, the share of the step spent waiting, and what the backward hid.
    @Test func ranksSayWhatTheNetworkCosts() {
        var report = StepReport.example()
        (report.ranks, report.waitSeconds, report.hiddenShare, report.seconds) = (2, 0.025, 0.876, 0.5)
        let text = written { descriptor in
            var line = ProgressLine(descriptor: descriptor, logFrequency: 1)
            line.update(report)
            line.finish()
        }
        #expect(text.contains("  12.3 k tokens/s    6.2 k each  wait  5.0%  hidden  88%  "), "\(text)")
    }

    @Test func everyWidthThatMatters() {
        let full = " 42%  step  840/2000  loss  2.3145   1.672 bits/byte   12.3 k tokens/s    61.2 GFLOP/s  "
            + "MFU  31.4%  ETA    4:05"
        #expect(render(200) == "[===========-----------------]  " + full)
        #expect(render(full.count + 1) == full)
        #expect(render(100) == " 42%  step  840/2000  loss  2.3145   1.672 bits/byte   12.3 k tokens/s  "
            + "MFU  31.4%  ETA    4:05")
        #expect(render(80) == "step  840/2000  loss  2.3145   1.672 bits/byte   12.3 k tokens/s  ETA    4:05")
        #expect(render(60) == "step  840/2000  loss  2.3145   1.672 bits/byte  ETA    4:05")
        #expect(render(40) == "step  840/2000  loss  2.3145")
        #expect(render(20) == "step  840/2000")
        #expect(render(10) == "step  840")
    }

    /// Every width: never a full line, and room that a bar could fill is never left.
    @Test func neverTooLong() {
        for columns in 1...250 {
            let line = render(columns)
            #expect(line.count < columns, "\(columns)")
            #expect(line.contains("loss") || columns < 29)
        }
    }

    /// The columns stand still over a whole run, whatever the values do.
    @Test func noJitter() {
        let rng = CounterRNG(seed: 1, stream: 1)
        let place = render(200).firstIndex(of: "E")
        for step in 1...2000 {
            func draw(_ index: Int, _ low: Double, _ high: Double) -> Double {
                low * exp(log(high / low) * Double(rng.bits(at: UInt64(step * 8 + index)) >> 11) * 0x1p-53)
            }
            var report = StepReport.example(step)
            report.loss = draw(0, 1e-5, 99)
            report.bitsPerByte = draw(1, 1e-5, 99)
            report.tokensPerSecond = draw(2, 1, 9e8)
            report.gflops = draw(3, 0.01, 9000)
            report.mfu = draw(4, 1e-3, 1)
            report.eta = step == 1 ? nil : draw(5, 0.1, 35_000)
            #expect(render(200, report).count == render(200).count, "\(render(200, report))")
            #expect(render(200, report).firstIndex(of: "E") == place)
        }
    }

    @Test func theBarFills() {
        func bar(_ step: Int, _ unicode: Bool) -> String {
            let terminal = Terminal(columns: 200, unicode: unicode)
            return String(ProgressLine.render(.example(step, of: 30), 200, terminal).prefix(30))
        }
        for step in 0...31 {
            let done = min(step, 30)
            let lines = String(repeating: "━", count: done) + String(repeating: "─", count: 30 - done)
            #expect(bar(step, true) == lines)
            let inside = done * 28 / 30
            #expect(bar(step, false) == "[" + String(repeating: "=", count: inside)
                + String(repeating: "-", count: 28 - inside) + "]")
        }
    }

    @Test func oddValues() {
        var report = StepReport.example(0, of: 0)
        report.loss = .nan
        report.gflops = .infinity
        report.bitsPerByte = nil
        report.mfu = nil
        report.eta = .infinity
        report.tokensPerSecond = 0
        #expect(render(100, report)
            == "[" + String(repeating: "-", count: 20) + "]    0%  step 0/0  loss     nan  "
            + "      0 tokens/s     inf GFLOP/s  ETA       ?")
    }

    /// Without NO_COLOR labels are dim; the characters and their places are the same.
    @Test func colorsChangeNoCharacter() {
        for columns in [40, 80, 120, 200] {
            let colored = ProgressLine.render(.example(), columns, Terminal(columns: columns, color: true))
            #expect(colored.contains("\u{1B}["))
            #expect(Screen(colored).text == [render(columns)])
        }
        #expect(!render(200).contains("\u{1B}"))
    }

    @Test func plainLines() {
        let output = written { descriptor in
            var line = ProgressLine(descriptor: descriptor, logFrequency: 10)
            line.message("training")
            for step in 1...25 { line.update(.example(step, of: 2000), now: 0) }
            line.message("saved")
            line.finish()
            line.finish()
        }
        func text(_ step: String) -> String {
            "step \(step)/2000  loss  2.3145   1.672 bits/byte  grad norm   0.912  lr 3.00e-04   "
                + "12.3 k tokens/s    61.2 GFLOP/s  MFU  31.4%  ETA    4:05\n"
        }
        #expect(output
            == "training\n" + text("   1") + text("  10") + text("  20") + "saved\n" + text("  25"))
    }

    /// The last step of a run is shown once, whether or not it is a multiple.
    @Test func plainLinesEndWithTheLastStep() {
        for frequency in 1...12 {
            let output = written { descriptor in
                var line = ProgressLine(descriptor: descriptor, logFrequency: frequency)
                for step in 1...10 { line.update(.example(step, of: 10), now: 0) }
                line.finish()
            }
            let shown = output.split(separator: "\n").map { line in
                Int(line.dropFirst(5).prefix(2).drop { $0 == " " })!
            }
            #expect(shown == (1...10).filter { $0 == 1 || $0 == 10 || $0 % frequency == 0 })
        }
    }

    @Test func atMostTenTimesASecond() {
        let output = written { descriptor in
            var line = ProgressLine(descriptor: descriptor, logFrequency: 1, terminal: Terminal(columns: 80))
            for step in 1...1000 { line.update(.example(step), now: Double(step) * 0.001) }
            line.finish()
        }
        #expect(output.filter { $0 == "\r" }.count == 11)
        #expect(Screen(output).text == [render(80, .example(1000)), ""])
    }

    /// Any mixture of steps and messages leaves exactly the messages, in order, and the last step below.
    @Test func messagesLeaveNoGarbage() {
        for seed in 0..<40 {
            let rng = CounterRNG(seed: UInt64(seed), stream: 2), columns = 30 + 5 * seed
            var expected: [String] = [], step = 0
            let output = written { descriptor in
                var line = ProgressLine(descriptor: descriptor, logFrequency: 1,
                                        terminal: Terminal(columns: columns, color: seed % 2 == 0))
                for event in 0..<60 {
                    if rng.integer(below: 3, at: UInt64(event)) == 0 {
                        let length = rng.integer(below: 20, at: UInt64(1000 + event))
                        let text = String(repeating: "m", count: length)
                        expected.append(text)
                        line.message(text)
                    } else {
                        step += 1
                        line.update(.example(step), now: Double(event) * 0.06)
                    }
                }
                line.finish()
            }
            let screen = Screen(output, columns: columns)
            #expect(screen.wrapped == 0)
            #expect(screen.text == expected + [render(columns, .example(step)), ""])
        }
    }

    /// A closed reader or a bad descriptor is nobody's business.
    @Test func nothingToWriteTo() {
        var line = ProgressLine(descriptor: -1, logFrequency: 1)
        line.update(.example())
        line.message("text")
        line.finish()
    }

    /// The kernel's width, and 80 where it does not say.
    @Test func widthOfATerminal() throws {
        let descriptor = unsafe open("/dev/ptmx", O_RDWR | O_NOCTTY)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        #expect(Terminal.width(of: descriptor) == 80)
        var size = winsize(ws_row: 24, ws_col: 133, ws_xpixel: 0, ws_ypixel: 0)
        try #require(unsafe ioctl(descriptor, UInt(TIOCSWINSZ), &size) == 0)
        #expect(Terminal.width(of: descriptor) == 133)
        #expect(Terminal.width(of: -1) == 80)
        _ = written { #expect(Terminal(descriptor: $0) == Terminal(columns: nil)) }
    }
}
