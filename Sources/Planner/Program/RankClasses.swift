/// Classes of ranks that count as equal, from the slowest to the fastest: what a linear program knows of ranks.
/// Where more kinds of ranks differ than there are classes, neighbours share one and count as its best, so that what
/// the program gives remains a bound.
struct RankClasses {
    static let most = 4

    /// Speed, link and number of ranks of each class.
    private(set) var speeds: [Double] = []
    private(set) var links: [Double] = []
    private(set) var counts: [Int] = []
    /// Class of each rank.
    private(set) var ofRank: [Int]

    init(_ rates: RankRates) {
        ofRank = Array(repeating: 0, count: rates.count)
        let ranks = (0..<rates.count).sorted {
            (rates.speeds[$0], rates.links[$0], $0) < (rates.speeds[$1], rates.links[$1], $1)
        }
        // The widest steps of speed (or, where that is equal, of the link) part the classes.
        let steps = ranks.indices.dropFirst().map { place -> (place: Int, step: Double) in
            let (a, b) = (ranks[place - 1], ranks[place])
            let (low, high) = (min(rates.links[a], rates.links[b]), max(rates.links[a], rates.links[b]))
            return (place, max(rates.speeds[b] / rates.speeds[a], high / low))
        }
        let cuts = steps.filter { $0.step > 1 }.sorted { ($1.step, $0.place) < ($0.step, $1.place) }
            .prefix(Self.most - 1).map(\.place).sorted()
        var start = 0
        for end in cuts + [ranks.count] {
            let members = ranks[start..<end]
            speeds.append(members.map { rates.speeds[$0] }.max() ?? 1)
            links.append(members.map { rates.links[$0] }.max() ?? 1)
            counts.append(members.count)
            for rank in members { ofRank[rank] = speeds.count - 1 }
            start = end
        }
    }

    var count: Int { counts.count }
    /// Ranks of a class and of all faster ones.
    func countFrom(_ number: Int) -> Int { counts[number...].reduce(0, +) }
}
