import Base

/// Slurm's short form of many host names: `node[3-5,9],gpu01` is node3, node4, node5, node9, gpu01. A name may have
/// several brackets, and numbers keep their leading zeros: `r[0-1]n[08-10]` is r0n08, r0n09, r0n10, r1n08, ...
///
/// variable: who said so, for the error.
package func expandNodeList(_ list: String, variable: String) throws(BadInput) -> [String] {
    var hosts: [String] = []
    for item in try splitOutsideBrackets(list, variable) {
        var names = [""]
        var rest = item[...]
        while let open = rest.firstIndex(of: "[") {
            guard let close = rest[open...].firstIndex(of: "]") else { throw malformed(list, variable) }
            let prefix = rest[..<open]
            let numbers = try expandRanges(rest[rest.index(after: open)..<close], list, variable)
            guard names.count * numbers.count <= maximumHosts, prefix.utf8.count <= longestName else {
                throw malformed(list, variable)
            }
            names = names.flatMap { name in numbers.map { name + prefix + $0 } }
            guard names.allSatisfy({ $0.utf8.count <= longestName }) else { throw malformed(list, variable) }
            rest = rest[rest.index(after: close)...]
        }
        guard rest.utf8.count <= longestName else { throw malformed(list, variable) }
        hosts += names.map { $0 + rest }
        guard hosts.count <= maximumHosts else { throw malformed(list, variable) }
    }
    guard !hosts.isEmpty, hosts.allSatisfy({ !$0.isEmpty }) else { throw malformed(list, variable) }
    return hosts
}

/// More than any cluster has; a mistyped range must not fill the memory.
private let maximumHosts = 65_536
/// Bytes of a host's name in DNS.
private let longestName = 255

private func malformed(_ list: String, _ variable: String) -> BadInput {
    BadInput("\(variable) is \"\(list)\", which is no list of hosts; write it like node[3-5,9],other")
}

/// Items between the commas that are in no bracket.
private func splitOutsideBrackets(_ list: String, _ variable: String) throws(BadInput) -> [String] {
    var items = [""]
    var inside = false
    for character in list {
        if character == "[" || character == "]" {
            guard inside == (character == "]") else { throw malformed(list, variable) }
            inside.toggle()
        }
        if character == ",", !inside {
            items.append("")
        } else {
            items[items.count - 1].append(character)
        }
    }
    guard !inside else { throw malformed(list, variable) }
    return items
}

/// `3-5,09` is 3, 4, 5, 09. A range has as many digits as its first number.
private func expandRanges(_ ranges: Substring, _ list: String, _ variable: String) throws(BadInput) -> [String] {
    var numbers: [String] = []
    for range in ranges.split(separator: ",", omittingEmptySubsequences: false) {
        let ends = range.split(separator: "-", omittingEmptySubsequences: false)
        guard ends.count <= 2, ends.allSatisfy({ $0.allSatisfy { ("0"..."9").contains($0) } }),
              let first = Int(ends[0]), let last = Int(ends[ends.count - 1]),
              first <= last, last - first < maximumHosts - numbers.count, ends[0].utf8.count <= longestName
        else { throw malformed(list, variable) }
        numbers += (first...last).map { number in
            let digits = String(number)
            return String(repeating: "0", count: max(0, ends[0].count - digits.count)) + digits
        }
    }
    return numbers
}

/// Slurm's short form of tasks on each node: `2(x3),1` is 2, 2, 2, 1. Nil when it is something else.
package func expandTaskCounts(_ text: String) -> [Int]? {
    var counts: [Int] = []
    for item in text.split(separator: ",", omittingEmptySubsequences: false) {
        let parts = item.split(separator: "(", maxSplits: 1, omittingEmptySubsequences: false)
        var times = 1
        if parts.count == 2 {
            guard parts[1].hasPrefix("x"), parts[1].hasSuffix(")"), let number = Int(parts[1].dropFirst().dropLast()),
                  (1...maximumHosts).contains(number)
            else { return nil }
            times = number
        }
        guard let count = Int(parts[0]), (1...maximumHosts).contains(count), counts.count + times <= maximumHosts
        else { return nil }
        counts += Array(repeating: count, count: times)
    }
    return counts
}
