#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// What the descriptor that people look at can show.
public struct Terminal: Equatable, Sendable {
    /// Columns; nil if it is a file, a pipe, or a terminal that cannot go back to the start of a line.
    public var columns: Int?
    /// False where NO_COLOR (no-color.org) asks for none.
    public var color: Bool
    /// Whether the locale lets a bar be drawn with lines instead of letters.
    public var unicode: Bool

    public init(columns: Int?, color: Bool = false, unicode: Bool = false) {
        self.columns = columns
        self.color = color
        self.unicode = unicode
    }

    /// Looks at the descriptor and the environment. A terminal that does not tell its width has 80 columns.
    public init(descriptor: Int32) {
        let dumb = ["", "dumb"].contains(Terminal.variable("TERM") ?? "")
        guard isatty(descriptor) == 1, !dumb else {
            self.init(columns: nil)
            return
        }
        // The first of the three that is set decides, as in setlocale(3).
        let locales = ["LC_ALL", "LC_CTYPE", "LANG"].compactMap(Terminal.variable)
        let locale = locales.first { !$0.isEmpty }?.uppercased() ?? ""
        self.init(columns: Terminal.width(of: descriptor),
                  color: (Terminal.variable("NO_COLOR") ?? "").isEmpty,
                  unicode: locale.contains("UTF-8") || locale.contains("UTF8"))
    }

    /// The columns now.
    package static func width(of descriptor: Int32) -> Int {
        var size = winsize()
        let known = unsafe ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0
        return known ? Int(size.ws_col) : 80
    }

    private static func variable(_ name: String) -> String? {
        unsafe getenv(name).map { unsafe String(cString: $0) }
    }
}
