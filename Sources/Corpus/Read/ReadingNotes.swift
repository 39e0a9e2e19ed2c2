import Base

/// What was passed over or guessed while sources were read: said once, each with a count and the first name, so that
/// half a folder cannot go missing without a word.
package struct ReadingNotes: Equatable, Sendable {
    /// Why a file, or a part of one, was not taken as it stands.
    package enum Reason: CaseIterable, Sendable {
        case utf16, notUTF8, binary, empty, plainJSON, double, dangling, unreadableName, heldOut

        /// What follows the count and "files", or "file".
        var text: String {
            switch self {
            case .utf16: "in UTF-16 passed over; convert with iconv -f UTF-16 -t UTF-8"
            case .notUTF8: "not in UTF-8 passed over; convert text in Latin-1 with iconv -f ISO-8859-1 -t UTF-8"
            case .binary: "with zero bytes passed over, being no text"
            case .empty: "without a byte passed over"
            case .plainJSON: "of JSON passed over, having no object with a `text` on each line"
            case .double: "or folders reached a second time, by a link, taken once"
            case .dangling: "passed over, being links to nothing, or no files"
            case .unreadableName: "passed over, with a name that is not UTF-8"
            case .heldOut: "of tokens held out for validation, having val in the name"
            }
        }
    }

    private var found: [Reason: (count: Int, first: String)] = [:]
    private var markers: [String: (count: Int, first: String)] = [:]

    package init() {}

    package mutating func add(_ reason: Reason, _ path: String) { found[reason, default: (0, path)].count += 1 }

    package mutating func add(_ other: ReadingNotes) {
        for (reason, entry) in other.found {
            let known = found[reason]
            found[reason] = ((known?.count ?? 0) + entry.count, known?.first ?? entry.first)
        }
        for (marker, entry) in other.markers {
            let known = markers[marker]
            markers[marker] = ((known?.count ?? 0) + entry.count, known?.first ?? entry.first)
        }
    }

    /// Separators of documents that other programs write into their texts.
    static let separators = ["<|endoftext|>", "<|end_of_text|>", "</s>"]
    /// So many are no accident, and no text about tokenizers.
    private static let suspicious = 10

    /// Counts written-out separators in a document.
    mutating func look(at text: Span<UInt8>, _ path: String) {
        for marker in Self.separators {
            let count = occurrences(of: Array(marker.utf8), in: text).count
            if count > 0 { markers[marker, default: (0, path)].count += count }
        }
    }

    /// A line for each kind, in a fixed order.
    package var lines: [String] {
        var lines = Reason.allCases.compactMap { reason in
            found[reason].map { "\(Units.grouped($0.count)) file\($0.count == 1 ? "" : "s") \(reason.text); "
                + "the first: \($0.first)" }
        }
        for marker in Self.separators {
            guard let entry = markers[marker], entry.count >= Self.suspicious else { continue }
            lines.append("\(marker) stands \(Units.grouped(entry.count)) times in the texts (the first: "
                + "\(entry.first)) and is learnt as text; if documents end there, split them by "
                + "--data.separator '\(marker)' (data prepare: --separator)")
        }
        return lines
    }

    package static func == (a: ReadingNotes, b: ReadingNotes) -> Bool { a.lines == b.lines }
}

/// Where `pattern` begins in `text`, without overlaps, ascending.
func occurrences(of pattern: [UInt8], in text: Span<UInt8>) -> [Int] {
    var places: [Int] = []
    guard let first = pattern.first else { return places }
    unsafe text.withUnsafeBytes { bytes in
        guard let base = bytes.baseAddress else { return }
        var begin = 0
        while begin + pattern.count <= bytes.count,
              let found = unsafe memchr(base + begin, Int32(first), bytes.count - begin - pattern.count + 1) {
            let place = unsafe UnsafeRawPointer(found) - base
            let isHere = unsafe pattern.withUnsafeBytes { unsafe memcmp(base + place, $0.baseAddress!, $0.count) } == 0
            if isHere { places.append(place) }
            begin = place + (isHere ? pattern.count : 1)
        }
    }
    return places
}

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif
