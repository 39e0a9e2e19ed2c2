import ArgumentParser
import Base
import Checkpoint
import Telemetry

struct Inspect: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shows what a checkpoint holds.",
        discussion: "Reads everything and changes nothing. --verify checks every byte against the manifest.")

    @Argument(help: "A checkpoint's folder (step-N), or a run's folder for its latest.")
    var checkpoint: String
    @Flag(help: "Check the SHA-256 of every file and the CRC-32C of every tensor, and nothing else.")
    var verify = false
    @Flag(help: "Also list the optimizer's tensors.")
    var optimizer = false

    func run() throws {
        if verify { return try verifyAll() }
        let (found, warnings) = try Checkpoint.locate(checkpoint)
        for warning in warnings { printError("skein: warning: \(warning)") }
        let manifest = found.manifest
        print("checkpoint  \(found.path)")
        print("step        \(Units.grouped(manifest.step))")
        print("tokens      \(Units.grouped(manifest.tokens))")
        print("data        row \(Units.grouped(Int(manifest.data.row))) of seed \(manifest.data.seed), "
            + "data \(manifest.data.fingerprint)")
        print("world size  \(manifest.worldSize)")
        print("\nrecipe (config.toml)")
        for line in try found.recipe().split(separator: "\n", omittingEmptySubsequences: false) { print("  \(line)") }
        try table("model", found.model, of: found)
        if optimizer {
            try table("optimizer", found.optimizer, of: found)
        } else {
            let bytes = found.optimizer.reduce(0) { $0 + $1.byteCount }
            print("\noptimizer: \(found.optimizer.count) tensors, \(Units.bytes(bytes)) (--optimizer lists them)")
        }
    }

    private func verifyAll() throws {
        let (found, warnings) = try Checkpoint.locate(checkpoint)
        for warning in warnings { printError("skein: warning: \(warning)") }
        try found.requireWhole()
        let bytes = found.manifest.files.reduce(0) { $0 + $1.size }
        print("\(found.path): whole (\(found.manifest.files.count) files, \(found.manifest.tensors.count) tensors, "
            + "\(Units.bytes(bytes)))")
    }

    private func table(_ title: String, _ tensors: [Manifest.Tensor], of found: Checkpoint) throws {
        var rows = [["tensor", "shape", "dtype", "bytes", "min", "max", "mean", "std", "non-finite"]]
        for tensor in tensors {
            let statistics = try found.statistics(of: tensor.name)
            func number(_ value: Double?) -> String { value.map { Units.fixed($0, 5) } ?? "-" }
            rows.append([tensor.name, tensor.shape.map(String.init).joined(separator: "x"), tensor.dtype.rawValue,
                         Units.grouped(tensor.byteCount), number(statistics.minimum), number(statistics.maximum),
                         number(statistics.mean), number(statistics.standardDeviation),
                         Units.grouped(statistics.nonFinite)])
        }
        print("\n\(title): \(tensors.count) tensors, \(Units.bytes(tensors.reduce(0) { $0 + $1.byteCount }))")
        printAligned(rows)
    }

    /// Columns as wide as their widest cell; all but the first three to the right.
    private func printAligned(_ rows: [[String]]) {
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        for row in rows {
            var line = ""
            for (column, cell) in row.enumerated() {
                let padding = String(repeating: " ", count: widths[column] - cell.count)
                line += (column == 0 ? "  " : "  ") + (column < 3 ? cell + padding : padding + cell)
            }
            print(line)
        }
    }
}
