import Base
import Checkpoint
import Foundation
import Tensor

/// What a number format would do to a checkpoint's tensors.
struct QuantizedTensors {
    /// A way to share scales, and how many of a tensor's numbers do.
    private struct Sharing {
        let name: String
        /// Nil: no scale at all.
        let granularity: Granularity?
    }

    private struct Line: Encodable {
        let tensor: String
        let format: String
        let scales: String
        let amax: Double
        let sqnr_db: Double
        let flushed: Double
        let saturated: Double
        let non_finite: Int
    }

    private let name: String
    private let format: NumberFormat
    private let blocks: BlockFormat?
    private let sharings: [Sharing]

    /// `name`: of a number format, which is looked at unscaled and with scales by tensor, by row and for 128 neighbours
    /// of a row; or of a block format, which has its own.
    init(format name: String) throws(BadInput) {
        self.name = name
        blocks = try? BlockFormat(named: name)
        if let blocks {
            format = blocks.element
            sharings = [Sharing(name: "its own", granularity: blocks.granularity)]
        } else {
            format = try NumberFormat(named: name)
            sharings = [Sharing(name: "none", granularity: nil), Sharing(name: "tensor", granularity: .tensor),
                        Sharing(name: "row", granularity: .row),
                        Sharing(name: "1x128", granularity: .block(rows: 1, columns: 128))]
        }
    }

    /// A line for each tensor that `pattern` matches and each way to share scales.
    func show(_ archive: TensorArchive, matching pattern: String, json: Bool) throws {
        let reader = archive.reader()
        let tensors = try archive.tensors(matching: pattern)
        var rows = [["tensor", "shape", "scales", "amax", "SQNR, dB", "became 0", "clipped", "non-finite"]]
        for tensor in tensors where tensor.count > 0 {
            let all = try SliceExpression("", of: tensor.shape)
            let found = try lines(tensor, archive.values(of: tensor, all, with: reader))
            if json {
                for line in found { printJSON(line) }
                continue
            }
            for (index, line) in found.enumerated() {
                let isFirst = index == 0
                rows.append([isFirst ? tensor.name : "", isFirst ? shapeText(tensor.shape) : "", line.scales,
                             short(line.amax), line.sqnr_db.isFinite ? Units.fixed(line.sqnr_db, 1) : "exact",
                             Units.fixed(100 * line.flushed, 2) + "%", Units.fixed(100 * line.saturated, 2) + "%",
                             Units.grouped(line.non_finite)])
            }
        }
        if !json { printAligned(rows, left: [0, 1, 2]) }
    }

    private func lines(_ tensor: StoredTensor, _ values: [Double]) throws -> [Line] {
        let columns = max(tensor.shape.last ?? 1, 1), height = tensor.count / columns
        let most = sharings.map { Scales.floats($0.granularity ?? .tensor, rows: height, columns: columns) }.max() ?? 0
        let memory = try Arena(name: tensor.name, capacity: Arena.padded(tensor.count) + Arena.padded(most))
        defer { withExtendedLifetime(memory) {} }
        let x = memory.take(rows: height, columns: columns), room = memory.take(most)
        for row in 0..<height { x.row(row).copy(values[(row * columns)..<((row + 1) * columns)].map { Float($0) }) }
        return sharings.map { sharing in
            let granularity = sharing.granularity ?? .tensor
            let scales = Scales(granularity, rows: height, columns: columns, foldable: true, memory: room)
            if let blocks { blocks.measure(x, scales) } else if sharing.granularity != nil {
                scales.measure(x, .powerOfTwo, format: format)
            }
            let health = QuantizationHealth(x, Quantizer(format, scales)), count = Double(health.elements)
            return Line(tensor: tensor.name, format: name, scales: sharing.name, amax: Double(health.amax),
                        sqnr_db: health.sqnr, flushed: Double(health.flushed) / count,
                        saturated: Double(health.saturated) / count, non_finite: health.notFinite)
        }
    }
}
