import Base
import Corpus
import Testing

@Suite struct DocumentTableTests {
    private let header = "offset\tlength\tsplit\tpath\n"

    private func rows(_ table: String, _ text: String = "onetwo") throws -> [TableRow] {
        try documentTable(Array(table.utf8).span, path: "docs.tsv",
                          text: Array(text.utf8).span, textPath: "docs.txt")
    }

    @Test func rowsAreReadWithAnyLineEnd() throws {
        let unix = header + "0\t3\ttrain\ta\n3\t3\tvalid\tb c\n"
        for table in [unix, String(unix.dropLast()), unix.replacing("path", with: "title"),
                      unix.replacing("\n", with: "\r\n")] {
            let rows = try rows(table)
            #expect(rows.map(\.range) == [0..<3, 3..<6])
            #expect(rows.map(\.split) == [.train, .valid])
            #expect(rows.map(\.name) == ["a", "b c"])
        }
    }

    @Test func everyMismatchNamesItsLine() {
        let cases: [(String, String, String)] = [
            ("offset length\n", "onetwo", "docs.tsv line 1: expected the header"),
            (header + "0\t3\ttrain\ta\n4\t2\ttrain\tb\n", "onetwo",
             "docs.tsv line 3: offset 4, but the previous document ends at 3"),
            (header + "0\t3\ttrain\n", "onetwo", "docs.tsv line 2: expected `offset length split path`"),
            (header + "0\tthree\ttrain\ta\n", "onetwo", "docs.tsv line 2: expected `offset length split path`"),
            (header + "0\t0\ttrain\ta\n", "onetwo", "docs.tsv line 2: an empty document"),
            (header + "0\t-3\ttrain\ta\n", "onetwo", "docs.tsv line 2: an empty document"),
            (header + "0\t6\tdev\ta\n", "onetwo", "docs.tsv line 2: split `dev` is none of train, valid, test"),
            (header + "0\t7\ttrain\ta\n", "onetwo",
             "docs.tsv line 2: the document ends at byte 7, but docs.txt has 6 bytes"),
            (header + "0\t3\ttrain\ta\n", "onetwo",
             "docs.tsv line 2: the last document ends at byte 3, but docs.txt has 6 bytes"),
            (header, "onetwo", "docs.tsv line 1: the last document ends at byte 0, but docs.txt has 6 bytes"),
            ("", "onetwo", "docs.tsv line 0: the last document ends at byte 0"),
            (header + "0\t1\ttrain\ta\n1\t1\ttrain\tb\n", "é",
             "docs.tsv line 3: byte 1 of docs.txt is within a character"),
            (header + "0\t9223372036854775807\ttrain\ta\n9223372036854775807\t1\ttrain\tb\n", "onetwo",
             "docs.tsv line 2: the document ends at byte 9223372036854775807, but docs.txt has 6 bytes"),
        ]
        for (table, text, expected) in cases {
            let message = complaint { _ = try rows(table, text) }
            #expect(message?.hasPrefix(expected) == true, "\(table): \(message ?? "no error")")
        }
    }
}
