import Base
import Foundation

// An evaluation that the ranks of a job share: each takes every `size`th text or question, since those come in no order
// of lengths, and rank 0 puts together what they find.
extension World {
    /// What this rank takes.
    public func dealt<Item>(from items: [Item]) -> [Item] {
        stride(from: rank, to: items.count, by: size).map { items[$0] }
    }

    /// All ranks' results, at rank 0; nil at the others. Losses are added rank by rank, so their sum may differ from
    /// one rank's in the last of its 53 bits; counts do not.
    public func together(_ own: TextEvaluation) throws -> TextEvaluation? {
        try gathered(own)?.reduce(into: TextEvaluation()) { $0.add($1) }
    }

    /// The same of questions, in their own order again.
    public func together(_ own: ChoiceEvaluation) throws -> ChoiceEvaluation? {
        guard let parts = try gathered(own) else { return nil }
        var all = ChoiceEvaluation()
        for place in 0..<parts.reduce(0, { $0 + $1.questions.count }) {
            let part = parts[place % size]
            all.questions.append(part.questions[place / size])
            all.logProbabilities.append(part.logProbabilities[place / size])
        }
        return all
    }

    /// In the order of ranks. A property list keeps every bit of a number, and those that are none.
    private func gathered<Part: Codable>(_ own: Part) throws -> [Part]? {
        let encoder = PropertyListEncoder()
        encoder.outputFormat = .binary
        let parts = try gather(Array(try encoder.encode(own)))
        guard rank == 0 else { return nil }
        return try parts.map { try PropertyListDecoder().decode(Part.self, from: Data($0)) }
    }
}

extension TextEvaluation {
    mutating func add(_ other: TextEvaluation) {
        documents += other.documents
        for band in other.bands {
            guard let place = bands.firstIndex(where: { $0.first == band.first }) else {
                bands.append(band)
                continue
            }
            // The last one ends where the longest text does.
            if band.last > bands[place].last { bands[place].last = band.last }
            bands[place].add(band)
        }
        bands.sort { $0.first < $1.first }
    }
}
