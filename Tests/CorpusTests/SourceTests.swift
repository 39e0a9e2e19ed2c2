import Base
import Corpus
import Foundation
import Testing

@Suite struct SourceTests {
    let folder: TemporaryFolder
    init() throws { folder = try TemporaryFolder() }

    private func keys(_ source: String) throws -> [String] { try files(ofSource: source).map(\.key) }

    @Test func aFolderIsWalkedInTheOrderOfBytes() throws {
        for name in ["b.txt", "a/z.md", "a.txt", "B.txt", "a/é.txt", "a/b/c.swift"] {
            try folder.write(name, "text of \(name)")
        }
        #expect(try keys(folder.path) == ["B.txt", "a/b/c.swift", "a/z.md", "a/é.txt", "a.txt", "b.txt"])
        #expect(try keys(folder.path + "/a") == ["b/c.swift", "z.md", "é.txt"])
        let texts = try SourceDocuments([folder.path])
        #expect(texts.documents.count == 6)
        #expect(Array(texts.text[texts.documents[2].range]) == Array("text of a/z.md".utf8))
    }

    @Test func foldersSkipWhatIsNotText() throws {
        try folder.write("good.txt", "text")
        try folder.write(".hidden/x.txt", "hidden")
        try folder.write(".secret", "hidden")
        try folder.write("outputs/run/metrics.jsonl", "built")
        try folder.write("build/log", "built")
        try folder.write("empty.txt", "")
        try folder.write("zero.bin", [65, 0, 66])
        try folder.write("latin1.txt", [0x63, 0x61, 0x66, 0xE9])
        let loop = folder.path + "/loop"
        try FileManager.default.createSymbolicLink(atPath: loop, withDestinationPath: folder.path)
        let texts = try SourceDocuments([folder.path])
        #expect(String(decoding: texts.text, as: UTF8.self) == "text")
    }

    @Test func tablesGiveDocumentsAndSplits() throws {
        try folder.write("c/docs.txt", "onetwothree")
        let table = "offset\tlength\tsplit\tpath\n0\t3\ttrain\ta\n3\t3\tvalid\tb\n6\t5\ttest\tc\n"
        try folder.write("c/docs.tsv", table)
        try folder.write("c/README.md", "not part of the corpus")
        for source in ["c", "c/docs.txt", "c/docs.tsv"] {
            let texts = try SourceDocuments([folder.path + "/" + source])
            #expect(texts.documents.map(\.range) == [0..<3, 3..<6, 6..<11])
            #expect(texts.documents.map(\.split) == [.train, .valid, .test])
            #expect(String(decoding: texts.text, as: UTF8.self) == "onetwothree")
        }
        try folder.write("w/valid.txt", "four")
        try folder.write("w/valid.docs.tsv", "offset\tlength\tsplit\ttitle\n0\t4\tvalid\ta title\n")
        let both = try SourceDocuments([folder.path + "/w/valid.txt", folder.path + "/c"])
        #expect(both.documents.map(\.range) == [0..<4, 4..<7, 7..<10, 10..<15])
        #expect(try SourceDocuments([folder.path]).documents.count == 4)
    }

    @Test func sourcesThatCannotBeReadSaySo() throws {
        func message(_ path: String) -> String? { complaint { _ = try SourceDocuments([path]) } }
        let missing = folder.path + "/missing.txt"
        #expect(message(missing) == "cannot open \(missing): No such file or directory")
        let empty = try folder.write("e/empty.txt", "")
        #expect(message(empty) == "\(empty) is empty: there is nothing to train on")
        #expect(message(folder.path + "/e")?.hasPrefix("no text in folder \(folder.path)/e:") == true)
        let broken = try folder.write("broken.txt", Array("abc é".utf8) + [0xC3, 0x28])
        let advice = "begins no valid character; if it is Latin-1, convert it: iconv -f ISO-8859-1 -t UTF-8"
        #expect(message(broken) == "\(broken) is not UTF-8 text: byte 6 \(advice)")
        let cut = try folder.write("cut.txt", Array("abc".utf8) + [0xE2, 0x82])
        #expect(message(cut) == "\(cut) is not UTF-8 text: byte 3 \(advice)")
        #expect(message("/dev/null") == "/dev/null is not a regular file; name a text file or a folder")
        #expect(complaint { _ = try SourceDocuments([]) } == "no data: name a text file or a folder of texts")
    }

    @Test(.enabled(if: geteuid() != 0, "root reads every file"))
    func unreadableFilesSaySo() throws {
        let path = try folder.write("locked.txt", "text")
        try FileManager.default.setAttributes([.posixPermissions: 0], ofItemAtPath: path)
        for source in [path, folder.path] {
            let message = complaint { _ = try SourceDocuments([source]) }
            #expect(message == "cannot open \(path): Permission denied")
        }
    }

    @Test func theFingerprintIsOfNamesTextsAndSplits() throws {
        let one = try folder.write("one/a.txt", "text"), same = try folder.write("two/a.txt", "text")
        let other = try folder.write("one/b.txt", "text"), longer = try folder.write("three/a.txt", "text.")
        let prints = try [one, same, other, longer].map { try SourceDocuments([$0]).fingerprint }
        #expect(prints[0] == prints[1])
        #expect(Set(prints).count == 3)
    }
}
