import Model
import Recipe
import Tensor

/// A vector of the state as whoever computes with it sees it: floats in memory, or codes with their scales, which
/// become floats a few blocks at a time.
struct CodedPart: Sendable {
    let numbers: StateVector
    let scales: StateVector?

    /// Numbers that are decoded together: they stay in the first cache, with what is computed of them. Weights and two
    /// moments of as many fit into a row of the stack.
    static let size = stackRowCount / 3 / MomentCodec.blockSize * MomentCodec.blockSize

    var codec: MomentCodec? {
        if case .codes(let codec) = numbers.numbers { codec } else { nil }
    }

    /// The numbers of a run, where they are floats.
    func floats(_ run: ShardRun) -> Row {
        precondition(scales == nil, "codes are no floats")
        return numbers.part(run)
    }

    /// Fills `out` with the numbers of a run of whole blocks.
    func load(_ run: ShardRun, to out: Row) {
        guard let codec, let scales else { return out.copy(numbers.part(run)) }
        codec.load(numbers.part(run), scales: scales.part(run), to: out)
    }

    /// The reverse; `x` is used up. `key`: of the parameter's first block; nil: to nearest.
    func store(_ run: ShardRun, _ x: Row, _ key: RoundingKey?) {
        guard let codec, let scales else { return numbers.part(run).copy(x) }
        var key = key
        key?.firstRow = (run.range.lowerBound - numbers.start(of: run)) / MomentCodec.blockSize
        codec.store(x, to: numbers.part(run), scales: scales.part(run), key)
    }
}

extension TrainingState {
    /// Numbers and scales of each moment, in the order of the optimizer's vectors.
    static func parts(_ vectors: [StateVector]) -> [CodedPart] {
        vectors.indices.filter { vectors[$0].numbers != .scales }.map { index in
            let hasScales = index + 1 < vectors.count && vectors[index + 1].numbers == .scales
            return CodedPart(numbers: vectors[index], scales: hasScales ? vectors[index + 1] : nil)
        }
    }

    var weightPart: CodedPart { CodedPart(numbers: weightVectors[0], scales: weightVectors.dropFirst().first) }

    /// Whether the weights are codes.
    public var hasCodedWeights: Bool { weightVectors.count > 1 }

    /// Takes this rank's part of a parameter's weights from all of them; codes are rounded to nearest.
    public func setWeights(_ number: Int, _ whole: Row) {
        let parameter = table.parameters[number]
        for run in Self.runs(of: number, table, in: plan.parameterRanges(of: rank)) {
            let values = whole.slice(run.range.lowerBound - parameter.offset, run.range.count)
            guard hasCodedWeights else {
                weightPart.floats(run).copy(values)
                continue
            }
            // In parts, since encoding uses up what it is given.
            withStackRow { memory in
                for part in run.parts(CodedPart.size) {
                    let copy = memory.slice(0, part.range.count)
                    copy.copy(values.slice(part.range.lowerBound - run.range.lowerBound, part.range.count))
                    weightPart.store(part, copy, nil)
                }
            }
        }
    }

    /// Fills `row`, the memory of a flat range within this rank's share of one unit, with its weights.
    package func readWeights(_ range: Range<Int>, unit: Int, to row: Row, pool: Pool) {
        guard hasCodedWeights else { return row.copy(weightShard.part(range, unit: unit)) }
        // Tiles are found by counting and not listed, since a list would be an allocation for each block of each step.
        let table = table, weights = weightPart, size = 16_384
        @Sendable func tiles(_ number: Int) -> Int {
            (range.clamped(to: table.parameters[number].range).count + size - 1) / size
        }
        var count = 0
        for number in table.parameters.indices { count += tiles(number) }
        pool.run(count, stage: "decode weights") { tile, _ in
            var number = 0, place = tile
            while place >= tiles(number) {
                place -= tiles(number)
                number += 1
            }
            let piece = range.clamped(to: table.parameters[number].range)
            let start = piece.lowerBound + place * size, end = min(start + size, piece.upperBound)
            weights.load(ShardRun(parameter: number, unit: unit, range: start..<end),
                         to: row.slice(start - range.lowerBound, end - start))
        }
    }
}

extension ShardRun {
    /// The whole blocks that begin in a range: of ranges one behind the other, each block belongs to one.
    func blocks(beginningIn other: Range<Int>) -> Range<Int> {
        let size = MomentCodec.blockSize
        func up(_ place: Int) -> Int {
            let offset = max(0, place - range.lowerBound)
            return min(range.lowerBound + (offset + size - 1) / size * size, range.upperBound)
        }
        return up(other.lowerBound)..<up(other.upperBound)
    }

    /// The run cut into parts of `size` elements, a whole number of blocks.
    func parts(_ size: Int) -> [ShardRun] {
        stride(from: range.lowerBound, to: range.upperBound, by: size).map {
            ShardRun(parameter: parameter, unit: unit, range: $0..<min($0 + size, range.upperBound))
        }
    }
}
