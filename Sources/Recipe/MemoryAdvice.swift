import Base

/// A change of one key that would save memory.
public struct Remedy: Sendable, Equatable, CustomStringConvertible {
    public let key: String
    public let value: String
    public let savedBytes: Int

    public var description: String { "--\(key) \(value) saves \(Units.bytes(savedBytes))" }
}

extension MemoryPlan {
    /// The changes that would save most, the best first: every key that memory depends on is halved, or switched,
    /// and planned again. Where two save the same, the one that changes the model's results least comes first.
    public static func remedies(_ recipe: Recipe, _ setting: Setting, count: Int = 3) -> [Remedy] {
        let now = MemoryPlan(recipe, setting).peakBytes
        let found = changes(setting).compactMap { name, change -> Remedy? in
            var changed = recipe
            change(&changed)
            guard let key = Recipe.keysByName[name], (try? changed.validate(ResolvedRecipe())) != nil
            else { return nil }
            let saved = now - MemoryPlan(changed, setting).peakBytes
            let text: String = switch key.read(changed) {
            case .text(let text): text
            case let other: other.toml
            }
            return saved > 0 ? Remedy(key: name, value: text, savedBytes: saved) : nil
        }
        let order = found.indices.sorted {
            found[$0].savedBytes != found[$1].savedBytes ? found[$0].savedBytes > found[$1].savedBytes : $0 < $1
        }
        return order.prefix(count).map { found[$0] }
    }

    private typealias Change = (key: String, change: (inout Recipe) -> Void)

    /// Halving to nothing changes nothing, so such a change saves nothing and is left out.
    private static func changes(_ setting: Setting) -> [Change] {
        func half(_ value: Int) -> Int { max(1, value / 2) }
        /// What a rank must hold so that `rows` rows are computed at once.
        func cap(_ recipe: Recipe, rows: Int) -> Int {
            (rows * recipe.training.sequenceLength + recipe.contextDegree - 1) / recipe.contextDegree
        }
        return [
            ("activation_checkpoint.mode", { $0.activationCheckpoint.mode = .full }),
            ("training.max_tokens_per_task", {
                $0.training.maxTokensPerTask = cap($0, rows: half($0.rowsPerTask))
            }),
            ("training.threads", {
                $0.training.threads = half($0.training.threads == 0 ? setting.threads : $0.training.threads)
            }),
            ("model.tie_embeddings", { $0.model.tieEmbeddings = true }),
            ("training.seq_len", { recipe in
                // Rows of half the length, as many of them: the cap on a task's tokens follows.
                let rows = recipe.rowsPerTask
                recipe.training.sequenceLength = max(2, recipe.training.sequenceLength / 2)
                recipe.training.maxTokensPerTask = cap(recipe, rows: rows)
            }),
            ("model.n_kv_heads", { $0.model.keyValueHeads = half($0.model.keyHeads) }),
            ("model.ffn_dim", { $0.model.ffnDim = half($0.model.hiddenDim) }),
            ("model.n_layers", { $0.model.layers = half($0.model.layers) }),
            ("model.dim", { $0.model.dim = half($0.model.dim) }),
        ]
    }
}

extension MemoryPlan {
    /// Refuses a run that needs more than `available` bytes, in one line that says what would help most. `limit`
    /// names whose bytes they are.
    public func require(_ recipe: Recipe, _ setting: Setting, available: Int, limit: String) throws(BadInput) {
        guard neededBytes > available else { return }
        let advice = MemoryPlan.remedies(recipe, setting).map(\.description).joined(separator: ", ")
        throw BadInput("this run needs \(Units.bytes(peakBytes)) of memory and \(limit) leaves "
            + "\(Units.bytes(available + processBytes))" + (advice.isEmpty ? "" : "; \(advice)"))
    }
}
