// swift-tools-version: 6.2
import PackageDescription

// The instruction set comes from here and nowhere else. x86-64-v3 is AVX2 and FMA, as nearly every CPU of the last ten
// years has them; the kernels of `CKernels` are compiled for AVX-512 as well and choose when they run, so a binary is
// as fast as can be wherever it is carried. `SKEIN_MARCH` is clang's -march value for those who want another: `native`
// for the machine that builds. On arm64 the default target already has the vector unit, so nothing is passed. The C
// settings of `CKernels` and Swift's own code generation (through -Xcc) must agree, or the handshake would compare what
// only half of the code has.
#if arch(x86_64)
let march = Context.environment["SKEIN_MARCH"] ?? "x86-64-v3"
let isaC: [CSetting] = [.unsafeFlags(["-march=\(march)"])]
let isaSwift: [SwiftSetting] = [.unsafeFlags(["-Xcc", "-march=\(march)"])]
#else
let isaC: [CSetting] = []
let isaSwift: [SwiftSetting] = []
#endif

let swiftSettings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .treatWarning("StrictMemorySafety", as: .error),
    .enableExperimentalFeature("Lifetimes"),
] + isaSwift

/// One row of the house's table: a room, what it may import, and its tests beside it.
func room(_ name: String, _ imports: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: imports, swiftSettings: swiftSettings)
}

func tests(_ room: String, _ imports: [Target.Dependency]) -> Target {
    .testTarget(name: room + "Tests", dependencies: imports, swiftSettings: swiftSettings)
}

/// A system library: a module map and a header, nothing else.
func system(_ name: String, pkgConfig: String? = nil, apt: String) -> Target {
    .systemLibrary(name: name, pkgConfig: pkgConfig, providers: [.apt([apt])])
}

let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
let tomlKit: Target.Dependency = .product(name: "TOMLKit", package: "TOMLKit")
let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")

let package = Package(
    name: "skein",
    products: [.executable(name: "skein", targets: ["skein"])],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/LebJe/TOMLKit", from: "0.6.0"),
    ],
    targets: [
        // C, one Swift owner each. CChecksum is built for the plainest CPU on purpose: it holds the
        // check that this CPU has what everything else was compiled for.
        .target(name: "CChecksum"),
        .target(name: "CKernels", cSettings: isaC),
        system("COpenBLAS", pkgConfig: "openblas", apt: "libopenblas-dev"),
        system("CUV", pkgConfig: "libuv", apt: "libuv1-dev"),
        system("CZstd", pkgConfig: "libzstd", apt: "libzstd-dev"),
        system("CZlib", pkgConfig: "zlib", apt: "zlib1g-dev"),
        // Without pkg-config, which would link the reference BLAS and LAPACK a second time, beside OpenBLAS.
        system("CCbc", apt: "coinor-libcbc-dev"),

        room("Base", ["CChecksum"]),
        room("Recipe", ["Base", tomlKit]),
        room("Compression", ["Base", "CZstd", "CZlib"]),
        room("Tensor", ["Base", "COpenBLAS", "CKernels"]),
        room("Wire", ["Base", "CUV", crypto]),
        room("Collectives", ["Base", "Wire"]),
        room("Planner", ["Base", "Recipe", "CCbc"]),
        room("Storage", ["Base"]),
        room("Simulation", ["Base", "Wire", "Collectives"]),
        room("Corpus", ["Base", "Compression", "Storage"]),
        room("Model", ["Base", "Tensor", "Recipe"]),
        room("Parallel", ["Base", "Model", "Collectives", "Tensor", "Recipe"]),
        room("Checkpoint", ["Base", "Recipe", "Compression", "Storage", crypto]),
        room("Telemetry", ["Base"]),
        room("Trainer", ["Base", "Recipe", "Tensor", "Wire", "Collectives", "Planner", "Corpus", "Model", "Parallel",
                         "Storage", "Checkpoint", "Telemetry"]),
        room("Launch", ["Base", "Recipe", "Telemetry"]),
        room("Bench", ["Base", "Recipe", "Tensor", "Wire", "Collectives", "Planner", "Corpus", "Model", "Parallel",
                       "Storage", "Checkpoint", "Telemetry", "Trainer"]),
        .executableTarget(name: "skein",
            dependencies: ["Base", "Recipe", "Tensor", "Wire", "Collectives", "Planner", "Corpus", "Model", "Parallel",
                           "Storage", "Checkpoint", "Telemetry", "Trainer", "Launch", "Bench", "Simulation",
                           argumentParser],
            swiftSettings: swiftSettings),

        // The Double tape and other oracles that tests of several rooms hold results against.
        .target(name: "TestSupport", dependencies: ["Base", "Tensor"], path: "Tests/Support/Oracle",
                swiftSettings: swiftSettings),
        // Spoilt copies of good inputs, for every parser.
        .target(name: "Mutation", dependencies: ["Base"], path: "Tests/Support/Mutation",
                swiftSettings: swiftSettings),
        tests("House", []),
        tests("Base", ["Base"]),
        tests("Recipe", ["Base", "Recipe", "Mutation"]),
        tests("Tensor", ["Base", "Tensor", "CKernels", "TestSupport"]),
        // Number formats, against a reference that the bench has for every float.
        tests("Formats", ["Base", "Tensor", "Bench", "TestSupport"]),
        tests("Wire", ["Base", "Wire", "Mutation", crypto]),
        tests("Collectives", ["Base", "Wire", "Collectives", "Simulation"]),
        tests("Simulation", ["Base", "Wire", "Simulation"]),
        tests("Planner", ["Base", "Recipe", "Planner"]),
        tests("Compression", ["Base", "Compression"]),
        tests("Corpus", ["Corpus", "Base", "Compression", "Mutation", crypto]),
        tests("Model", ["Base", "Recipe", "Tensor", "Model", "TestSupport"]),
        tests("Parallel", ["Base", "Recipe", "Tensor", "Model", "Collectives", "Parallel", "Simulation"]),
        tests("Storage", ["Base", "Storage"]),
        tests("Checkpoint", ["Base", "Compression", "Storage", "Checkpoint", "Mutation", crypto]),
        tests("Telemetry", ["Base", "Telemetry"]),
        tests("Trainer", ["Base", "Recipe", "Tensor", "Collectives", "Planner", "Corpus", "Model", "Checkpoint",
                          "Parallel", "Trainer", "Simulation"]),
        tests("Bench", ["Base", "Recipe", "Tensor", "Bench", "TestSupport"]),
        tests("Launch", ["Base", "Recipe", "Telemetry", "Wire", "Launch", "Mutation"]),
        tests("System", ["Base", "skein"]),
    ]
)
