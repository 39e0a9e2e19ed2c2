import Base

/// How much of each source a run reads: shares of the tokens, which may change at given steps.
///
/// The whole history belongs to a run: what was read before a step follows from it. So a run that goes on may add a
/// phase that begins at its step or later, and nothing is repeated or lost; it may not change an earlier one.
public struct SourceWeights: Sendable, Equatable {
    public struct Phase: Sendable, Equatable {
        /// The first step with these weights.
        public var step: Int
        /// One for each source, none negative, with a sum of 1.
        public var weights: [Double]

        package init(step: Int, weights: [Double]) {
            self.step = step
            self.weights = weights
        }
    }

    /// The most sources that may have weights.
    public static let mostSources = 16

    /// In the order of their steps; the first begins at 0.
    public let phases: [Phase]

    /// Reads `lines`: either each is a phase, "STEP: w1 w2 ...", or all are the weights of the only one. `sources` is
    /// how many weights there must be. Throws `BadInput`, naming the line.
    public init(_ lines: [String], sources: Int) throws(BadInput) {
        guard sources <= Self.mostSources else {
            throw BadInput("data.weights: \(sources) sources, \(Self.mostSources) are the most; put several into one "
                + "folder")
        }
        let isPlain = !lines.contains { $0.contains(":") }
        var phases: [Phase] = []
        for line in isPlain ? ["0: " + lines.joined(separator: " ")] : lines {
            let phase = try Self.phase(line, sources: sources)
            guard phase.step > phases.last?.step ?? -1, phases.isEmpty == (phase.step == 0) else {
                throw BadInput("data.weights \"\(line)\": phases begin at step 0 and come in the order of their steps")
            }
            phases.append(phase)
        }
        self.phases = phases
    }

    private static func phase(_ line: String, sources: Int) throws(BadInput) -> Phase {
        let parts = line.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, let step = Int(parts[0].filter { $0 != " " }), step >= 0 else {
            throw BadInput("data.weights \"\(line)\": expected \"STEP: w1 w2 ...\", one weight for each of data.paths")
        }
        var weights: [Double] = []
        for word in parts[1].split(whereSeparator: { $0 == " " || $0 == "," }) {
            guard let weight = Double(word), weight >= 0, weight.isFinite else {
                throw BadInput("data.weights \"\(line)\": `\(word)` is no weight; they are numbers of 0 and more")
            }
            weights.append(weight)
        }
        let sum = weights.reduce(0, +)
        guard weights.count == sources else {
            throw BadInput("data.weights \"\(line)\": \(weights.count) weights for \(sources) sources (data.paths)")
        }
        guard sum > 0, sum.isFinite else { throw BadInput("data.weights \"\(line)\": no source has a weight") }
        return Phase(step: step, weights: weights.map { $0 / sum })
    }

    /// The phase that `step` is in.
    package func phase(at step: Int) -> Int {
        var phase = phases.count - 1
        while phases[phase].step > step { phase -= 1 }
        return phase
    }

    /// CRC-32C of what decided the steps before `step`: equal for runs whose past is the same, whatever they do next.
    public func fingerprint(before step: Int) -> UInt32 {
        var writer = ByteWriter()
        for phase in phases where phase.step < step {
            writer.append(UInt64(phase.step))
            for weight in phase.weights { writer.append(weight.bitPattern) }
        }
        return CRC32C.checksum(writer.bytes)
    }
}

/// Shares out numbered rows among sources in proportion to weights, in closed form: whose row `k` is, and how many
/// rows that source had before, costs a few additions for any k. So nothing has to be kept or replayed, and any rank
/// can ask for any row.
///
/// The sources are the leaves of a binary tree. Of the first k rows that a node gets, its left child gets
/// floor(k w + 1/2), w being its share of the node's weight, and the right one the rest; either count grows by one
/// row at a time. A node is off its ideal count by at most 1/2 + p e, where e is its parent's error and p its share of
/// the parent. In Huffman's tree a node weighs no less than its child and grandchild together, so errors add up to no
/// more than half the sum of the Fibonacci numbers' reciprocals: a source is never 1.68 rows away from k times its
/// weight, with up to three sources never a whole row.
package struct SourceShares: Sendable, Equatable {
    /// A leaf is a source, as -1 - source.
    private struct Node: Equatable { var left: Int, right: Int, share: Double }
    private var nodes: [Node] = []
    private var root: Int

    /// `weights` are not all 0; sources without weight get nothing.
    package init(_ weights: [Double]) {
        var waiting = weights.indices.filter { weights[$0] > 0 }.map { (weight: weights[$0], node: -1 - $0) }
        precondition(!waiting.isEmpty, "no source has a weight")
        while waiting.count > 1 {
            // The lightest two; among equals those of the lowest sources, so that the tree is the same everywhere.
            waiting.sort { ($0.weight, -$0.node) < ($1.weight, -$1.node) }
            let (right, left) = (waiting[0], waiting[1]), sum = left.weight + right.weight
            nodes.append(Node(left: left.node, right: right.node, share: left.weight / sum))
            waiting = Array(waiting[2...]) + [(sum, nodes.count - 1)]
        }
        root = waiting[0].node
    }

    /// Whose row number `row` is, and which of its rows.
    package func place(of row: Int) -> (source: Int, row: Int) {
        var node = root, row = row
        while node >= 0 {
            let before = left(node, row), isLeft = left(node, row + 1) > before
            row = isLeft ? before : row - before
            node = isLeft ? nodes[node].left : nodes[node].right
        }
        return (-1 - node, row)
    }

    /// How many of the first `rows` rows each of `count` sources gets.
    package func counts(_ rows: Int, of count: Int) -> [Int] {
        var counts = [Int](repeating: 0, count: count)
        func share(_ node: Int, _ rows: Int) {
            guard node >= 0 else { return counts[-1 - node] = rows }
            share(nodes[node].left, left(node, rows))
            share(nodes[node].right, rows - left(node, rows))
        }
        share(root, rows)
        return counts
    }

    private func left(_ node: Int, _ rows: Int) -> Int { Int((Double(rows) * nodes[node].share + 0.5).rounded(.down)) }
}
