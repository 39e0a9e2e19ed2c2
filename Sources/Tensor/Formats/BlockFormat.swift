import Base

/// A format whose numbers share a scale block by block along a row: OCP's Microscaling Formats, version 1.0, section 5,
/// and NVIDIA's NVFP4. A block's scale is part of the format, and in eight bits.
public struct BlockFormat: Sendable, Hashable, CustomStringConvertible {
    public enum BlockScale: Sendable, Hashable {
        /// A power of two, E8M0: rounded up, so that nothing clips, or down as OCP's conversion has it.
        case powerOfTwo(ScaleRule)
        /// An E4M3 number, under one fp32 number for the whole tensor.
        case twoLevels
    }

    public let name: String
    public let element: NumberFormat
    /// Neighbours of a row that share a scale.
    public let blockSize: Int
    public let scale: BlockScale

    private init(_ name: String, _ element: NumberFormat, _ blockSize: Int, _ scale: BlockScale) {
        self.name = name
        self.element = element
        self.blockSize = blockSize
        self.scale = scale
    }

    private static func microscaling(_ name: String, _ element: NumberFormat) -> [BlockFormat] {
        [BlockFormat(name, element, 32, .powerOfTwo(.powerOfTwo)),
         BlockFormat(name + "-floor", element, 32, .powerOfTwo(.powerOfTwoClipping))]
    }

    /// MXFP8, MXFP6 and MXFP4, each with its scale rounded up and, as "-floor", down; and NVFP4.
    public static let all: [BlockFormat] =
        microscaling("MXFP8", .e4m3) + microscaling("MXFP8-E5M2", .e5m2) + microscaling("MXFP6", .e2m3)
        + microscaling("MXFP6-E3M2", .e3m2) + microscaling("MXFP4", .e2m1)
        + [BlockFormat("NVFP4", .e2m1, 16, .twoLevels)]

    /// A block format by its name, capitals aside.
    public init(named name: String) throws(BadInput) {
        guard let format = Self.all.first(where: { $0.name.uppercased() == name.uppercased() }) else {
            throw BadInput("\(name) is no block format; there are \(Self.all.map(\.name).joined(separator: ", "))")
        }
        self = format
    }

    public var description: String { name }

    /// What each number takes with its share of the scale.
    public var bitsPerElement: Double { Double(element.bits) + 8 / Double(blockSize) }

    public var granularity: Granularity { .block(rows: 1, columns: blockSize) }

    /// Scales for a tensor of that shape, all 1. `memory`: `Scales.floats(granularity, ...)`.
    public func scales(rows: Int, columns: Int, memory: Row) -> Scales {
        Scales(granularity, rows: rows, columns: columns, foldable: true, memory: memory)
    }

    /// Sets `scales` as x asks for.
    public func measure(_ x: Matrix, _ scales: Scales) {
        switch scale {
        case .powerOfTwo(let rule): scales.measure(x, rule, format: element)
        case .twoLevels: scales.measureTwoLevels(x, format: element)
        }
    }
}
