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
    /// Element values of all ranks -> the sum in the part of `owner`.
    static func sum(_ x: [Float], _ algorithm: Algorithm, owner: Int) -> Float {
        let size = x.count
        switch algorithm {
        case .ring:
            return (1...size).dropFirst().reduce(x[(owner + 1) % size]) { $0 + x[(owner + $1) % size] }
        case .direct:
            return (1..<max(size, 1)).reduce(x[owner]) { $0 + x[(owner - $1 + size) % size] }
        default:
            return doubling(x)
        }
    }

    private static func doubling(_ x: [Float]) -> Float {
        var power = 1
        while power * 2 <= x.count { power *= 2 }
        var row = Array(x[..<power])
        for extra in power..<x.count { row[extra - power] += x[extra] }
        while row.count > 1 { row = stride(from: 0, to: row.count, by: 2).map { row[$0] + row[$0 + 1] } }
        return row[0]
    }
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
        var owner = 0
        for element in 0..<request.count {
            while !owners[owner].contains(element) { owner += 1 }
            let expected: Float = switch request.kind {
            case .allReduce, .reduceScatter:
                DocumentedOrder.sum(inputs.map { $0[element] }, request.algorithm, owner: owner)
            case .allGather, .barrier: inputs[owner][element]
            case .broadcast: inputs[request.root][element]
            }
            for position in rows.indices where request.kind != .reduceScatter || position == owner {
                let got = unsafe rows[position].floats[element]
                if got.bitPattern != expected.bitPattern {
                    return "position \(position), element \(element): \(got), expected \(expected)"
                }
            }
        }
        return nil
    }
}
