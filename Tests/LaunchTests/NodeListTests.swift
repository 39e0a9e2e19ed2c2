import Base
import Launch
import Testing

@Suite struct NodeListTests {
    @Test(arguments: [
        ("node1", ["node1"]),
        ("node1,node2", ["node1", "node2"]),
        ("node[3-5,9]", ["node3", "node4", "node5", "node9"]),
        ("node[3-5,9],gpu01", ["node3", "node4", "node5", "node9", "gpu01"]),
        ("gpu01,node[3]", ["gpu01", "node3"]),
        ("n[08-11]", ["n08", "n09", "n10", "n11"]),
        ("n[098-101]", ["n098", "n099", "n100", "n101"]),
        ("n[9-10]", ["n9", "n10"]),
        ("r[0-1]n[1,3]", ["r0n1", "r0n3", "r1n1", "r1n3"]),
        ("r[0-1]-ib.cluster.org", ["r0-ib.cluster.org", "r1-ib.cluster.org"]),
        ("[1-2]x", ["1x", "2x"]),
        ("a[1-2],b[1-2]c", ["a1", "a2", "b1c", "b2c"]),
    ]) func expands(_ list: String, _ hosts: [String]) throws {
        #expect(try expandNodeList(list, variable: "LIST") == hosts)
    }

    @Test(arguments: ["", ",", "a,", ",a", "n[", "n[1", "n]", "n1]", "n[]", "n[1-]", "n[-1]", "n[1-2-3]",
                      "n[2-1]", "n[a-b]", "n[1,,2]", "n[[1]]", "n[1][", "n[0-99999999999999999999]", "n[0-999999999]",
                      "n[+1]",
                      "a[0-300]b[0-300]", "a[0-60000],b[0-60000]"])
    func refuses(_ list: String) {
        do throws(BadInput) {
            let hosts = try expandNodeList(list, variable: "LIST")
            Issue.record("\(list) is \(hosts.prefix(5))")
        } catch {
            #expect(error.description.hasPrefix("LIST is \"\(list)\""))
        }
    }

    /// Every range of numbers up to 120, with and without leading zeros: as many hosts as it says, in order, and
    /// each as wide as the first number.
    @Test func everyRange() throws {
        for first in 0...120 {
            for last in [first, first + 1, first + 9, 120] where last >= first {
                for width in 0...4 {
                    func padded(_ number: Int) -> String {
                        String(repeating: "0", count: max(0, width - "\(number)".count)) + "\(number)"
                    }
                    let hosts = try expandNodeList("n[\(padded(first))-\(last)]", variable: "LIST")
                    #expect(hosts == (first...last).map { number in
                        let zeros = max(0, padded(first).count - "\(number)".count)
                        return "n" + String(repeating: "0", count: zeros) + "\(number)"
                    })
                }
            }
        }
    }

    @Test(arguments: [("4", [4]), ("2(x3),1", [2, 2, 2, 1]), ("1,1", [1, 1]), ("8(x1)", [8]),
                      ("3(x2),2(x2)", [3, 3, 2, 2])])
    func taskCounts(_ text: String, _ counts: [Int]) { #expect(expandTaskCounts(text) == counts) }

    @Test(arguments: ["", "a", "2(", "2()", "2(x)", "2(3)", "2(x0)", "0", "-1", "2(x3", "2,,1", "2(x9999999999)"])
    func noTaskCounts(_ text: String) { #expect(expandTaskCounts(text) == nil) }
}
