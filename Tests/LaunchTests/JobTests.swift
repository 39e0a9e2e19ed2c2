import Base
import Launch
import Recipe
import Testing

@Suite struct JobTests {
    private func training(ranks: Int, flags: [String] = [],
                          _ environment: [String: String] = [:]) throws -> Job {
        let recipe = try ResolvedRecipe.load(text: "", name: "x.toml", flags: flags).recipe
        return try Job.training(ranks: ranks, program: "/bin/skein", config: "x.toml", flags: flags, recipe: recipe,
                                environment: environment)
    }

    @Test func everyCountOfRanks() {
        for ranks in [Int.min, -1, 0, 1, 2, 255, 256, 257, .max] {
            let isRefused = (try? Job(ranks: ranks, command: ["x"], environment: [:])) == nil
            #expect(isRefused == !(1...256).contains(ranks), "\(ranks)")
        }
        #expect(throws: BadInput("-n 0: the number of ranks must be from 1 to 256")) {
            _ = try Job(ranks: 0, command: ["x"], environment: [:])
        }
        #expect(throws: BadInput.self) { _ = try training(ranks: 0) }
    }

    /// Every rank gets the command as it was given; its share of the cores follows from LOCAL_WORLD_SIZE.
    @Test func theCommand() throws {
        let flags = ["--training.threads", "3", "--training.steps", "9"]
        let job = try training(ranks: 2, flags: flags)
        #expect(job.command == ["/bin/skein", "train", "x.toml"] + flags)
        #expect(job.environment(of: 1, port: 1, secretFile: nil)["LOCAL_WORLD_SIZE"] == "2")
    }

    @Test func theBLASCoreIsDroppedUnlessKept() throws {
        let pinned = ["OPENBLAS_CORETYPE": "Haswell", "PATH": "/bin"]
        let dropped = try training(ranks: 2, pinned).environment(of: 0, port: 1, secretFile: nil)
        #expect(dropped["OPENBLAS_CORETYPE"] == nil && dropped["PATH"] == "/bin")
        let kept = try training(ranks: 2, flags: ["--launch.keep_blas_core"], pinned)
        #expect(kept.environment(of: 0, port: 1, secretFile: nil)["OPENBLAS_CORETYPE"] == "Haswell")
    }

    /// What the launcher tells is what a rank reads, whatever else is in the environment.
    @Test func ranksReadWhatTheyAreTold() throws {
        for inherited in [[:], RankEnvironmentTests.ways[0].variables, RankEnvironmentTests.ways[3].variables,
                          ["SKEIN_SECRET_FILE": "old"]] {
            for ranks in [1, 2, 3, 256] {
                let job = try Job(ranks: ranks, command: ["x"], environment: inherited)
                for rank in 0..<ranks {
                    let told = job.environment(of: rank, port: 25_000, secretFile: ranks == 1 ? nil : "/tmp/s")
                    let read = try RankEnvironment.resolve(told)
                    #expect((read == nil) == (ranks == 1))
                    guard let read else { continue }
                    #expect(read.rank == rank && read.worldSize == ranks && read.localRank == rank)
                    #expect(read.localWorldSize == ranks && read.masterAddress == "127.0.0.1")
                    #expect(read.masterPort == 25_000 && read.secretFile == "/tmp/s")
                }
            }
        }
    }
}
