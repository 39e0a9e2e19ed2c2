import Base
import Collectives

/// A buffer of floats that stays in place while the network uses it.
@safe final class Row {
    let floats: UnsafeMutableBufferPointer<Float>

    init(_ values: [Float]) {
        unsafe floats = .allocate(capacity: values.count)
        _ = unsafe floats.initialize(from: values)
    }

    deinit { unsafe floats.deallocate() }

    var values: [Float] { unsafe Array(floats) }
    var bytes: UnsafeMutableRawBufferPointer { unsafe UnsafeMutableRawBufferPointer(floats) }
}

/// One rank's input: whole numbers small enough for exact sums, or arbitrary ones of mixed magnitude.
func input(rank: Int, count: Int, seed: UInt64, whole: Bool) -> [Float] {
    let rng = CounterRNG(seed: seed, stream: UInt64(rank))
    return (0..<count).map {
        let bits = rng.bits(at: UInt64($0))
        if whole { return Float(Int(bits % 2001) - 1000) }
        let scale = Float(1 << (bits >> 56 & 15))
        return (Float(bits & 0xFF_FFFF) / 0x100_0000 - 0.5) * scale
    }
}

/// What the documentation of each algorithm says about the order of its sums, written down once more.
enum DocumentedOrder {
    /// The sum of all positions' rows, where `owners` says whose part each element is.
    static func sum(_ rows: [[Float]], _ algorithm: Algorithm, owners: Partition) -> [Float] {
        let size = rows.count
        if algorithm == .recursiveDoubling { return doubling(rows) }
        return (0..<size).flatMap { owner in
            let positions = switch algorithm {
            case .ring: (1...size).map { (owner + $0) % size }
            default: (0..<size).map { (owner - $0 + size) % size }
            }
            let parts = positions.map { Array(rows[$0][owners[owner]]) }
            return parts.dropFirst().reduce(parts[0], add)
        }
    }

    private static func doubling(_ rows: [[Float]]) -> [Float] {
        var power = 1
        while power * 2 <= rows.count { power *= 2 }
        var sums = Array(rows[..<power])
        for extra in power..<rows.count { sums[extra - power] = add(sums[extra - power], rows[extra]) }
        while sums.count > 1 {
            sums = stride(from: 0, to: sums.count, by: 2).map { add(sums[$0], sums[$0 + 1]) }
        }
        return sums[0]
    }

    private static func add(_ a: [Float], _ b: [Float]) -> [Float] { zip(a, b).map { $0 + $1 } }
}

/// Inputs of a collective over some members, the buffers it runs on, and what they must hold at the end.
final class Trial {
    let request: Request
    let inputs: [[Float]]
    let rows: [Row]
    private let owners: Partition

    /// `request` is any member's; inputs are by position in the group.
    init(_ request: Request, seed: UInt64, whole: Bool) {
        self.request = request
        let size = request.group.size
        let owners = request.partition ?? Partition(evenly: request.count, over: size)
        self.owners = owners
        inputs = (0..<size).map { input(rank: $0, count: request.count, seed: seed, whole: whole) }
        rows = inputs.enumerated().map { position, values in
            switch request.kind {
            case .allReduce, .reduceScatter: return Row(values)
            case .allGather, .barrier:
                return Row(values.indices.map { owners[position].contains($0) ? values[$0] : .nan })
            case .broadcast: return Row(position == request.root ? values : values.map { _ in .nan })
            }
        }
    }

    func operation(_ position: Int, number: UInt64, segmentBytes: Int) -> Operation {
        let group = Group(ranks: request.group.ranks, rank: request.group.ranks[position])
        var own = request
        own.group = request.group.id == 0
            ? Group(worldSize: request.group.size, rank: position) : group
        return unsafe Operation(own, segmentBytes: segmentBytes, buffer: rows[position].bytes, number: number)
    }

    /// The first element that is not bit for bit what the documentation promises, in words.
    func wrongElement() -> String? {
        let kind = request.kind
        let expected: [Float] = switch kind {
        case .allReduce, .reduceScatter: DocumentedOrder.sum(inputs, request.algorithm, owners: owners)
        case .allGather, .barrier: rows.indices.flatMap { Array(inputs[$0][owners[$0]]) }
        case .broadcast: inputs[request.root]
        }
        for (position, row) in rows.enumerated() {
            let values = row.values
            for element in kind == .reduceScatter ? owners[position] : 0..<expected.count
            where values[element].bitPattern != expected[element].bitPattern {
                return "position \(position), element \(element): \(values[element]), "
                    + "expected \(expected[element])"
            }
        }
        return nil
    }
}
