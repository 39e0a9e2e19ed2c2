import Base
import Trainer
import Testing

@Suite struct VerdictTests {
    private func host(_ rank: Int, change: (inout HostFacts) -> Void = { _ in }) -> HostFacts {
        var facts = HostFacts()
        (facts.rank, facts.host, facts.cores, facts.machineCores) = (rank, "node\(rank)", 8, 8)
        (facts.isa, facts.arithmetic, facts.oneThread, facts.allThreads) = ("avx512", "x86-64 with FMA", 100, 700)
        (facts.memory, facts.memoryLimit, facts.files, facts.shared) = (64 << 30, "this machine", 1_024, 1 << 30)
        (facts.folder, facts.syncSeconds, facts.writeRate) = ("outputs", 0.002, 5e8)
        change(&facts)
        return facts
    }

    private func job(_ hosts: [HostFacts], slow: Int? = nil, far: Int? = nil, clock: [Double]? = nil) -> JobFacts {
        let links = hosts.indices.flatMap { from in
            hosts.indices.filter { $0 != from }.map { to in
                LinkFacts(from: from, to: to, latency: to == far ? 0.02 : 1e-4, rate: from == slow ? 3e7 : 1e9)
            }
        }
        return JobFacts(hosts: hosts, links: links, clockOffsets: clock ?? hosts.map { _ in 0 })
    }

    @Test func nothingToSay() {
        #expect(job([host(0)]).findings == [] && job([host(0), host(1), host(2)]).findings == [])
    }

    private static let cases: [(String, String, @Sendable (inout HostFacts) -> Void)] = [
        ("fault", "cannot write", { $0.folderProblem = "cannot write outputs/x" }),
        ("fault", "ulimit -n", { $0.files = 30 }),
        ("fault", "SKEIN_MARCH", { $0.arithmetic = "arm64" }),
        ("warning", "of memory are free", { $0.memory = 1 << 20 }),
        ("note", "cgroup's limit", { $0.memoryLimit = "this process's cgroup" }),
        ("note", "4 of the machine's 8 cores", { $0.cores = 4 }),
        ("warning", "12 ranks share 8 cores", { $0.localRanks = 12 }),
        ("warning", "/dev/shm", { ($0.localRanks, $0.shared) = (4, 1 << 20) }),
        ("warning", "checkpoint.async", { $0.syncSeconds = 0.2 }),
        ("warning", "43 % of the fastest", { $0.allThreads = 300 }),
    ]

    /// Each fact that stands in the way is told once, with its rank, its machine and what to do.
    @Test(arguments: cases)
    func eachFact(_ weight: String, _ words: String, _ change: @Sendable (inout HostFacts) -> Void) {
        let findings = job([host(0), host(1), host(2, change: change)]).findings
        #expect(findings.count == 1)
        #expect(findings.first?.weight.rawValue == weight, "\(findings)")
        #expect(findings.first?.text.contains(words) == true, "\(findings)")
        #expect(words == "SKEIN_MARCH" || findings.first?.text.hasPrefix("rank 2 (node2)") == true)
    }

    @Test func theNetwork() {
        let slow = job([host(0), host(1), host(2)], slow: 1).findings
        #expect(slow.count == 2 && slow.allSatisfy { $0.text.hasPrefix("rank 1 (node1) to rank ") })
        // Two machines have no third to be compared with, and ranks of one machine are not what is usual between two.
        var two = job([host(0), host(1)])
        for index in two.links.indices { two.links[index].rate = 1.2e7 }
        #expect(two.findings.count == 1)
        let both = "rank 0 (node0) to rank 1 (node1) and 1 other way: 12.0 MB/s, and a gigabit"
        #expect(two.findings.first?.text.hasPrefix(both) == true)
        let near = job([host(0), host(1) { $0.host = "node0" }, host(2) { $0.host = "node0" }, host(3)])
        var mixed = near
        for index in mixed.links.indices where mixed.links[index].from < 3 && mixed.links[index].to < 3 {
            mixed.links[index].rate = 9e9
        }
        #expect(near.findings == [] && mixed.findings == [])
        let far = job([host(0), host(1), host(2)], far: 0).findings
        #expect(far.count == 2 && far.allSatisfy { $0.text.contains("to rank 0 (node0): a message takes 20 ms") })
        let clock = job([host(0), host(1)], clock: [0, -3.5]).findings
        #expect(clock.count == 1 && clock[0].weight == .note && clock[0].text.contains("3.5 s behind rank 0's"))
    }

    /// Faults come before warnings, and those before notes.
    @Test func theGravestFirst() {
        let findings = job([host(0) { $0.cores = 4 }, host(1) { ($0.files, $0.syncSeconds) = (8, 1) }]).findings
        #expect(findings.map(\.weight) == [.fault, .warning, .note])
    }

    /// This machine, measured: numbers that cannot be otherwise.
    @Test func thisMachine() throws {
        let facts = try HostFacts(rank: 0, localRanks: 1, folder: "/tmp")
        #expect(facts.cores >= 1 && facts.cores <= facts.machineCores && facts.memory > 1 << 20 && facts.files > 10)
        #expect(facts.oneThread > 1 && facts.allThreads > 1 && facts.folderProblem == nil)
        #expect(facts.syncSeconds > 0 && facts.writeRate > 0 && !facts.host.isEmpty)
        let gone = try HostFacts(rank: 0, localRanks: 1, folder: "/nowhere")
        #expect(gone.folderProblem?.contains("/nowhere") == true)
    }
}
