import Base
import Launch
import Testing

@Suite struct HostFileTests {
    private func hosts(_ text: String) throws -> [JobHost] { try readHostFile(text, path: "hosts") }

    @Test func plainLists() throws {
        #expect(try hosts("node1\nnode2\n") == [JobHost(name: "node1"), JobHost(name: "node2")])
        #expect(try hosts("# ours\n\nnode1 # the first\r\n\tnode1\r\nme@10.0.0.2\n")
            == [JobHost(name: "node1"), JobHost(name: "node1"), JobHost(name: "me@10.0.0.2", address: "10.0.0.2")])
    }

    @Test func slots() throws {
        #expect(try hosts("node1 slots=2\nnode2 slots=3 max_slots=8\n")
            == [JobHost(name: "node1", slots: 2), JobHost(name: "node2", slots: 3)])
    }

    /// MLX's own form, and with what else it puts around it.
    @Test func json() throws {
        let list = "[{\"ssh\": \"a\", \"ips\": [\"10.0.0.1\", \"10.1.0.1\"]}, {\"ssh\": \"b\", \"rdma\": [null]}]"
        let want = [JobHost(name: "a", address: "10.0.0.1"), JobHost(name: "b")]
        #expect(try hosts(list) == want)
        #expect(try hosts("{\"backend\": \"ring\", \"envs\": [], \"hosts\": \(list)}") == want)
    }

    @Test(arguments: [
        ("", "hosts names no machine"), ("# nobody\n", "hosts names no machine"),
        ("node1 slots=0", "hosts:1: 'slots=0' is not understood"), ("a\nnode1 2", "hosts:2: '2' is not understood"),
        ("node1 cores=4", "'cores=4' is not understood"), ("-oProxyCommand=x", "'-oProxyCommand=x' names no machine"),
        ("a;b", "'a;b' names no machine"), ("[{\"host\": 1}]", "no list of machines"), ("{}", "no list of machines"),
        ("[{\"ssh\": \"a b\"}]", "'a b' names no machine"), ("a slots=300", "hosts has 300 ranks"),
        ("localhost\nnode2", "this machine as localhost among others"),
        ("[{\"ssh\": \"a\", \"ips\": [\"$(x)\"]}]", "'$(x)' names no machine"),
    ]) func refusals(_ text: String, _ words: String) {
        let error = #expect(throws: BadInput.self) { try hosts(text) }
        #expect(error.map { "\($0)".contains(words) && !"\($0)".contains("\n") } == true, "\(error as Any)")
    }
}
