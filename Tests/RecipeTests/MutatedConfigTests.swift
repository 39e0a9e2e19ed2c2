import Base
import Foundation
import Mutation
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
            // As the program prints it: a value may have a line end in it.
            return oneLine("\(error)")
        }
    }

    @Test func mutations() {
        let whole = Array(Self.whole.utf8)
        var mutation = Mutation(seed: 5, more: ["[[", "[{", "=", "'''", "\"\"\"", "\u{1}", "\u{7F}", ".", "[\n"])
        var refused = 0
        for _ in 0..<4_000 {
            let bytes = mutation.next(of: whole)
            guard let line = load(String(decoding: bytes, as: UTF8.self)) else { continue }
            refused += 1
            // What contradicts itself only as a whole is named by its keys.
            #expect(line.hasPrefix("x.toml") || Recipe.keys.contains { line.contains($0.name) }, "\(line)")
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
