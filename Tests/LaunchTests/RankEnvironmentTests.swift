import Base
import Foundation
import Launch
import Testing

/// The line with which the environment is refused; nil when it is accepted.
private func refusal(_ environment: [String: String], _ flags: RankEnvironment.Flags = .init()) -> String? {
    do throws(BadInput) {
        _ = try RankEnvironment.resolve(environment, flags: flags)
        return nil
    } catch {
        #expect(!error.description.contains("\n"))
        return error.description
    }
}

@Suite struct RankEnvironmentTests {
    /// One way to tell a process its rank, complete: rank 2 of 4, second of two on its machine.
    struct Way: Sendable, CustomStringConvertible {
        let description: String
        let variables: [String: String]
        var localSize = 2
        var localRank = 1
        var address = "alpha"
        var port = 4_000
        /// Without one of these: refused, and the name in the text.
        var required: [String]

        var expected: RankEnvironment {
            // Read back from the same code, so that a new field does not go unseen.
            var value = try! RankEnvironment.resolve([
                "RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "x", "MASTER_PORT": "1", "SKEIN_SECRET_FILE": "secret",
            ])!
            (value.rank, value.worldSize, value.localRank, value.localWorldSize) = (2, 4, localRank, localSize)
            (value.masterAddress, value.masterPort) = (address, port)
            return value
        }
    }

    private static let master = ["MASTER_ADDR": "alpha", "MASTER_PORT": "4000"]
    private static let secret = ["SKEIN_SECRET_FILE": "secret"]
    private static func joined(_ all: [String: String]...) -> [String: String] {
        all.reduce(into: [:]) { $0.merge($1) { $1 } }
    }

    static let ways = [
        Way(description: "plain", variables: joined(master, secret, [
            "RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"]),
            required: ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "SKEIN_SECRET_FILE"]),
        Way(description: "indexed job", variables: joined(master, secret, [
            "JOB_COMPLETION_INDEX": "2", "WORLD_SIZE": "4"]), localSize: 1, localRank: 0,
            required: ["MASTER_ADDR", "MASTER_PORT", "SKEIN_SECRET_FILE"]),
        Way(description: "Kubeflow", variables: joined(secret, [
            "PET_NODE_RANK": "2", "PET_NNODES": "4", "PET_NPROC_PER_NODE": "1", "PET_MASTER_ADDR": "alpha",
            "PET_MASTER_PORT": "4000"]), localSize: 1, localRank: 0,
            required: ["PET_NODE_RANK", "PET_NNODES", "PET_MASTER_ADDR", "PET_MASTER_PORT", "SKEIN_SECRET_FILE"]),
        Way(description: "Slurm", variables: joined(secret, [
            "SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_NTASKS_PER_NODE": "2",
            "SLURM_JOB_NODELIST": "alpha,beta[1-2]", "SLURM_JOB_ID": "123457"]), port: 23_457,
            required: ["SLURM_NTASKS", "SKEIN_SECRET_FILE"]),
        Way(description: "Slurm's step", variables: joined(secret, [
            "ENVIRONMENT": "BATCH", "SLURM_STEP_ID": "0", "SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4",
            "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_STEP_TASKS_PER_NODE": "1,2,1",
            "SLURM_TASKS_PER_NODE": "4", "SLURM_STEP_NODELIST": "alpha", "SLURM_JOB_NODELIST": "beta",
            "MASTER_PORT": "4000"]), required: ["SKEIN_SECRET_FILE"]),
        Way(description: "Open MPI", variables: joined(master, secret, [
            "OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
            "OMPI_COMM_WORLD_LOCAL_SIZE": "2"]),
            required: ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "MASTER_ADDR", "SKEIN_SECRET_FILE"]),
        Way(description: "MPICH", variables: joined(master, secret, [
            "PMI_RANK": "2", "PMI_SIZE": "4", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"]),
            required: ["PMI_RANK", "PMI_SIZE", "MASTER_ADDR", "SKEIN_SECRET_FILE"]),
        Way(description: "PMI", variables: joined(master, secret, [
            "PMI_RANK": "2", "PMI_SIZE": "4", "PMI_LOCAL_RANK": "1", "PMI_LOCAL_SIZE": "2"]),
            required: ["PMI_RANK", "PMI_SIZE", "MASTER_ADDR", "SKEIN_SECRET_FILE"]),
    ]

    @Test(arguments: ways) func complete(_ way: Way) throws {
        #expect(try RankEnvironment.resolve(way.variables) == way.expected)
        // Variables that mean nothing, and empty ones, change nothing.
        let more = way.variables.merging(["PATH": "/bin", "SLURM_NNODES": "9", "RANK_": "7"]) { $1 }
        #expect(try RankEnvironment.resolve(more) == way.expected)
    }

    @Test(arguments: ways) func incomplete(_ way: Way) {
        for name in way.required {
            for empty in [nil, ""] {
                var variables = way.variables
                variables[name] = empty
                let line = refusal(variables) ?? "accepted"
                #expect(line.hasPrefix(name) || line.contains(" \(name) is not"), "\(name): \(line)")
            }
        }
    }

    @Test(arguments: ways) func noNumbers(_ way: Way) {
        for (name, value) in way.variables where Int(value) != nil && name != "PET_NPROC_PER_NODE" {
            // These are not read where something better is there.
            if name == "SLURM_TASKS_PER_NODE" || name == "SLURM_STEP_ID" { continue }
            for wrong in ["two", "-1", "1.5", "0x2", " 2", "99999999999999999999"] {
                let line = refusal(way.variables.merging([name: wrong]) { $1 })
                #expect(line?.contains("\(name) is \"\(wrong)\"") == true, "\(name) \(wrong): \(line ?? "-")")
            }
        }
    }

    @Test(arguments: ways) func ranksOutsideTheWorld(_ way: Way) throws {
        let names = ["RANK", "JOB_COMPLETION_INDEX", "PET_NODE_RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK",
                     "PMI_RANK"]
        let rank = try #require(names.first { way.variables[$0] != nil })
        for value in 0...9 {
            let line = refusal(way.variables.merging([rank: "\(value)"]) { $1 })
            #expect((line == nil) == (value < 4))
            #expect(line == nil || line!.hasPrefix("\(rank) is \(value), but "))
        }
    }

    /// The first in the list decides, whatever the others say.
    @Test func theFirstMatchWins() throws {
        for (first, winner) in Self.ways.enumerated() {
            for loser in Self.ways[(first + 1)...] {
                // Those of a pair that are two spellings of one way cannot both be there.
                let shared = Set(winner.variables.keys).intersection(loser.variables.keys)
                guard shared.isDisjoint(with: ["WORLD_SIZE", "SLURM_PROCID", "PMI_RANK"]) else { continue }
                let contrary = loser.variables.mapValues { Int($0) == nil ? $0 : "77" }
                    .filter { !["MASTER_ADDR", "MASTER_PORT", "ENVIRONMENT"].contains($0.key) }
                let both = contrary.merging(winner.variables) { $1 }
                #expect(try RankEnvironment.resolve(both) == winner.expected, "\(winner) over \(loser)")
            }
        }
    }

    @Test(arguments: ways) func flagsGoFirst(_ way: Way) throws {
        let flags = RankEnvironment.Flags(rank: 1, worldSize: 3, masterAddress: "gamma", masterPort: 5)
        let found = try #require(try RankEnvironment.resolve(way.variables, flags: flags))
        #expect(found.rank == 1 && found.worldSize == 3 && found.masterAddress == "gamma" && found.masterPort == 5)
        #expect(found.localRank == 0 && found.localWorldSize == 1)
        // A flag for the master alone replaces just that.
        let master = RankEnvironment.Flags(masterAddress: "delta", masterPort: 6)
        let moved = try #require(try RankEnvironment.resolve(way.variables, flags: master))
        #expect(moved.rank == 2 && moved.masterAddress == "delta" && moved.masterPort == 6)
    }

    @Test func flagsAreChecked() {
        let all = Self.joined(Self.master, Self.secret)
        #expect(refusal(all, .init(rank: 1))?.contains("--world-size is not") == true)
        #expect(refusal(all, .init(worldSize: 1))?.contains("--rank is not") == true)
        #expect(refusal(all, .init(rank: 4, worldSize: 4))?.hasPrefix("--rank is 4, but --world-size is 4") == true)
        #expect(refusal(all, .init(rank: -1, worldSize: 4))?.hasPrefix("--rank is \"-1\"") == true)
        #expect(refusal(all, .init(rank: 0, worldSize: 0))?.hasPrefix("--world-size is 0") == true)
        let port = refusal(all, .init(rank: 0, worldSize: 2, masterPort: 65_536))
        #expect(port?.hasPrefix("--master-port is 65536") == true)
        #expect(refusal(all, .init(rank: 0, worldSize: 2)) == nil)
    }

    /// No variables, a world of one, a Slurm shell that is no task, many runs of an indexed job: alone.
    @Test(arguments: [
        [:], ["PATH": "/bin", "MASTER_ADDR": "alpha"], ["RANK": "0", "WORLD_SIZE": "1"], ["SLURM_NTASKS": "4"],
        ["SLURM_PROCID": "0", "SLURM_NTASKS": "4", "ENVIRONMENT": "BATCH", "SLURM_JOB_NODELIST": "a"],
        ["JOB_COMPLETION_INDEX": "3"], ["PET_NODE_RANK": "0", "PET_NNODES": "1"], ["RANK": "", "WORLD_SIZE": ""],
        ["SKEIN_SECRET_FILE": "secret"],
    ]) func alone(_ variables: [String: String]) throws {
        #expect(try RankEnvironment.resolve(variables) == nil)
    }

    @Test func contradictions() {
        let plain = Self.ways[0].variables
        func line(_ changes: [String: String], _ base: [String: String] = plain) -> String {
            refusal(base.merging(changes) { $1 }) ?? "accepted"
        }
        #expect(line(["WORLD_SIZE": "0"]).hasPrefix("WORLD_SIZE is 0"))
        #expect(line(["LOCAL_RANK": "2"]).hasPrefix("LOCAL_RANK is 2, but this machine has 2 ranks"))
        #expect(line(["LOCAL_WORLD_SIZE": "5"]) == "LOCAL_WORLD_SIZE is 5, but WORLD_SIZE is 4")
        #expect(line(["LOCAL_WORLD_SIZE": "0"]) == "LOCAL_WORLD_SIZE is 0, but WORLD_SIZE is 4")
        #expect(line(["MASTER_PORT": "0"]).hasPrefix("MASTER_PORT is 0"))
        #expect(line(["PET_NPROC_PER_NODE": "2"], Self.ways[2].variables).hasPrefix("PET_NPROC_PER_NODE is 2"))
        #expect(line(["PET_NNODES": "2:4"], Self.ways[2].variables).hasPrefix("PET_NNODES is \"2:4\""))
        #expect(line(["SLURM_JOB_NODELIST": "n["], Self.ways[3].variables).hasPrefix("SLURM_JOB_NODELIST is \"n[\""))
        var slurm = Self.ways[3].variables
        slurm["SLURM_JOB_NODELIST"] = nil
        #expect(refusal(slurm)?.hasPrefix("MASTER_ADDR is not set") == true)
    }

    /// launch/k8s/jobset.yaml: each pod's variables, with the index that Kubernetes adds, make it the rank of that
    /// index; and rank 0 is looked for under the name that JobSet gives its pod.
    @Test func theManifestOfKubernetes() throws {
        let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("launch/k8s/jobset.yaml")
        let text = try String(contentsOf: path, encoding: .utf8)
        var variables: [String: String] = [:]
        for found in text.matches(of: /- name: ([A-Z_]+)\n\s*value: "?([^"\n]+)"?\n/) {
            variables[String(found.1)] = String(found.2)
        }
        #expect(Set(variables.keys) == ["SKEIN_SECRET_FILE", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"])
        func value(_ pattern: Regex<(Substring, Substring)>) throws -> String {
            String(try #require(text.firstMatch(of: pattern)).1)
        }
        let pods = try value(/completions: (\d+)/), set = try value(/metadata:\n  name: (\S+)/)
        let job = try value(/replicatedJobs:\n    - name: (\S+)/)
        #expect(try value(/parallelism: (\d+)/) == pods && variables["WORLD_SIZE"] == pods)
        #expect(try value(/containerPort: (\d+)/) == variables["MASTER_PORT"])
        for rank in 0..<(Int(pods) ?? 0) {
            variables["JOB_COMPLETION_INDEX"] = "\(rank)"
            let place = try #require(try RankEnvironment.resolve(variables))
            #expect(place.rank == rank && place.worldSize == Int(pods) && place.localRank == 0)
            #expect(place.localWorldSize == 1 && place.masterAddress == "\(set)-\(job)-0-0.\(set)")
        }
    }

    @Test func theSecretsLineSaysWhatToDo() {
        var variables = Self.ways[0].variables
        variables["SKEIN_SECRET_FILE"] = nil
        let line = refusal(variables) ?? ""
        for word in ["skein secret new FILE", "SKEIN_SECRET_FILE", "4 ranks"] { #expect(line.contains(word)) }
    }

    /// A process that waits for a lost rank's place says so in place of a number, and is told the rest as a rank is.
    @Test func aSpare() throws {
        var variables = Self.ways[0].variables
        variables["RANK"] = "auto"
        let found = try #require(try RankEnvironment.resolve(variables))
        #expect(found.isSpare && found.worldSize == 4 && found.masterPort == 4_000 && found.secretFile == "secret")
        #expect(try RankEnvironment.resolve(Self.ways[0].variables)?.isSpare == false)
        variables["WORLD_SIZE"] = nil
        #expect(refusal(variables)?.contains("WORLD_SIZE is not") == true)
    }

    /// Who is local, where nobody tells: all of them beside a loopback master, else one on each machine.
    @Test func whoIsLocal() throws {
        var variables = Self.ways[0].variables
        variables["LOCAL_RANK"] = nil
        variables["LOCAL_WORLD_SIZE"] = nil
        for (address, rank, size) in [("127.0.0.1", 2, 4), ("localhost", 2, 4), ("::1", 2, 4), ("127.9.9.9", 2, 4),
                                      ("alpha", 0, 1), ("10.0.0.1", 0, 1), ("1270.org", 0, 1)] {
            variables["MASTER_ADDR"] = address
            let found = try #require(try RankEnvironment.resolve(variables))
            #expect(found.localRank == rank && found.localWorldSize == size, "\(address)")
        }
        variables["LOCAL_RANK"] = "3"
        #expect(try RankEnvironment.resolve(variables)?.localWorldSize == 4)
        // Open MPI on one machine needs no master's address.
        let mpi = ["OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
                   "OMPI_COMM_WORLD_LOCAL_SIZE": "2", "SKEIN_SECRET_FILE": "secret"]
        let found = try #require(try RankEnvironment.resolve(mpi))
        #expect(found.masterAddress == "127.0.0.1" && found.masterPort == 29_500)
    }
}
