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
    static func sum(_ rows: [[Float]], _ request: Request, owners: Partition) -> [Float] {
        let size = rows.count, root = request.root
        switch (request.kind, request.algorithm) {
        case (_, .recursiveDoubling), (_, .halvingDoubling): return doubling(rows)
        case (.reduce, .tree): return tree(rows, root: root)
        case (.reduce, _):
            // The farthest first, and each adds its own to what comes.
            let chain = (0..<size).reversed().map { rows[(root - $0 + size) % size] }
            return chain.dropFirst().reduce(chain[0], add)
        default: break
        }
        return (0..<size).flatMap { owner in
            let positions = switch request.algorithm {
            case .ring: (1...size).map { (owner + $0) % size }
            default: (0..<size).map { (owner - $0 + size) % size }
            }
            // What travels narrow is rounded once, on the way to its owner.
            let parts = positions.map { position in
                let part = Array(rows[position][owners[owner]])
                return request.wire == .native || position == owner ? part : part.map { narrow($0, request.wire) }
            }
            let sum = parts.dropFirst().reduce(parts[0], add)
            return request.wire != .native && request.kind == .allReduce ? sum.map { narrow($0, request.wire) } : sum
        }
    }

    /// A number as it comes out at the other end.
    static func narrow(_ x: Float, _ wire: WireFormat) -> Float { wire == .e4m3 ? e4m3(x) : bfloat16(x) }

    /// The 127 magnitudes of OCP's E4M3, in ascending order: sixteen exponents of eight, without the last of them.
    static let magnitudes: [Double] = (0..<127).map { code in
        let (exponent, mantissa) = (code / 8, Double(code % 8))
        return exponent == 0 ? mantissa / 512 : (1 + mantissa / 8) * Double(sign: .plus, exponent: exponent - 7,
                                                                            significand: 1)
    }

    /// By search: the nearest magnitude, of two the one with the even code.
    static func e4m3(_ x: Float) -> Float {
        guard x.isFinite else { return .nan }
        let wanted = Double(x.magnitude)
        var (low, high) = (0, 126)
        while low + 1 < high {
            let middle = (low + high) / 2
            if magnitudes[middle] <= wanted { low = middle } else { high = middle }
        }
        let (below, above) = (wanted - magnitudes[low], magnitudes[high] - wanted)
        let code = below < above || below == above && low % 2 == 0 ? low : high
        return Float(sign: x.sign, exponent: 0, significand: 1) * Float(magnitudes[code])
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

    /// Places from the root on; those that differ in the highest bit meet first.
    private static func tree(_ rows: [[Float]], root: Int) -> [Float] {
        var places = rows.indices.map { rows[($0 + root) % rows.count] }
        var half = 1
        while half * 2 < rows.count { half *= 2 }
        while places.count > 1 {
            for place in half..<places.count { places[place - half] = add(places[place - half], places[place]) }
            places.removeLast(places.count - half)
            half /= 2
        }
        return places[0]
    }

    private static func add(_ a: [Float], _ b: [Float]) -> [Float] { zip(a, b).map { $0 + $1 } }

    /// The nearest number with 8 significant bits, ties to even: by scaling, not by bits.
    static func bfloat16(_ value: Float) -> Float {
        guard value.isFinite, value != 0 else { return value }
        let unit = value.isNormal ? Float(sign: .plus, exponent: value.exponent - 7, significand: 1)
            : Float(sign: .plus, exponent: -133, significand: 1)
        return (value / unit).rounded(.toNearestOrEven) * unit
    }
}

/// Inputs of a collective over some members, the buffers it runs on, and what they must hold at the end.
final class Trial {
    let request: Request
    /// By position in the group. Of an all-to-all: what each sends.
    let inputs: [[Float]]
    let rows: [Row]
    private let sources: [Row]
    private let owners: Partition
    private let group: UInt32

    /// `request` is any member's; `group` is the id that messages carry.
    init(_ request: Request, seed: UInt64, whole: Bool, group: UInt32 = 0) {
        self.request = request
        self.group = group
        let size = request.group.size
        let owners = request.partition ?? Partition(evenly: request.count, over: size)
        self.owners = owners
        inputs = (0..<size).map { position in
            let count = request.kind == .allToAll ? exchanged(request, position).outgoing.count : request.count
            return input(rank: position, count: count, seed: seed, whole: whole)
        }
        sources = request.kind == .allToAll ? inputs.map { Row($0) } : []
        rows = inputs.enumerated().map { position, values in
            let nothing = [Float](repeating: .nan, count: values.count)
            switch request.kind {
            case .allReduce, .reduceScatter, .reduce: return Row(values)
            case .allGather:
                return Row(values.indices.map { owners[position].contains($0) ? values[$0] : .nan })
            case .barrier: return Row(values.indices.map { $0 == 0 ? values[0] : .nan })
            case .broadcast, .transfer: return Row(position == request.root ? values : nothing)
            case .allToAll:
                return Row([Float](repeating: .nan, count: exchanged(request, position).incoming.count))
            case .gather:
                let own = Array(values[owners[position]])
                guard position == request.root else { return Row(own) }
                return Row(values.indices.map { owners[position].contains($0) ? values[$0] : .nan })
            case .scatter:
                return Row(position == request.root ? values : Array(nothing[owners[position]]))
            }
        }
    }

    func operation(_ position: Int, number: UInt32, segmentBytes: Int) -> Operation {
        var own = request
        own.group = Group(ranks: request.group.ranks, rank: request.group.ranks[position])
        guard request.kind == .allToAll else {
            return unsafe Operation(own, segmentBytes: segmentBytes, buffer: rows[position].bytes, group: group,
                                    number: number)
        }
        let cut = exchanged(request, position)
        (own.count, own.partition, own.outgoing) = (cut.incoming.count, cut.incoming, cut.outgoing)
        return unsafe Operation(own, segmentBytes: segmentBytes, buffer: rows[position].bytes,
                                source: UnsafeRawBufferPointer(sources[position].bytes), group: group, number: number)
    }

    private func expected(_ position: Int) -> (row: [Float], range: Range<Int>) {
        let size = request.group.size
        switch request.kind {
        case .allReduce, .reduceScatter, .reduce:
            let sum = DocumentedOrder.sum(inputs, request, owners: owners)
            let isOurs = request.kind != .reduce || position == request.root
            return (sum, request.kind == .reduceScatter ? owners[position] : 0..<(isOurs ? sum.count : 0))
        case .barrier:
            // Tokens of this position, the one before it, and so on.
            let all = (0..<request.count).map { inputs[((position - $0) % size + size) % size][0] }
            return (all, 0..<all.count)
        case .allGather:
            let all = (0..<size).flatMap { Array(inputs[$0][owners[$0]]) }
            return (request.wire == .native ? all : all.map { DocumentedOrder.narrow($0, request.wire) }, 0..<all.count)
        case .broadcast, .transfer: return (inputs[request.root], 0..<inputs[request.root].count)
        case .allToAll:
            let all = (0..<size).flatMap { Array(inputs[$0][exchanged(request, $0).outgoing[position]]) }
            return (all, 0..<all.count)
        case .gather:
            let all = (0..<size).flatMap { Array(inputs[$0][owners[$0]]) }
            return (all, 0..<(position == request.root ? all.count : 0))
        case .scatter:
            let all = inputs[request.root]
            return position == request.root ? (all, 0..<all.count)
                : (Array(all[owners[position]]), 0..<owners[position].count)
        }
    }

    /// The first element that is not bit for bit what the documentation promises, in words.
    func wrongElement() -> String? {
        for (position, row) in rows.enumerated() {
            let values = row.values, (expected, range) = expected(position)
            for element in range where values[element].bitPattern != expected[element].bitPattern {
                return "position \(position), element \(element): \(values[element]), "
                    + "expected \(expected[element])"
            }
        }
        return nil
    }
}

/// What each position of an all-to-all sends to whom and receives from whom: uneven, some of it nothing, and a
/// function of the request's count.
func exchanged(_ request: Request, _ position: Int) -> (outgoing: Partition, incoming: Partition) {
    let size = request.group.size, count = request.count
    func length(_ from: Int, _ to: Int) -> Int { count == 0 ? 0 : count * ((3 * from + 5 * to + 1) % 7) / (4 * size) }
    func bounds(_ lengths: [Int]) -> [Int] { lengths.reduce(into: [0]) { $0.append($0[$0.count - 1] + $1) } }
    return (Partition(bounds: bounds((0..<size).map { length(position, $0) })),
            Partition(bounds: bounds((0..<size).map { length($0, position) })))
}
