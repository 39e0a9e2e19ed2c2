import Base

/// Inputs that somebody, or a disk, has spoilt: copies of a good one with bytes changed, cut out, put in and moved, and
/// with such pieces put in as parsers stumble over. A function of the seed alone.
package struct Mutation {
    private let rng: CounterRNG
    private let pieces: [[UInt8]]
    private var count: UInt64 = 0

    /// Numbers at and beyond the ends of what a machine has, in text; marks, and what closes too early.
    private static let texts = ["9223372036854775807", "9223372036854775808", "-1", "-9223372036854775808", "1e999",
                                "18446744073709551615", "4294967296", "0", "nan", "null", "\u{FEFF}", "\r\n", "\n",
                                "\0", "[", "]", "{", "}", "\"", "\\", ",", ":", "\\ud800", "\t"]
    /// The same in binary, little-endian.
    private static let words: [UInt64] = [.max, 1 << 63, 1 << 62, 1 << 32, (1 << 32) - 1, 0, 1]

    /// `more` pieces are those of the format at hand.
    package init(seed: Int, more: [String] = []) {
        rng = CounterRNG(seed: UInt64(seed), stream: 0x6D75_7461)
        pieces = (Self.texts + more).map { Array($0.utf8) }
            + Self.words.map { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * UInt64($0))) } }
    }

    private mutating func draw(_ below: Int) -> Int {
        count += 1
        return rng.integer(below: below, at: count)
    }

    /// The next spoilt copy of `whole`, which is not empty.
    package mutating func next(of whole: [UInt8]) -> [UInt8] {
        var bytes = whole
        for _ in 0...draw(3) where !bytes.isEmpty {
            let place = draw(bytes.count)
            switch draw(6) {
            case 0: bytes[place] = UInt8(draw(256))
            case 1: bytes.removeSubrange(place..<min(bytes.count, place + 1 + draw(40)))
            case 2: bytes.insert(contentsOf: pieces[draw(pieces.count)], at: place)
            case 3:
                let piece = pieces[draw(pieces.count)]
                bytes.replaceSubrange(place..<min(bytes.count, place + piece.count), with: piece)
            case 4: bytes.removeSubrange(place...)
            default:
                let piece = Array(bytes[place..<min(bytes.count, place + draw(60))])
                bytes.insert(contentsOf: piece, at: draw(place + 1))
            }
        }
        return bytes
    }
}
