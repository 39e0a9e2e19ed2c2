import Base
import Foundation

/// A machine of a job, and how many ranks it gets.
public struct JobHost: Sendable, Equatable {
    /// As ssh is told: a name or an address, perhaps with `USER@` before it.
    public var name: String
    public var slots: Int
    /// Under which the other machines reach it: the first of its addresses where the file has any, else its name.
    public var address: String

    public init(name: String, slots: Int = 1, address: String? = nil) {
        self.name = name
        self.slots = slots
        self.address = address ?? name.split(separator: "@").last.map(String.init) ?? name
    }

    /// This machine itself, which needs no ssh.
    package var isHere: Bool { isLoopback(host: address) || address == ownHostName() }
}

/// A hostfile in any of three forms, told apart by how it begins:
///
///     node1                       a plain list: a rank for each line, however often a name is there
///     node1 slots=2               DeepSpeed's and Open MPI's
///     [{"ssh": "node1", "ips": ["10.0.0.1"]}]      MLX's: a rank for each entry; or {"hosts": [...], ...}
///
/// path: for messages.
public func readHostFile(_ text: String, path: String) throws(BadInput) -> [JobHost] {
    let first = text.first { !$0.isWhitespace }
    let hosts = first == "[" || first == "{" ? try jsonHosts(text, path) : try listedHosts(text, path)
    guard !hosts.isEmpty else { throw BadInput("\(path) names no machine; write one on each line") }
    for host in hosts { try requireName(host, path) }
    let ranks = hosts.reduce(0) { $0 + $1.slots }
    guard ranks <= Job.maximumRanks else {
        throw BadInput("\(path) has \(ranks) ranks; a job has at most \(Job.maximumRanks)")
    }
    let isMixed = hosts.contains { isLoopback(host: $0.address) } && hosts.contains { !isLoopback(host: $0.address) }
    if isMixed {
        throw BadInput("\(path) has this machine as localhost among others, which cannot reach it by that name; write "
            + "the name or address that they know")
    }
    return hosts
}

private func listedHosts(_ text: String, _ path: String) throws(BadInput) -> [JobHost] {
    var hosts: [JobHost] = []
    let lines = text.split(omittingEmptySubsequences: false) { $0 == "\n" || $0 == "\r\n" }
    for (index, line) in lines.enumerated() {
        let words = line.prefix { $0 != "#" }.split { $0 == " " || $0 == "\t" }.map(String.init)
        guard let name = words.first else { continue }
        var host = JobHost(name: name)
        for word in words.dropFirst() {
            let parts = word.split(separator: "=", omittingEmptySubsequences: false)
            let known = ["slots", "max_slots", "max-slots"]
            guard parts.count == 2, known.contains(String(parts[0])), let count = Int(parts[1]), count >= 1 else {
                throw BadInput("\(path):\(index + 1): '\(word)' is not understood; write a machine as \(name) slots=2")
            }
            if parts[0] == "slots" { host.slots = count }
        }
        hosts.append(host)
    }
    return hosts
}

private func jsonHosts(_ text: String, _ path: String) throws(BadInput) -> [JobHost] {
    struct Entry: Decodable {
        let ssh: String
        let ips: [String]?
    }
    struct File: Decodable { let hosts: [Entry] }
    let data = Data(text.utf8), decoder = JSONDecoder()
    let listed = try? decoder.decode([Entry].self, from: data)
    guard let entries = listed ?? (try? decoder.decode(File.self, from: data))?.hosts else {
        throw BadInput("\(path) begins as JSON, but is no list of machines; write "
            + "[{\"ssh\": \"node1\", \"ips\": [\"10.0.0.1\"]}, ...]")
    }
    return entries.map { JobHost(name: $0.ssh, address: $0.ips?.first) }
}

/// A name goes to ssh as one argument: it must not be an option, nor anything but a name.
private func requireName(_ host: JobHost, _ path: String) throws(BadInput) {
    for name in [host.name, host.address] {
        let isPlain = name.utf8.allSatisfy { byte in
            (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
                || ".-_@:[]%".utf8.contains(byte)
        }
        if name.isEmpty || !isPlain || name.hasPrefix("-") || name.utf8.count > 255 {
            throw BadInput("\(path): '\(name)' names no machine")
        }
    }
}

/// What this machine calls itself.
package func ownHostName() -> String { ProcessInfo.processInfo.hostName }
