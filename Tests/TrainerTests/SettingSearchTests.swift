import Base
import Parallel
import Recipe
import Tensor
import Testing
import Trainer

/// The search over sharding numbers, sequence-parallel degree and recomputation.
@Suite struct SettingSearchTests {
    private static let ranks = 4

    private static func resolved(_ sandbox: borrowing Sandbox, _ flags: [String] = []) throws -> ResolvedRecipe {
        try sandbox.recipe(["--training.seq_len", "1024", "--training.local_batch_size", "2", "--model.n_heads", "4",
                            "--model.n_kv_heads", "2", "--model.n_layers", "8", "--training.threads", "1",
                            "--training.global_batch_size", "8"] + flags)
    }

    private static func search(_ resolved: ResolvedRecipe, _ freedom: SettingSearch.Freedom = .all,
                               _ memory: PlannedMemory? = nil) throws -> SettingSearch {
        SettingSearch(resolved, memory: try memory ?? PlannedMemory(resolved.recipe, ranks: ranks), ranks: ranks,
                      gflops: 50, linkGbit: 1, freedom: freedom)
    }

    /// Every candidate is a recipe that this many ranks can train, no two are the same, the quickest come first, and
    /// each takes the memory that is planned for its recipe.
    @Test func candidatesAreRecipes() throws {
        let sandbox = try Sandbox(), resolved = try Self.resolved(sandbox)
        let memory = try PlannedMemory(resolved.recipe, ranks: Self.ranks)
        let found = try Self.search(resolved, .all, memory).best(within: .max)
        #expect(Set(found.map(\.text)).count == found.count)
        #expect(zip(found, found.dropFirst()).allSatisfy { $0.seconds <= $1.seconds })
        // Chains of 1, 2 and 4 with gradients as one of their neighbours are 9; degrees 1, 2 and 4 go with all of
        // them, in 3 modes; planned steps at least where gradients are whole.
        #expect(found.filter { $0.degree > 0 }.count == 9 * 3 * 3)
        #expect(found.contains { $0.degree == 0 })
        for candidate in found {
            let own = try resolved.choosing(candidate.flags)
            try own.requireRows(worldSize: Self.ranks)
            #expect(try own.recipe.shardCounts(worldSize: Self.ranks) == candidate.counts)
            #expect(own.recipe.activationCheckpoint.mode == candidate.recomputation)
            // Beside what the process happens to hold at the moment.
            let planned = try PlannedMemory(own.recipe, ranks: Self.ranks).plan
            #expect(planned.neededBytes == candidate.peakBytes - memory.plan.processBytes)
            #expect(candidate.seconds > 0)
        }
    }

    /// With less memory a step never gets quicker; what is left at the end is cut and recomputed; below that nothing
    /// fits, and the refusal has the number.
    @Test func lessMemoryTakesLonger() throws {
        let sandbox = try Sandbox(), search = try Self.search(Self.resolved(sandbox))
        let all = try search.best(within: .max)
        #expect(all[0].recomputation == .none)
        let sizes = Set(all.map(\.peakBytes)).sorted(by: >), least = sizes[sizes.count - 1]
        var last = 0.0
        for bytes in sizes {
            let best = try search.best(within: bytes)[0]
            #expect(best.seconds >= last && best.peakBytes <= bytes)
            last = best.seconds
        }
        let smallest = try search.best(within: least)[0]
        #expect(smallest.recomputation == .full && smallest.counts.optimizer == Self.ranks)
        #expect(smallest.seconds > all[0].seconds)
        #expect { try search.best(within: least - 1) } throws: {
            "\($0)".contains(Units.bytes(least)) && "\($0)".contains("no setting of 4 ranks fits")
        }
    }

    /// Only what the recipe leaves open changes, and counts that it gives stay.
    @Test func whatIsGivenStays() throws {
        let sandbox = try Sandbox()
        let modes = try Self.search(Self.resolved(sandbox, ["--activation_checkpoint.mode", "auto"]), .declared)
            .best(within: .max)
        #expect(Set(modes.map(\.recomputation)).count == 3 && modes.count == 3)
        #expect(modes.allSatisfy { $0.degree == 1 && $0.counts == ShardCounts(stage: 1, ranks: 4) })
        let gradients = ["--parallelism.zero", "auto", "--parallelism.shard_gradients", "2"]
        let zero = try Self.search(Self.resolved(sandbox, gradients), .declared).best(within: .max)
        #expect(!zero.isEmpty && zero.allSatisfy { $0.counts.gradients == 2 && $0.recomputation == .none })
        let both = try Self.search(Self.resolved(sandbox, ["--parallelism.zero", "auto",
                                                           "--parallelism.context_parallel_degree", "auto"]), .declared)
            .best(within: .max)
        #expect(Set(both.map(\.degree)) == [0, 1, 2, 4])
    }

    /// A step does not begin with settings that nobody has found.
    @Test func openSettingsAreRefused() throws {
        let sandbox = try Sandbox(), resolved = try Self.resolved(sandbox, ["--parallelism.zero", "auto"])
        #expect { try StepRunner(recipe: resolved.recipe, corpus: openCorpus(resolved.recipe), pool: Pool(threads: 1)) }
            throws: { "\($0)".contains("skein plan CONFIG --search") }
    }
}
