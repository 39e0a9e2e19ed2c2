import Testing

@Suite struct HouseTests {
    /// This package keeps every rule. A failure's text says where and what to do.
    @Test(arguments: Rule.all) func theHouseKeeps(_ rule: Rule) throws {
        for line in rule.broken(try House()) { Issue.record("\(line)") }
    }

    /// The reader of the manifest sees this package as it is: itself among the targets, with its files.
    @Test func theManifestIsRead() throws {
        let house = try House()
        let names = Set(house.targets.map(\.name))
        #expect(names.isSuperset(of: ["Base", "Tensor", "HouseTests", "TensorTests", "COpenBLAS", "TestSupport"]))
        let tensor = try #require(house.targets.first { $0.name == "Tensor" })
        #expect(Set(tensor.imports) == ["Base", "COpenBLAS", "CKernels"])
        #expect(house.targets.first { $0.name == "Recipe" }?.imports.contains("TOMLKit") == true)
        #expect(house.targets.first { $0.name == "TestSupport" }?.folder == "Tests/Support/Oracle/")
        #expect(house.files["Tests/HouseTests/HouseTests.swift"] != nil)
    }

    /// The table's own arrows point up: no row names one below it, and modules with an owner are with it.
    @Test func theTableIsInOrder() {
        var above: Set<String> = []
        for (room, imports) in Plan.rooms {
            for module in imports {
                #expect(above.contains(module) || Plan.owners[module]?.contains(room) == true, "\(room) -> \(module)")
            }
            above.insert(room)
        }
    }

    // A small package that keeps every rule, and one change for each way to break one.
    private static let manifest = """
        let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
        let package = Package(
            targets: [
                // room("Ghost", ["Nobody"]),
                .target(name: "CKernels", cSettings: isa),
                system("COpenBLAS", pkgConfig: "openblas", apt: "libopenblas-dev"),
                room("Base", []),
                room("Tensor", ["Base", "COpenBLAS",
                                "CKernels"]),
                room("Wire", ["Base", crypto]),
                .target(name: "Help", dependencies: ["Base"], path: "Tests/Support/Help", swiftSettings: settings),
                tests("Base", ["Base", "Help"]),
                tests("Tensor", ["Tensor"]),
                tests("Wire", []),
            ]
        )
        """

    private static let files = [
        "Sources/CKernels/a.c": "int a;\n",
        "Sources/COpenBLAS/shim.h": "#include <cblas.h>\n",
        "Sources/Base/A.swift": "import Glibc\nlet a = 1\n",
        "Sources/Tensor/Kernels/B.swift":
            "import Base\nimport COpenBLAS\npackage import struct CKernels.X\nlet b = row[i]\n",
        "Sources/Wire/C.swift": "import Base\n@preconcurrency import Crypto\nlet c = 1\n",
        "Tests/Support/Help/H.swift": "import Base\nlet h = 1\n",
        "Tests/BaseTests/A.swift": "import Base\nimport Help\nimport Testing\nlet t = 1\n",
        "Tests/TensorTests/B.swift": "import Tensor\nlet t = 1\n",
        "Tests/WireTests/C.swift": "let t = 1\n",
    ]

    @Test(arguments: Rule.all) func aGoodHouseKeeps(_ rule: Rule) {
        #expect(rule.broken(House(manifest: Self.manifest, files: Self.files)) == [])
    }

    struct Break: Sendable, CustomStringConvertible {
        let rule: Rule
        /// Text of the manifest to replace, or a file to add or change.
        let place: String
        let text: String
        let line: String
        var description: String { line }
    }

    static let breaks = [
        Break(rule: .arrows, place: "room(\"Base\", [])", text: "room(\"Base\", [\"Tensor\"])",
              line: "Package.swift: Base must not depend on Tensor"),
        Break(rule: .arrows, place: "[\"Base\", crypto]", text: "[\"Base\", \"Tensor\", crypto]",
              line: "Package.swift: Wire must not depend on Tensor"),
        Break(rule: .arrows, place: "room(\"Wire\"", text: "room(\"Attic\"", line: "Package.swift: Attic is no room"),
        Break(rule: .imports, place: "Sources/Base/A.swift", text: "let x = 1\nimport Tensor\n",
              line: "Sources/Base/A.swift:2: imports Tensor, which Base's row"),
        Break(rule: .imports, place: "Sources/Base/A.swift", text: "public import enum NIOCore.X\n",
              line: "Sources/Base/A.swift:1: imports NIOCore"),
        Break(rule: .imports, place: "Tests/WireTests/C.swift", text: "import Wire\n",
              line: "Tests/WireTests/C.swift:1: imports Wire"),
        Break(rule: .imports, place: "Sources/Wire/C.swift", text: "import Testing\n",
              line: "Sources/Wire/C.swift:1: imports Testing"),
        Break(rule: .unusedArrows, place: "Sources/Wire/C.swift", text: "import Base\nlet c = 1\n",
              line: "Package.swift: Wire declares Crypto but imports it nowhere"),
        Break(rule: .foreignModules, place: "Sources/Wire/D.swift", text: "import COpenBLAS\n",
              line: "Sources/Wire/D.swift:1: COpenBLAS belongs to Tensor"),
        Break(rule: .foreignModules, place: "Sources/Tensor/D.swift", text: "import Crypto\n",
              line: "Sources/Tensor/D.swift:1: Crypto belongs to Checkpoint and Wire"),
        Break(rule: .foreignModules, place: "Sources/Base/D.swift", text: "import Foundation\n",
              line: "Sources/Base/D.swift:1: Base stays without Foundation"),
        Break(rule: .indexing, place: "Sources/Tensor/Kernels/D.swift", text: "\nx[base + i] = 0\n",
              line: "Sources/Tensor/Kernels/D.swift:2: base + i"),
        Break(rule: .indexing, place: "Sources/Tensor/Attention/D.swift", text: "x[lanes: base + i] = zero\n",
              line: "Sources/Tensor/Attention/D.swift:1: base + i"),
        Break(rule: .lengths, place: "Sources/Base/D.swift", text: String(repeating: "let a = 1\n", count: 401),
              line: "Sources/Base/D.swift: 401 lines"),
        Break(rule: .lines, place: "Tests/WireTests/D.swift", text: String(repeating: "a", count: 121),
              line: "Tests/WireTests/D.swift:1: over 120 columns"),
        Break(rule: .lines, place: "Sources/CKernels/d.c", text: "int\n\ta;\n", line: "Sources/CKernels/d.c:2: a tab"),
        Break(rule: .lines, place: "Sources/Base/D.swift", text: "let a = 1 \n",
              line: "Sources/Base/D.swift:1: a trailing blank"),
        Break(rule: .deadFiles, place: "Sources/Attic/D.swift", text: "let a = 1\n",
              line: "Sources/Attic/D.swift: in the folder of no target"),
        Break(rule: .deadFiles, place: "Sources/Base/D.swift", text: "// gone\nimport Glibc\n\n",
              line: "Sources/Base/D.swift: declares nothing"),
        Break(rule: .deadFiles, place: "tests(\"Wire\", [])", text: "tests(\"Wire\", []), tests(\"Model\", [])",
              line: "Package.swift: ModelTests has no file in Tests/ModelTests/"),
        Break(rule: .words, place: "Sources/Base/D.swift", text: "// TO" + "DO: later\n",
              line: "Sources/Base/D.swift:1: TO" + "DO"),
        Break(rule: .words, place: "Sources/Base/D.swift", text: "\nfatal" + "Error(\"x\")\n",
              line: "Sources/Base/D.swift:2: fatal" + "Error("),
        Break(rule: .sendable, place: "Sources/Base/D.swift",
              text: "// @unchecked " + "Sendable: far\n\n\n\n\n\n\nstruct D: @unchecked " + "Sendable {}\n",
              line: "Sources/Base/D.swift:8: @unchecked " + "Sendable without its proof"),
        Break(rule: .testTargets, place: "tests(\"Wire\", []),", text: "", line: "Package.swift: Wire has no tests"),
    ]

    /// Each rule finds what breaks it, says so in one line, and says nothing else.
    @Test(arguments: breaks) func everyRuleCanFail(_ each: Break) {
        var files = Self.files
        var manifest = Self.manifest
        if manifest.contains(each.place) {
            manifest = manifest.replacing(each.place, with: each.text)
        } else {
            files[each.place] = each.text
        }
        let broken = each.rule.broken(House(manifest: manifest, files: files))
        #expect(broken.count == 1)
        #expect(broken.first?.hasPrefix(each.line) == true, "\(broken)")
    }

    @Test func tooManyUnchecked() {
        var files = Self.files
        let mark = "@unchecked " + "Sendable"
        for number in 1...6 {
            files["Sources/Base/S\(number).swift"] = "// \(mark): it has no state.\nstruct S: \(mark) {}\n"
        }
        let broken = Rule.sendable.broken(House(manifest: Self.manifest, files: files))
        #expect(broken.count == 1 && broken[0].hasPrefix("6 files with"))
    }
}
