import Base
import Model
import Recipe
import Tensor

/// The same tokens through a model, however its weights are read: what an import or an export is checked by. The
/// logits are those of the second half of the tokens, some read as a prompt and the rest one by one.
struct Probe {
    private let tokens: [Int]
    private let vocabulary: Int

    init(vocabulary: Int) {
        let rng = CounterRNG(seed: 1, stream: 0x7072_6F62)
        tokens = (0..<24).map { rng.integer(below: vocabulary, at: UInt64($0)) }
        self.vocabulary = vocabulary
    }

    /// `load` fills a row with a parameter's values.
    func logits(_ table: ParameterTable, pool: Pool, load: (ParameterTable.Parameter, Row) throws -> Void) throws
        -> [[Float]] {
        precondition(table.vocabulary == vocabulary, "a probe of another vocabulary")
        let half = tokens.count / 2
        let decoder = try Decoder(table, capacity: tokens.count, longestPrompt: half, pool: pool, load: load)
        var found = [values(decoder.read(Array(tokens[..<half])))]
        for token in tokens[half...] { found.append(values(decoder.next(token))) }
        return found
    }

    private func values(_ row: Row) -> [Float] { (0..<row.count).map { row[$0] } }

    /// The largest difference of two logits; infinite where one of them is not finite, or their numbers differ.
    static func difference(_ a: [[Float]], _ b: [[Float]]) -> Float {
        guard a.map(\.count) == b.map(\.count) else { return .infinity }
        let all = zip(a.joined(), b.joined()).map { abs($0 - $1) }
        return all.allSatisfy(\.isFinite) ? all.max() ?? 0 : .infinity
    }
}

/// Weights that do not compute what those that they were made of do: a mistake of ours, found before anybody uses them.
struct ConversionFault: Fault {
    let description: String
    var kind: FaultKind { .running }

    init(_ path: String, from source: String, difference: Float) {
        description = "\(path) computes other logits than \(source) (by up to \(difference)), so it is of no use; "
            + "this is a mistake of skein's, not yours"
    }
}
