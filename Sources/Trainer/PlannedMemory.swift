import Base
import Corpus
import Recipe

/// A recipe's memory on this machine, reckoned before anything is read or taken.
public struct PlannedMemory {
    public let recipe: Recipe
    public let setting: MemoryPlan.Setting
    public let plan: MemoryPlan
    private let localRanks: Int

    /// `ranks`, `localRanks`: of the job, and of it on this machine.
    public init(_ recipe: Recipe, ranks: Int = 1, localRanks: Int = 1) throws(BadInput) {
        let held = MemoryFiles().resident ?? 0
        self.recipe = recipe
        self.localRanks = localRanks
        setting = MemoryPlan.Setting(vocabulary: try openTokenizer(recipe).vocabularySize, ranks: ranks,
                                     threads: max(1, Machine.cores() / localRanks),
                                     textBytes: try fileBytes(ofSources: recipe.data.paths), processBytes: held)
        plan = MemoryPlan(recipe, setting)
    }

    /// Refuses a run that this machine, or the cgroup that the process is in, has no memory for.
    public func requireRoom() throws(BadInput) {
        guard let available = Machine.availableMemory() else { return }
        try plan.require(recipe, setting, available: available.bytes / localRanks,
                         limit: available.limit + (localRanks > 1 ? ", shared by \(localRanks) ranks," : ""))
    }
}
