/// GPT-2's way to cut text into words before merging, which is the regular expression
///
///     's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
///
/// written by hand over UTF-8: a word is a contraction's end, or a run of letters, of numbers or of other
/// characters, each with one space before it if there is one; of a run of white space that something
/// follows, the last character is left for that.
package enum WordSplitter {
    package enum ScalarClass: UInt8 {
        case other, letter, number, space
    }

    /// The class of every scalar value, a byte each.
    package static let classes: [UInt8] = UnicodeClasses.table()

    /// Where the word that begins at `begin` < text.count ends. `classes` is the table above, handed in
    /// because a look-up of a global costs as much as the rest.
    package static func wordEnd(_ text: Span<UInt8>, from begin: Int, classes: Span<UInt8>) -> Int {
        let space = ScalarClass.space.rawValue
        if text[begin] == UInt8(ascii: "'"), let end = contractionEnd(text, from: begin) { return end }
        var (kind, end) = scalar(text, at: begin, classes)
        if text[begin] == UInt8(ascii: " "), end < text.count {
            let next = scalar(text, at: end, classes)
            if next.kind != space { (kind, end) = next }
        }
        var last = begin
        while end < text.count {
            let next = scalar(text, at: end, classes)
            guard next.kind == kind else {
                // White space before something: all but its last character, unless that is all.
                return kind == space && last > begin ? last : end
            }
            last = end
            end = next.end
        }
        return end
    }

    /// The end of `'s`, `'t`, `'re`, `'ve`, `'m`, `'ll` or `'d`, if one begins at `begin`. `folds`: in either
    /// case, and with U+017F for s.
    @inline(__always)
    static func contractionEnd(_ text: Span<UInt8>, from begin: Int, folds: Bool = false) -> Int? {
        guard begin + 1 < text.count else { return nil }
        // The bit that tells ASCII's cases apart makes a letter of no other byte than that letter's two.
        let fold: UInt8 = folds ? 0x20 : 0
        let second = begin + 2 < text.count ? text[begin + 2] : 0
        switch (text[begin + 1] | fold, second | fold) {
        case (UInt8(ascii: "s"), _), (UInt8(ascii: "t"), _), (UInt8(ascii: "m"), _), (UInt8(ascii: "d"), _):
            return begin + 2
        case (UInt8(ascii: "r"), UInt8(ascii: "e")), (UInt8(ascii: "v"), UInt8(ascii: "e")),
             (UInt8(ascii: "l"), UInt8(ascii: "l")):
            return begin + 3
        default:
            return folds && text[begin + 1] == 0xC5 && second == 0xBF ? begin + 3 : nil
        }
    }

    /// The class of the character at `position` and where it ends. A byte that begins no character counts as
    /// a character of its own, of no class.
    @inline(__always)
    static func scalar(_ text: Span<UInt8>, at position: Int,
                       _ classes: Span<UInt8>) -> (kind: UInt8, end: Int) {
        let first = text[position]
        if first < 0x80 { return (classes[Int(first)], position + 1) }
        return wideScalar(text, at: position, classes)
    }

    private static func wideScalar(_ text: Span<UInt8>, at position: Int,
                                   _ classes: Span<UInt8>) -> (kind: UInt8, end: Int) {
        let first = UInt32(text[position])
        let length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2
        let invalid = (kind: ScalarClass.other.rawValue, end: position + 1)
        guard first >= 0xC2, first <= 0xF4, position + length <= text.count else { return invalid }
        var value = first & (0x7F >> UInt32(length))
        for index in (position + 1)..<(position + length) {
            guard text[index] & 0xC0 == 0x80 else { return invalid }
            value = value << 6 | UInt32(text[index] & 0x3F)
        }
        return value < 0x11_0000 ? (classes[Int(value)], position + length) : invalid
    }
}
