import ArgumentParser
import Base
import Foundation
import Launch
import Recipe
import Storage
import Trainer
import Wire

struct Doctor: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Looks at machines before a job is started on them.",
        discussion: """
            Without options: this machine's cores, memory, limits, speed and disk. With -n RANKS or --hostfile FILE it \
            starts that many ranks, which reach each other as a training's would, and measures every pair both ways. \
            What is wrong, or will be slow, is said last, with what to change. Exit code 1 if something is at fault.
            """)

    @Option(name: .customShort("n"), help: ArgumentHelp("Ranks on this machine.", valueName: "ranks"))
    var ranks: Int?
    @OptionGroup var remote: RemoteOptions
    @Option(help: "Where runs would be saved: a folder that exists.")
    var folder = "."
    @Option(name: .customLong("port-range"), help: "Ports that ranks other than 0 may take, as comm.port_range.")
    var portRange = ""
    @Flag(help: "One JSON object.")
    var json = false
    @Flag(help: .hidden)
    var join = false

    func run() throws {
        let recipe = try recipe()
        if join { return try joinOthers(recipe) }
        let arguments = ["doctor", "--join", "--folder", folder, "--port-range", portRange] + (json ? ["--json"] : [])
        guard let job = try remote.job(ranks: ranks, arguments: arguments) else {
            return try show(JobFacts(hosts: [try HostFacts(rank: 0, localRanks: 1, folder: folder)]))
        }
        StopRequests.install()
        let code = try Launcher(job) { path in try JobSecret.create(at: path) }.run()
        if code != 0 { throw ExitCode(code) }
    }

    private func recipe() throws(BadInput) -> Recipe {
        var recipe = Recipe()
        recipe.job.name = "doctor"
        recipe.communication.startSeconds = 30
        recipe.communication.portRange = portRange
        guard portRange.isEmpty || recipe.communication.ports != nil else {
            throw BadInput("--port-range \(portRange) is no range of ports; write for example 29400-29500")
        }
        return recipe
    }

    /// As one rank of a job that the doctor has started.
    private func joinOthers(_ recipe: Recipe) throws {
        guard let setting = try rankSetting() else {
            throw BadInput("--join is for the ranks that doctor starts itself")
        }
        let world = try World(joining: setting, recipe: recipe, dataFingerprint: "none", threads: 1)
        // All at once, as they will train: ranks of one machine share what it has.
        try world.barrier()
        let own = try HostFacts(rank: setting.rank, localRanks: setting.localWorldSize, folder: folder)
        try world.barrier()
        let facts = try world.facts(own: own)
        try world.leave()
        if let facts { try show(facts) }
    }

    private struct Answer: Encodable {
        let facts: JobFacts
        let findings: [Finding]
    }

    private func show(_ facts: JobFacts) throws {
        let findings = facts.findings
        if json {
            printJSON(Answer(facts: facts, findings: findings))
        } else {
            showHosts(facts)
            if facts.hosts.count > 1 { showLinks(facts) }
            print("")
            for finding in findings { print("\(finding.weight.rawValue): \(finding.text)") }
            if findings.isEmpty { print("nothing stands in the way") }
        }
        if findings.contains(where: { $0.weight == .fault }) { throw ExitCode(1) }
    }

    private func showHosts(_ facts: JobFacts) {
        var rows = [["rank", "host", "cores", "GFLOP/s", "of 1 thread", "memory", "files", "sync", "write MB/s",
                     "clock"]]
        for (host, offset) in zip(facts.hosts, facts.clockOffsets) {
            rows.append([
                "\(host.rank)", host.host, "\(host.cores) of \(host.machineCores)", Units.fixed(host.allThreads, 0),
                Units.fixed(host.oneThread, 0), Units.bytes(host.memory), "\(host.files)",
                Units.duration(host.syncSeconds), Units.fixed(host.writeRate / 1e6, 0),
                (offset < 0 ? "-" : "+") + Units.duration(abs(offset))])
        }
        printAligned(rows, left: [1])
        let first = facts.hosts[0]
        print("  built for \(first.isa) (\(first.arithmetic)); the folder is \(first.folder)")
    }

    /// Two squares: from the row's rank to the column's.
    private func showLinks(_ facts: JobFacts) {
        let ranks = facts.hosts.indices
        func square(_ title: String, _ value: (LinkFacts) -> String) {
            print("\n\(title)")
            printAligned([["from"] + ranks.map { "to \($0)" }] + ranks.map { from in
                ["\(from)"] + ranks.map { to in
                    facts.links.first { $0.from == from && $0.to == to }.map(value) ?? "-"
                }
            }, left: [])
        }
        square("a message of a few bytes, microseconds") { Units.fixed($0.latency * 1e6, 1) }
        square("a large message, MB/s") { Units.fixed($0.rate / 1e6, 0) }
    }
}
