import Base
import Corpus
import Recipe

/// A recipe's memory on this machine, reckoned before anything is read or taken.
public struct PlannedMemory {
    public let recipe: Recipe
    public let setting: MemoryPlan.Setting
    public let plan: MemoryPlan

    public init(_ recipe: Recipe) throws(BadInput) {
        let held = MemoryFiles().resident ?? 0
        self.recipe = recipe
        setting = MemoryPlan.Setting(vocabulary: try openTokenizer(recipe).vocabularySize, threads: Machine.cores(),
                                     textBytes: try fileBytes(ofSources: recipe.data.paths), processBytes: held)
        plan = MemoryPlan(recipe, setting)
    }

    /// Refuses a run that this machine, or the cgroup that the process is in, has no memory for.
    public func requireRoom() throws(BadInput) {
        guard let available = Machine.availableMemory() else { return }
        try plan.require(recipe, setting, available: available.bytes, limit: available.limit)
    }
}
