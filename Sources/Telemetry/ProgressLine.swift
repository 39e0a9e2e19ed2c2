import Base

/// Shows how a run is going.
///
/// On a terminal it is one line that is drawn again and again in place, at most ten times a second:
///
///     [========------------]  42%  step  840/2000  loss  2.3145   1.672 bits/byte  12.3 k tokens/s ...
///
/// Elsewhere (a file, a pipe, a job's log) it is a plain line for the first, the last and every
/// `logFrequency`-th step. The caller hands in every step and every message; this type decides what is seen.
public struct ProgressLine {
    private let descriptor: Int32
    /// Takes what is written without waiting for the reader; nil writes at once.
    private let queue: OutputQueue?
    private let terminal: Terminal
    /// Whether the width is the kernel's to say, each time anew: people resize windows.
    private let asksWidth: Bool
    private let logFrequency: Int
    /// What a repaint shows; nil before the first step and after `finish`.
    private var latest: StepReport?
    private var latestIsShown = false
    private var lastDraw: Double?

    /// Seconds between repaints.
    private static let interval = 0.1

    /// `terminal` is found out from the descriptor unless it is given.
    public init(descriptor: Int32, logFrequency: Int, terminal: Terminal? = nil, queue: OutputQueue? = nil) {
        self.descriptor = descriptor
        self.queue = queue
        self.terminal = terminal ?? Terminal(descriptor: descriptor)
        asksWidth = terminal == nil
        self.logFrequency = max(1, logFrequency)
    }

    /// `now` is in seconds on any clock that does not go back.
    public mutating func update(_ report: StepReport, now: Double = MonotonicClock.seconds()) {
        let isFirst = latest == nil
        latest = report
        latestIsShown = false
        guard terminal.columns != nil else {
            if isFirst || report.step % logFrequency == 0 || report.step >= report.totalSteps { writePlain() }
            return
        }
        if let lastDraw, now - lastDraw < ProgressLine.interval { return }
        lastDraw = now
        draw()
    }

    /// Prints a line (or several) above the progress line, which stays the last.
    public mutating func message(_ text: String) {
        guard terminal.columns != nil, latest != nil else {
            write(text + "\n")
            return
        }
        write(ProgressLine.erase + text + "\n")
        draw()
    }

    /// Leaves the last step standing, and the cursor below it. To be called before others write.
    public mutating func finish() {
        guard latest != nil else { return }
        if terminal.columns == nil {
            if !latestIsShown { writePlain() }
        } else {
            draw()
            write("\n")
        }
        latest = nil
        lastDraw = nil
    }

    private func write(_ text: String) {
        if let queue { queue.write(text) } else { writeAll(text, to: descriptor) }
    }

    private mutating func writePlain() {
        guard let latest else { return }
        write(ProgressLine.plain(latest) + "\n")
        latestIsShown = true
    }

    private mutating func draw() {
        guard let latest, let known = terminal.columns else { return }
        let columns = asksWidth ? Terminal.width(of: descriptor) : known
        let line = ProgressLine.render(latest, columns, terminal)
        write("\r" + line + ProgressLine.eraseRest)
        latestIsShown = true
    }

    private static let eraseRest = "\u{1B}[K"
    private static let erase = "\r" + eraseRest
}

extension ProgressLine {
    /// The line for a file: all fields, no bar.
    package static func plain(_ report: StepReport) -> String {
        var fields = Array(report.fields.dropFirst())
        fields.insert(contentsOf: report.optimizerFields, at: report.bitsPerByte == nil ? 2 : 3)
        return fields.map(\.text).joined(separator: "  ")
    }

    /// The line for a terminal: fewer than `columns` columns, because a full one would wrap. The fields are
    /// left out in the order of their rank; if there is room left, a bar of 10 to 30 columns goes first.
    package static func render(_ report: StepReport, _ columns: Int, _ terminal: Terminal) -> String {
        var fields = report.fields
        func width() -> Int { fields.reduce(-2) { $0 + $1.width + 2 } }
        while fields.count > 1, width() >= columns {
            let last = fields.map(\.rank).max()!
            fields.remove(at: fields.lastIndex { $0.rank == last }!)
        }
        guard width() < columns else { return String(fields[0].text.prefix(max(columns - 1, 0))) }
        let line = fields.map { dimmed($0, terminal) }.joined(separator: "  ")
        let room = columns - 1 - width() - 2
        return room < 10 ? line : bar(report, min(room, 30), terminal) + "  " + line
    }

    private static func dimmed(_ field: Field, _ terminal: Terminal) -> String {
        guard terminal.color else { return field.text }
        func dim(_ text: String) -> String { text.isEmpty ? "" : "\u{1B}[2m" + text + "\u{1B}[0m" }
        return dim(field.label) + field.value + dim(field.unit)
    }

    /// `width` columns, filled as far as the run has come.
    private static func bar(_ report: StepReport, _ width: Int, _ terminal: Terminal) -> String {
        bar(done: report.parts(of: terminal.unicode ? width : width - 2), of: width, terminal)
    }

    /// `width` columns, `done` of those within the frame filled.
    static func bar(done: Int, of width: Int, _ terminal: Terminal) -> String {
        let inside = terminal.unicode ? width : width - 2
        let done = min(done, inside)
        let full = String(repeating: terminal.unicode ? "━" : "=", count: done)
        let empty = String(repeating: terminal.unicode ? "─" : "-", count: inside - done)
        let bar = terminal.color
            ? "\u{1B}[36m" + full + "\u{1B}[0m\u{1B}[2m" + empty + "\u{1B}[0m" : full + empty
        return terminal.unicode ? bar : "[" + bar + "]"
    }
}
