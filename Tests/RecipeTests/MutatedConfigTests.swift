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
            #expect(line.hasPrefix("x.toml"), "\(line)")
        }
        #expect(refused > 1_000)
    }

    @Test(arguments: ["[", "[{job]", "[job", "[[job]]x", "[jo\u{1}b]", "  [", "[\"a", "[]", "[a..b]", "[a\n]"])
    func headers(_ text: String) {
        let line = load("\n" + text + "\nname = \"x\"\n")
        #expect(line?.hasPrefix("x.toml:2: not valid TOML") == true, "\(line ?? "accepted")")
    }

    /// Quotes in comments and in other texts begin none, so what follows is looked at.
    @Test(arguments: ["# \"\"\"", "separator = \"a'''b\"", "separator = 'a\"\"\"b'", "# don't, and ''' neither"])
    func headersBehindQuotes(_ text: String) {
        let line = load("[data]\n" + text + "\n[{x]\n")
        #expect(line?.hasPrefix("x.toml:3: not valid TOML") == true, "\(line ?? "accepted")")
        #expect(load("[data]\n" + text + "\n[training]\n") == nil)
    }

    /// A key's default that does not fit what was given: the line says where that was.
    @Test func contradictionsNameTheirPlace() {
        #expect(load("[model]\ndim = 100\nn_heads = 8\n")?.hasPrefix("x.toml:3: model.n_heads = 8 does") == true)
        let line = load("[model]\n\ndim = 19\n") ?? ""
        #expect(line.hasPrefix("x.toml:3: model.n_heads = ") && line.hasSuffix("does not divide model.dim = 19"))
        let flagged = #expect(throws: BadInput.self) {
            try ResolvedRecipe.load(file: nil, flags: ["--model.dim", "19"])
        }
        #expect(flagged?.description.hasPrefix("--model.dim: model.n_heads = ") == true)
        let rows = #expect(throws: BadInput.self) {
            let text = "[training]\nglobal_batch_size = 2\n"
            try ResolvedRecipe.load(text: text, name: "x.toml").requireRows(worldSize: 3)
        }
        #expect(rows?.description.hasPrefix("x.toml:2: training.global_batch_size = 2 leaves some") == true)
    }

    /// Where a list's value should be, a brace would end the process; within texts and comments it is a character.
    @Test(arguments: ["odds = [}", "odds = [1, }", "odds = {a = [ }}", "paths = [\"\"\"a\"\"\", }]", "x = '''a\n''' }"])
    func braces(_ text: String) {
        let line = load("[data]\n" + text + "\n")
        #expect(line?.contains("not valid TOML: a } that closes nothing") == true, "\(line ?? "accepted")")
    }

    @Test func bracesInTexts() {
        #expect(load("[data]\nseparator = \"{\\\"}\" # }\n[job] # {\nname = 'a' # '}'\n") == nil)
        #expect(load("[data]\nseparator = '''\n{'\n}'''\n") == nil)
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
