import Foundation

/// Unicode's normal form C: where a letter and its marks have a scalar of their own, that scalar, and marks in their
/// canonical order (Unicode Standard Annex 15). Qwen 2's tokenizer asks for it.
///
/// Nearly all text is in that form as it stands, and text below U+0300 always is; so bytes are looked at first, and
/// only a text with a later scalar becomes a `String`. The tables are those of the system's Foundation, which may know
/// later scalars than a tokenizer's author did; what both know composes alike for ever (Unicode's stability policy).
enum CanonicalComposition {
    /// The first byte of U+0300, below which nothing composes or is reordered.
    private static let firstMark: UInt8 = 0xCC

    /// `text` in form C; nil where it is so already, or is not UTF-8.
    static func composed(_ text: Span<UInt8>) -> [UInt8]? {
        guard text.indices.contains(where: { text[$0] >= firstMark }) else { return nil }
        let bytes = unsafe text.withUnsafeBufferPointer { unsafe Array($0) }
        guard let string = String(validating: bytes, as: UTF8.self) else { return nil }
        let composed = Array(withWholeSyllables(string.precomposedStringWithCanonicalMapping).utf8)
        return composed == bytes ? nil : composed
    }

    /// Foundation leaves a Hangul syllable without a final consonant (LV) apart from one that follows it (T); by
    /// Unicode's chapter 3.12 the two are one syllable.
    private static func withWholeSyllables(_ text: String) -> String {
        let syllables: ClosedRange<UInt32> = 0xAC00...0xD7A3, finals: ClosedRange<UInt32> = 0x11A8...0x11C2
        guard text.unicodeScalars.contains(where: { finals.contains($0.value) }) else { return text }
        var scalars = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            if finals.contains(scalar.value), let last = scalars.last?.value, syllables.contains(last),
               (last - 0xAC00) % 28 == 0, let whole = Unicode.Scalar(last + scalar.value - 0x11A7) {
                scalars.removeLast()
                scalars.append(whole)
            } else {
                scalars.append(scalar)
            }
        }
        return String(scalars)
    }
}
