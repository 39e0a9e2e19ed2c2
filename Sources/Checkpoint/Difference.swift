import Base
import Storage

/// How far two tensors of one shape are apart. Only elements that are finite in both count for the figures; the others
/// are counted when they are not the same.
public struct TensorDifference: Equatable, Sendable {
    public private(set) var count = 0
    /// Elements whose bits or values differ; a not-a-number equals another, and 0 equals -0.
    public private(set) var different = 0
    /// Pairs of which one or both are not finite, and that are not the same.
    public private(set) var nonFinite = 0
    /// The largest difference.
    public private(set) var maximum = 0.0
    /// The largest distance in units in the last place: how many numbers of the type lie between the two. Nil unless
    /// both are of the same floating-point type.
    public private(set) var ulps: UInt64?
    private var squares = 0.0, products = 0.0, own = 0.0, others = 0.0, finite = 0

    /// The root of the mean square difference.
    public var rootMeanSquare: Double { finite == 0 ? 0 : (squares / Double(finite)).squareRoot() }
    /// Of the angle between the two as vectors: 1 in the same direction. Nil if one of them is zero.
    public var cosine: Double? { own > 0 && others > 0 ? products / (own.squareRoot() * others.squareRoot()) : nil }

    package init() {}

    /// Takes in a block of pairs. type: of both, if it is the same and floating-point.
    package mutating func add(_ mine: [Double], _ theirs: [Double], type: ElementType?) {
        precondition(mine.count == theirs.count, "blocks of different lengths")
        count += mine.count
        if type != nil, ulps == nil { ulps = 0 }
        for (a, b) in zip(mine, theirs) {
            guard a.isFinite, b.isFinite else {
                if a == b || (a.isNaN && b.isNaN) { continue }
                different += 1
                nonFinite += 1
                continue
            }
            finite += 1
            products += a * b
            own += a * a
            others += b * b
            if a == b { continue }
            different += 1
            maximum = max(maximum, (a - b).magnitude)
            squares += (a - b) * (a - b)
            if let type { ulps = max(ulps ?? 0, type.distance(a, b)) }
        }
    }
}

extension ElementType {
    /// How many steps from one number of this type to the next lead from `a` to `b`, both of which are exactly of this
    /// type and finite. 0 for types of integers.
    package func distance(_ a: Double, _ b: Double) -> UInt64 {
        let (mine, theirs) = (place(a), place(b))
        return mine > theirs ? UInt64(mine &- theirs) : UInt64(bitPattern: theirs &- mine)
    }

    /// The number's place in the order of all finite numbers of the type; 0 is at 0.
    private func place(_ value: Double) -> Int64 {
        let bits: UInt64 = switch self {
        case .float64: value.magnitude.bitPattern
        case .float32: UInt64(Float(value.magnitude).bitPattern)
        case .bfloat16: UInt64(Float(value.magnitude).bitPattern >> 16)
        case .float16: UInt64(Float16(value.magnitude).bitPattern)
        case .float8E5M2: UInt64(Float16(value.magnitude).bitPattern >> 8)
        case .float8E4M3: Self.codeE4M3(value.magnitude)
        case .int8, .int16, .int32, .int64, .uint8, .uint16, .uint32, .uint64, .bool: 0
        }
        return value.sign == .minus ? -Int64(bits) : Int64(bits)
    }

    /// The code of a number that is one of E4M3's.
    private static func codeE4M3(_ value: Double) -> UInt64 {
        if value < 0x1p-6 { return UInt64(value * 0x1p9) }
        return UInt64(Int(value.exponent) + 7) << 3 | UInt64((value.significand - 1) * 8)
    }
}

/// What two archives have in common, and what not.
public struct ArchiveDifference: Sendable {
    /// Tensors of one name and shape.
    public var both: [(mine: StoredTensor, theirs: StoredTensor)] = []
    /// Tensors of one name and different shapes.
    public var reshaped: [(mine: StoredTensor, theirs: StoredTensor)] = []
    public var onlyMine: [StoredTensor] = []
    public var onlyTheirs: [StoredTensor] = []

    public init(_ mine: TensorArchive, _ theirs: TensorArchive) {
        let others = Dictionary(theirs.tensors.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        for tensor in mine.tensors {
            guard let other = others[tensor.name] else {
                onlyMine.append(tensor)
                continue
            }
            if other.shape == tensor.shape { both.append((tensor, other)) } else { reshaped.append((tensor, other)) }
        }
        let names = Set(mine.tensors.map(\.name))
        onlyTheirs = theirs.tensors.filter { !names.contains($0.name) }
    }
}

/// Compares two tensors of one shape, of any types, block by block. `scales`: of those that are codes; such have no
/// units in the last place.
public func difference(_ mine: (StoredTensor, TensorReader), _ theirs: (StoredTensor, TensorReader),
                       scales: (TensorScales?, TensorScales?) = (nil, nil))
    throws(CheckpointError) -> TensorDifference {
    precondition(mine.0.shape == theirs.0.shape, "\(mine.0.name): \(mine.0.shape) and \(theirs.0.shape)")
    let isScaled = scales.0 != nil || scales.1 != nil
    let type = mine.0.dtype == theirs.0.dtype && mine.0.dtype.isFloat && !isScaled ? mine.0.dtype : nil
    let step = blockSize / 8
    var difference = TensorDifference(), first = 0
    var ours: [Double] = [], others: [Double] = []
    repeat {
        let part = first..<min(first + step, mine.0.count)
        try mine.1.read(mine.0, part, into: &ours)
        try theirs.1.read(theirs.0, part, into: &others)
        scales.0?.apply(to: &ours, first: first)
        scales.1?.apply(to: &others, first: first)
        difference.add(ours, others, type: type)
        first = part.upperBound
    } while first < mine.0.count
    return difference
}

extension TensorReader {
    /// Replaces `values` by the elements `elements` of a tensor.
    func read(_ tensor: StoredTensor, _ elements: Range<Int>, into values: inout [Double]) throws(CheckpointError) {
        var bytes = [UInt8](repeating: 0, count: elements.count * tensor.dtype.width)
        var span = bytes.mutableSpan
        try unsafe span.withUnsafeMutableBytes { buffer throws(CheckpointError) in
            try unsafe read(tensor, elements, into: buffer)
        }
        unsafe bytes.withUnsafeBytes { unsafe tensor.dtype.decode($0, into: &values) }
    }
}
