import Base
import Corpus
import Testing

@Suite struct TokenizerTests {
    @Test func bytesAreTheirOwnTokens() {
        let tokenizer = ByteTokenizer()
        let all = (0...255).map { UInt8($0) }
        var tokens: [Int32] = []
        tokenizer.encode(all.span, into: &tokens)
        #expect(tokens == (0...255).map { Int32($0) })
        #expect(tokenizer.decode(tokens + [256, -1, 1000]) == all)
        #expect(tokenizer.encode("é") == [0xC3, 0xA9])
        #expect(tokenizer.vocabularySize == 257 && tokenizer.endOfDocument == 256)
    }

    @Test func theByteAlphabetIsGPT2s() {
        let text = ByteAlphabet.text([0, 32, 33, 126, 127, 160, 161, 172, 173, 174, 255])
        #expect(text.unicodeScalars.map(\.value)
            == [0x100, 0x120, 0x21, 0x7E, 0x121, 0x142, 0xA1, 0xAC, 0x143, 0xAE, 0xFF])
        for byte in 0...255 {
            #expect(ByteAlphabet.bytes(of: ByteAlphabet.text([UInt8(byte)])) == [UInt8(byte)])
        }
        #expect(Set(ByteAlphabet.scalars).count == 256)
        #expect(ByteAlphabet.bytes(of: " ") == nil && ByteAlphabet.bytes(of: "ń") == nil)
    }

    @Test func theByteTokenizerSurvivesItsJSON() throws {
        let copy = try parseTokenizer(json: ByteTokenizer().json, path: "tokenizer.json")
        #expect(copy is ByteTokenizer)
        for bad in ["", "{}", "[1]", #"{"model":{"vocab":[]}}"#] {
            let message = complaint { _ = try parseTokenizer(json: Array(bad.utf8), path: "t.json") }
            #expect(message?.hasPrefix("t.json is not a tokenizer.json") == true)
        }
    }
}
