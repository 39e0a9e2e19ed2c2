import Base

extension Recipe {
    /// What the ranks that are left do when one fails.
    public enum Elastic: String, Sendable, CaseIterable {
        /// All leave, and name it.
        case stop
        /// They wait for another process in its place, and go on together.
        case replace
        /// They go on as they are, over as many of them as the recipe allows.
        case shrink
    }

    /// Whether ranks go on after a fault at all.
    public var isElastic: Bool { launch.elastic != .stop }

    func validateElastic(_ at: (String) -> String) throws(BadInput) {
        if launch.elastic == .shrink, training.globalBatchSize == 0 {
            throw BadInput("\(at("launch.elastic")) = \"shrink\" keeps the batch while ranks become fewer; say how "
                + "large it is by training.global_batch_size")
        }
        if isElastic, parallelism.isSearched || activationCheckpoint.isSearched {
            let key = parallelism.isSearched ? "parallelism.zero" : "activation_checkpoint.mode"
            throw BadInput("\(at("launch.elastic")) = \"\(launch.elastic.rawValue)\" goes on in the processes that "
                + "there are, and \(key) = \"auto\" is searched when they start; take what skein plan recommends")
        }
    }

    /// Refuses a job in which those that are left after a fault could never be a majority, and spares for nothing.
    public func requireElastic(worldSize: Int) throws(BadInput) {
        if launch.spares > 0, launch.elastic != .replace {
            throw BadInput("launch.spares = \(launch.spares) processes would wait to replace a rank, and "
                + "launch.elastic = \"\(launch.elastic.rawValue)\" replaces none; set launch.elastic = \"replace\"")
        }
        guard isElastic, worldSize < 3 else { return }
        throw BadInput("launch.elastic = \"\(launch.elastic.rawValue)\" goes on with more than half of the ranks, and "
            + "of \(worldSize) none may fail then; start at least 3, or set it to \"stop\"")
    }
}

extension ResolvedRecipe {
    /// As how many ranks a job goes on of which so many are left: the most that the recipe can be trained over. Nil
    /// where it can be trained over none of those numbers.
    public func ranksToGoOn(of survivors: Int) -> Int? {
        var copy = self
        // A rehearsed fault has happened, or names a rank that there will not be.
        copy.recipe.debug.fault = ""
        return (1...max(survivors, 1)).reversed().first { count in (try? copy.requireRows(worldSize: count)) != nil }
    }
}
