import Base
import Wire

// A few numbers from every rank to every rank: counts, losses, norms, hashes. One hop, and all ranks
// combine the same rows in the same order, so all get the same bits.
extension Communicator {
    /// The most words per rank in one exchange.
    static var exchangeLimit: Int { 64 }

    /// Hands each rank's `values` to all: W rows of values.count numbers, in the group's order. All ranks
    /// pass the same number of values, 64 at most.
    public func exchange(_ values: [Double], in group: Group? = nil) throws(CollectiveFault) -> [[Double]] {
        let group = group ?? world
        try gather(width: values.count, in: group) { values[$0].bitPattern }
        return (0..<group.size).map { member in
            values.indices.map { Double(bitPattern: word(member * values.count + $0)) }
        }
    }

    /// The sum of each value over the group's ranks, added in the group's order.
    public func sum(_ values: Double..., in group: Group? = nil) throws(CollectiveFault) -> [Double] {
        let group = group ?? world
        try gather(width: values.count, in: group) { values[$0].bitPattern }
        return values.indices.map { total($0, width: values.count, of: group) }
    }

    /// The same for one number, without allocating.
    public func sum(_ value: Double, in group: Group? = nil) throws(CollectiveFault) -> Double {
        let group = group ?? world
        try gather(width: 1, in: group) { _ in value.bitPattern }
        return total(0, width: 1, of: group)
    }

    /// The same for two numbers, without allocating: (norm, finite), (loss, targets).
    public func sum(
        _ first: Double, _ second: Double, in group: Group? = nil
    ) throws(CollectiveFault) -> (Double, Double) {
        let group = group ?? world
        try gather(width: 2, in: group) { $0 == 0 ? first.bitPattern : second.bitPattern }
        return (total(0, width: 2, of: group), total(1, width: 2, of: group))
    }

    /// Checks that a replicated result is the same on all ranks of the group, by its hash. `what` names it,
    /// for example "parameters after step 50". Every rank throws, naming those that differ from the
    /// majority; without a majority, all.
    public func compareHashes(
        _ hash: UInt64, of what: String, in group: Group? = nil
    ) throws(CollectiveFault) {
        let group = group ?? world
        try gather(width: 1, in: group) { _ in hash }
        let first = word(0)
        if (1..<group.size).allSatisfy({ word($0) == first }) { return }
        // All ranks have these rows or will; the abort is for those still waiting for a row of a rank that
        // has thrown already and is about to leave.
        let fault = disagreement(in: (0..<group.size).map { word($0) }, of: what, group: group)
        fail(fault, telling: LinkFault(
            culprit: fault.culprit, host: host(of: fault.culprit), operation: "comparison of \(what)",
            evidence: "\(fault)", reporter: rank))
        throw fault
    }

    private func disagreement(in hashes: [UInt64], of what: String, group: Group) -> CollectiveFault {
        var votes: [UInt64: Int] = [:]
        for hash in hashes { votes[hash, default: 0] += 1 }
        let majority = votes.first { $0.value * 2 > hashes.count }?.key
        let different = group.ranks.indices.filter { hashes[$0] != majority }
        let list = group.ranks.indices.map { "rank \(group.ranks[$0]): \(hexadecimal(hashes[$0]))" }
        return .disagreement(ranks: different.map { group.ranks[$0] }, what: what,
                             evidence: list.joined(separator: ", "))
    }

    /// All-gathers `width` words per rank into the scratch rows.
    private func gather(width: Int, in group: Group, _ value: (Int) -> UInt64) throws(CollectiveFault) {
        precondition(width <= Self.exchangeLimit, "at most \(Self.exchangeLimit) numbers per exchange")
        for column in 0..<width {
            let place = (group.index * width + column) * 8
            unsafe scratch.storeBytes(of: value(column), toByteOffset: place, as: UInt64.self)
        }
        let rows = unsafe UnsafeMutableRawBufferPointer(rebasing: scratch[..<(group.size * width * 8)])
        let request = Request(.allGather, .byte, count: group.size * width * 8, group: group)
        let ticket = unsafe submit(request, rows)
        try ticket.wait()
    }

    private func word(_ index: Int) -> UInt64 {
        unsafe scratch.load(fromByteOffset: index * 8, as: UInt64.self)
    }

    private func total(_ column: Int, width: Int, of group: Group) -> Double {
        var sum = 0.0
        for member in 0..<group.size { sum += Double(bitPattern: word(member * width + column)) }
        return sum
    }
}
