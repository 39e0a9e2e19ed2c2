import Base

/// What the facts mean for training, and what to do about it.
public struct Finding: Codable, Sendable, Equatable {
    public enum Weight: String, Codable, Sendable { case fault, warning, note }
    public let weight: Weight
    /// One line: what, where, and what to change.
    public let text: String

    init(_ weight: Weight, _ text: String) { (self.weight, self.text) = (weight, text) }
}

extension JobFacts {
    /// The gravest first. Empty where there is nothing to say.
    public var findings: [Finding] {
        let all = hosts.flatMap(findings(of:)) + commonFindings + slowLinks + farLinks
        let order: [Finding.Weight] = [.fault, .warning, .note]
        return order.flatMap { weight in all.filter { $0.weight == weight } }
    }

    private func name(_ host: HostFacts) -> String {
        hosts.count == 1 ? host.host : "rank \(host.rank) (\(host.host))"
    }

    private func findings(of host: HostFacts) -> [Finding] {
        var found: [Finding] = []
        let name = name(host)
        if let problem = host.folderProblem {
            found.append(Finding(.fault, "\(name): \(problem); give a folder that can be written to by --folder"))
        }
        if host.memory > 0, host.memory < 1 << 30 {
            found.append(Finding(.warning, "\(name): only \(Units.bytes(host.memory)) of memory are free "
                + "(\(host.memoryLimit)); skein plan says what a run takes"))
        }
        if host.memoryLimit == "this process's cgroup" {
            found.append(Finding(.note, "\(name): the cgroup's limit of memory counts, not the machine's; raise it "
                + "there"))
        }
        if host.cores < host.machineCores {
            found.append(Finding(.note, "\(name): \(host.cores) of the machine's \(host.machineCores) cores may be "
                + "used (affinity, or a cgroup's quota)"))
        }
        if host.localRanks > host.cores {
            found.append(Finding(.warning, "\(name): \(host.localRanks) ranks share \(host.cores) cores; start at most "
                + "\(host.cores) there"))
        }
        let needed = 24 + 4 * (hosts.count - 1)
        if host.files > 0, host.files < needed {
            found.append(Finding(.fault, "\(name): \(host.files) open files are allowed, and a rank needs about "
                + "\(needed); raise the limit (ulimit -n 4096)"))
        }
        let shared = (host.localRanks - 1) * host.localRanks / 2 * 2 << 20
        if host.localRanks > 1, host.shared < shared {
            found.append(Finding(.warning, "\(name): /dev/shm has \(Units.bytes(host.shared)) free, and its ranks "
                + "would share \(Units.bytes(shared)); enlarge it (--shm-size in containers), or they go by TCP"))
        }
        if host.syncSeconds > 0.05 {
            found.append(Finding(.warning, "\(name): a sync in \(host.folder) takes "
                + "\(Units.duration(host.syncSeconds)); save seldom (checkpoint.interval), or in the background "
                + "(checkpoint.async = true)"))
        }
        return found
    }

    private var commonFindings: [Finding] {
        var found: [Finding] = []
        let kinds = Set(hosts.map(\.arithmetic))
        if kinds.count > 1 {
            let names = kinds.sorted().joined(separator: "; ")
            found.append(Finding(.fault, "the machines compute differently (\(names)), so their ranks refuse each "
                + "other; build for what all have (SKEIN_MARCH)"))
        }
        if let best = hosts.map(\.allThreads).max(), best > 0 {
            for host in hosts where host.allThreads < 0.8 * best {
                let share = Units.fixed(100 * host.allThreads / best, 0)
                found.append(Finding(.warning, "\(name(host)) multiplies at \(share) % of the fastest, and a step "
                    + "lasts as long as its slowest rank; leave it out, or see what else runs there"))
            }
        }
        for (rank, offset) in clockOffsets.enumerated() where abs(offset) > 1 && rank < hosts.count {
            found.append(Finding(.note, "\(name(hosts[rank])): its clock is \(Units.duration(abs(offset))) "
                + "\(offset > 0 ? "ahead of" : "behind") rank 0's; training does not mind, but times in logs and "
                + "dashboards will not agree: set it by chrony or ntp"))
        }
        return found
    }

    private func ends(_ link: LinkFacts) -> String { "\(name(hosts[link.from])) to \(name(hosts[link.to]))" }

    /// Between machines, and within them, where messages go through memory: each against its own kind, since a few
    /// links among many are compared with the usual one. Where all are slow there is no usual one; what a gigabit gives
    /// is the least that machines which train together have.
    private var slowLinks: [Finding] {
        let isWithin = { (link: LinkFacts) in hosts[link.from].host == hosts[link.to].host }
        let odd = [links.filter { !isWithin($0) }, links.filter(isWithin)].flatMap { kind in
            let rates = kind.map(\.rate).sorted(), usual = rates.isEmpty ? 0 : rates[rates.count / 2]
            return kind.filter { $0.rate < 0.5 * usual }.map { (link: $0, usual: usual) }
        }
        let found = odd.map { link, usual in
            Finding(.warning, "\(ends(link)): \(Units.fixed(link.rate / 1e6, 1)) MB/s, less than half of the usual "
                + "\(Units.fixed(usual / 1e6, 1)); look at its cable, port or driver, and who else sends there")
        }
        let slow = links.filter { link in
            !isWithin(link) && link.rate < Self.leastRate && !odd.contains { $0.link == link }
        }
        guard let slowest = slow.min(by: { $0.rate < $1.rate }) else { return found }
        let others = slow.count == 1 ? "" : " and \(slow.count - 1) other way\(slow.count == 2 ? "" : "s")"
        let rate = Units.fixed(slowest.rate / 1e6, 1)
        return found + [Finding(.warning, "\(ends(slowest))\(others): \(rate) MB/s, and a gigabit gives 118; see what "
            + "the ports agreed on (ethtool), and whether something limits or shares them, or send less "
            + "(comm.gradients = \"bf16\", a larger training.global_batch_size)")]
    }

    /// Bytes a second: half of a gigabit.
    private static let leastRate = 6e7

    private var farLinks: [Finding] {
        links.filter { $0.latency > 0.005 }.map { link in
            Finding(.warning, "\(ends(link)): a message takes \(Units.duration(link.latency)); every step waits for "
                + "several one after the other")
        }
    }
}
