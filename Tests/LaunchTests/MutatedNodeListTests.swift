import Base
import Launch
import Mutation
import Testing

/// Node lists and task counts as a broken scheduler or script may leave them in the environment.
@Suite struct MutatedNodeListTests {
    @Test func listsAreTakenOrRefused() {
        var mutation = Mutation(seed: 3, more: ["[1-65536]", "[0-65535]", "[000000000000000000001-2]", "-", "x99999"])
        var refused = 0
        for _ in 0..<5_000 {
            let text = String(decoding: mutation.next(of: Array("n[098-101],r[0-1]n[1,3]-ib.cluster.org,gpu01".utf8)),
                              as: UTF8.self)
            do throws(BadInput) {
                let hosts = try expandNodeList(text, variable: "LIST")
                #expect(hosts.count <= 65_536 && hosts.allSatisfy { !$0.isEmpty })
            } catch {
                refused += 1
                #expect(error.description.hasPrefix("LIST is"))
            }
        }
        #expect(refused > 1_000)
        for _ in 0..<3_000 {
            let text = String(decoding: mutation.next(of: Array("2(x3),4,1(x12)".utf8)), as: UTF8.self)
            if let counts = expandTaskCounts(text) {
                #expect(counts.count <= 65_536 && counts.allSatisfy { (1...65_536).contains($0) }, "\(text)")
            }
        }
    }
}
