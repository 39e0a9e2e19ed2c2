import Base

/// Where the survivors of a fault wait for other processes in the place of lost ranks: what their leader leaves in the
/// run's folder, for processes that wait there and for a launcher that starts some. A name and a value on each line.
public struct Meeting: Sendable, Equatable {
    public static let fileName = ".meeting"

    /// Which life of the job it is for, and over how many ranks.
    public var epoch: UInt32
    public var ranks: Int
    /// How many of these are open: the last ones. None: nobody is waited for.
    public var open: Int
    /// Where the others meet.
    public var host: String
    public var port: Int
    /// The processes that are in it already.
    public var processes: [Int]
    /// What all ranks must have in common, such as ("recipe", hash).
    public var claims: [Claim]
    /// The job has come to its end.
    public var isOver: Bool

    public struct Claim: Sendable, Equatable {
        public let name: String
        public let value: String

        public init(_ name: String, _ value: String) { (self.name, self.value) = (name, value) }
    }

    public init(epoch: UInt32, ranks: Int, open: Int, host: String, port: Int, processes: [Int], claims: [Claim],
                isOver: Bool = false) {
        (self.epoch, self.ranks, self.open, self.host, self.port) = (epoch, ranks, open, host, port)
        (self.processes, self.claims, self.isOver) = (processes, claims, isOver)
    }

    /// The ranks that are open.
    public var places: Range<Int> { (ranks - open)..<ranks }

    /// All but the proof.
    public var text: String {
        var lines = ["epoch \(epoch)", "ranks \(ranks)", "open \(open)", "host \(host)", "port \(port)",
                     "processes \(processes.map(String.init).joined(separator: " "))", "over \(isOver ? 1 : 0)"]
        lines += claims.map { "claim \($0.name) \(oneLine($0.value))" }
        return lines.map { $0 + "\n" }.joined()
    }

    /// With what proves that whoever wrote it knows the job's secret.
    public func text(proof: String) -> String { text + "proof \(proof)\n" }

    /// Reads what `text(proof:)` wrote. Nil for anything else.
    public static func read(_ text: String) -> (meeting: Meeting, proof: String)? {
        var values: [String: String] = [:], claims: [Claim] = []
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard words.count == 2 else { return nil }
            guard words[0] == "claim" else {
                values[words[0]] = words[1]
                continue
            }
            let claim = words[1].split(separator: " ", maxSplits: 1).map(String.init)
            guard claim.count == 2 else { return nil }
            claims.append(Claim(claim[0], claim[1]))
        }
        guard let epoch = values["epoch"].flatMap({ UInt32($0) }), let ranks = values["ranks"].flatMap({ Int($0) }),
              let open = values["open"].flatMap({ Int($0) }), let host = values["host"],
              let port = values["port"].flatMap({ Int($0) }), let processes = values["processes"],
              let over = values["over"], let proof = values["proof"], (0...ranks).contains(open),
              (0...65_535).contains(port) else { return nil }
        return (Meeting(epoch: epoch, ranks: ranks, open: open, host: host, port: port,
                        processes: processes.split(separator: " ").compactMap { Int($0) }, claims: claims,
                        isOver: over == "1"), proof)
    }
}
