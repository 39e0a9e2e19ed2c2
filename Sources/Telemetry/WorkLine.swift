import Base

/// How far a piece of work is that knows its size: a line drawn in place on a terminal, at most ten times a second;
/// elsewhere a plain line every ten seconds and one at the end.
///
///     [=========-----------]  46%  9.2 MiB of 20.0 MiB  12.1 MiB/s  ETA 0:01  shard 3/7
public struct WorkLine {
    private let descriptor: Int32
    private let terminal: Terminal
    private let started: Double
    private var lastDraw: Double?
    private var isOpen = false

    /// `terminal` is found out from the descriptor unless it is given.
    public init(descriptor: Int32, terminal: Terminal? = nil, now: Double = MonotonicClock.seconds()) {
        self.descriptor = descriptor
        self.terminal = terminal ?? Terminal(descriptor: descriptor)
        started = now
    }

    /// `total` may be unknown; `detail` goes to the end of the line.
    public mutating func update(done: Int, total: Int?, detail: String, now: Double = MonotonicClock.seconds()) {
        let isEnd = total.map { done >= $0 } ?? false
        let interval = terminal.columns == nil ? 10 : 0.1
        guard isEnd || now - (lastDraw ?? (terminal.columns == nil ? started : -1)) >= interval else { return }
        lastDraw = now
        let text = WorkLine.render(done: done, total: total, detail: detail, seconds: now - started, terminal)
        guard terminal.columns != nil else {
            writeAll(text + "\n", to: descriptor)
            return
        }
        writeAll("\r" + text + "\u{1B}[K", to: descriptor)
        isOpen = true
    }

    /// Leaves the last line standing, and the cursor below it.
    public mutating func finish() {
        if isOpen { writeAll("\n", to: descriptor) }
        isOpen = false
    }

    package static func render(done: Int, total: Int?, detail: String, seconds: Double,
                               _ terminal: Terminal) -> String {
        let rate = seconds > 0 ? Double(done) / seconds : 0
        var text = Units.bytes(done)
        if let total {
            let rest = rate > 0 ? Units.duration(Double(max(total - done, 0)) / rate) : "?"
            text = percent(done, total) + "%  " + text + " of " + Units.bytes(total) + "  "
                + Units.bytes(Int(rate)) + "/s  ETA " + rest
        }
        text += "  " + detail
        guard let columns = terminal.columns else { return text }
        let room = columns - 1 - text.count - 2
        if let total, room >= 10 {
            let width = min(room, 30), parts = total == 0 ? 0 : min(width, width * done / total)
            text = ProgressLine.bar(done: parts, of: width, terminal) + "  " + text
        }
        return String(text.prefix(max(columns - 1, 0)))
    }

    private static func percent(_ done: Int, _ total: Int) -> String {
        let percent = total == 0 ? "100" : String(min(100, 100 * done / total))
        return String(repeating: " ", count: 3 - percent.count) + percent
    }
}
