import Base
import Foundation
import Recipe
import Testing

/// Configs that somebody, or a disk, has spoilt: each is taken or refused in one line, and none ends the process.
@Suite struct MutatedConfigTests {
    private static let whole = Recipe().toml

    private func load(_ text: String) -> String? {
        do {
            _ = try ResolvedRecipe.load(text: text, name: "x.toml")
            return nil
        } catch {
            return "\(error)"
        }
    }

    @Test func mutations() {
        let whole = Array(Self.whole.utf8), rng = CounterRNG(seed: 5, stream: 0)
        let pieces = ["[", "]", "[[", "[{", "=", "\"", "'''", "\"\"\"", "\\", "\u{1}", "\u{7F}", "\n", "\r\n", ".", "{",
                      "9223372036854775808", "1e999", "nan", "\u{FEFF}", "[\n", "\0"].map { Array($0.utf8) }
        var refused = 0, count: UInt64 = 0
        func draw(_ below: Int) -> Int {
            count += 1
            return rng.integer(below: below, at: count)
        }
        for _ in 0..<4_000 {
            var bytes = whole
            for _ in 0...draw(3) {
                let place = draw(bytes.count)
                switch draw(4) {
                case 0: bytes[place] = UInt8(draw(256))
                case 1: bytes.removeSubrange(place..<min(bytes.count, place + 1 + draw(40)))
                case 2: bytes.insert(contentsOf: pieces[draw(pieces.count)], at: place)
                default:
                    let piece = Array(bytes[place..<min(bytes.count, place + draw(60))])
                    bytes.insert(contentsOf: piece, at: draw(place + 1))
                }
            }
            guard let line = load(String(decoding: bytes, as: UTF8.self)) else { continue }
            refused += 1
            #expect(!line.contains("\n") && line.hasPrefix("x.toml"), "\(line)")
        }
        #expect(refused > 1_000)
    }

    @Test(arguments: ["[", "[{job]", "[job", "[[job]]x", "[jo\u{1}b]", "  [", "[\"a", "[]", "[a..b]", "[a\n]"])
    func headers(_ text: String) {
        let line = load("\n" + text + "\nname = \"x\"\n")
        #expect(line?.hasPrefix("x.toml:2: not valid TOML") == true, "\(line ?? "accepted")")
    }

    /// A byte order mark and CRLF line ends change nothing, nor do brackets within texts.
    @Test func marksAndLineEnds() throws {
        let text = "[job] # a comment\nname = \"a-b\"\n\n[ training ]\nsteps = 7\n"
            + "[data]\nseparator = \"\"\"\n[x\n\"\"\"\n"
        let plain = try ResolvedRecipe.load(text: text, name: "x.toml").recipe
        let marked = "\u{FEFF}" + text.replacing("\n", with: "\r\n")
        let other = try ResolvedRecipe.load(text: marked, name: "x.toml").recipe
        #expect(plain == other && plain.training.steps == 7 && plain.data.separator == "[x\n")
    }
}
