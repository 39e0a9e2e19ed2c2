import Base
import Checkpoint
import Corpus
import Model
import Parallel
import Recipe
import Tensor

/// How far a run is.
struct Moment {
    /// It counts the steps as well.
    var position: DataPosition
    /// Targets trained on since step 0.
    var tokens = 0
    /// Steps that have changed the weights.
    var updates = 0
    /// The lowest loss of a step so far.
    var lowestLoss = Double.infinity

    init(position: DataPosition) { self.position = position }

    /// After a step. Returns its loss over the lowest one before it, which tells how unstable training is
    /// (2108.06084, section 3); nil for the first step.
    mutating func add(_ result: StepResult, position: DataPosition) -> Double? {
        defer { if result.loss < lowestLoss { lowestLoss = result.loss } }
        self.position = position
        tokens += result.tokens
        if result.updated { updates += 1 }
        return lowestLoss == .infinity ? nil : result.loss / lowestLoss
    }

    /// The measured table of algorithms that the run used; rank 0's.
    var table = ""
    /// What was measured for plans; rank 0's.
    var cost = ""

    /// For the other ranks, but for texts: 88 bytes.
    var bytes: [UInt8] {
        var writer = ByteWriter(capacity: 88)
        writer.append(bytes: position.bytes)
        writer.append(UInt64(tokens))
        writer.append(UInt64(updates))
        writer.append(lowestLoss.bitPattern)
        return writer.bytes
    }

    init(bytes: [UInt8]) throws {
        position = try DataPosition(bytes: Array(bytes.prefix(64)))
        var reader = ByteReader(Array(bytes.dropFirst(64)))
        tokens = Int(reader.read(UInt64.self) ?? 0)
        updates = Int(reader.read(UInt64.self) ?? 0)
        lowestLoss = Double(bitPattern: reader.read() ?? 0)
    }
}

/// Between a run's memory and a checkpoint: which tensors there are, and what else must come back for the next
/// step to be the one that an uninterrupted run would have taken.
struct Snapshot {
    let step: ShardedStep
    let quantisation: Quantisation?
    let corpus: Corpus
    let recipe: Recipe
    let schedule: StepSchedule
    let worldSize: Int
    var fault: FaultPoint?

    /// Names of the manifest's own state: `Moment.lowestLoss` and `Moment.updates`.
    static let lowestLossKey = "lowest_loss"
    static let updatesKey = "updates"
    /// The measured table of algorithms, where there is one: a run that goes on sums in the same order.
    static let tableKey = "collectives_table"
    /// What plans reckon with, where it was measured: a run that goes on makes the same plans.
    static let costKey = "planner_cost"

    var state: TrainingState { step.state }
    private var model: [StateVector] { state.weightVectors }
    private var moments: [StateVector] { state.moments }

    private func specs(_ parts: [StateVector]) -> [TensorSpec] {
        parts.flatMap { part in part.tensors.map { part.spec($0.number) } }
    }

    /// Says of which data a position is: the texts, how they are cut, and the weights that led to `step`.
    private func fingerprint(at step: Int) -> String {
        let rows = "\(String(corpus.fingerprint, radix: 16)):\(recipe.rowFingerprint)"
        guard let weights = corpus.options.weights else { return rows }
        return rows + ":weights " + String(weights.fingerprint(before: step), radix: 16)
    }

    func manifest(_ moment: Moment) -> Manifest {
        let seed = UInt64(recipe.debug.seed), position = moment.position
        var kept: [String: StateValue] = [Self.lowestLossKey: .number(moment.lowestLoss),
                                          Self.updatesKey: .number(Double(moment.updates))]
        if !moment.table.isEmpty { kept[Self.tableKey] = .text(moment.table) }
        if !moment.cost.isEmpty { kept[Self.costKey] = .text(moment.cost) }
        return Manifest(
            step: Int(position.step), tokens: moment.tokens, worldSize: worldSize,
            data: SavedPosition(fingerprint: fingerprint(at: Int(position.step)), seed: seed,
                                row: position.rows.reduce(0) { $0 + UInt64($1) }, position: position.bytes),
            rng: RNGState(seed: seed), state: kept)
    }

    var tokenizer: String { String(decoding: corpus.tokenizer.json, as: UTF8.self) }

    /// What came of a save, on every rank the same: nil if it is done, else why it was given up (a full disk, say). The
    /// state is as it was, so training can go on.
    func save(_ moment: Moment, with writer: CheckpointWriter, shared: Bool, by world: World) throws -> String? {
        let isTogether = shared && world.size > 1, step = Int(moment.position.step), isFirst = world.rank == 0
        let tensors = try tensors(together: isTogether, by: world)
        defer { withExtendedLifetime(tensors) {} }
        let (model, optimizer) = (tensors.model.map(\.source), tensors.optimizer.map(\.source))
        guard isTogether else {
            fault?.reached(.save)
            let failure = try world.onFirst {
                try Self.failure {
                    _ = try writer.write(manifest(moment), recipe: recipe.toml, tokenizer: tokenizer, model: model,
                                         optimizer: optimizer)
                }
            }
            return try Self.first(failure ?? nil, of: world)
        }
        let begun = try Self.failure { if isFirst { try writer.begin(step: step) } }
        if let failure = try Self.first(begun, of: world) { return failure }
        var own: [UInt8] = []
        let written = try Self.failure {
            own = try writer.writePart(step: step, world.rank, of: world.size, model: model, optimizer: optimizer)
        }
        if let failure = try Self.first(written, of: world) {
            if isFirst { writer.abandon(step: step) }
            return failure
        }
        return try commit(moment, with: writer, own, by: world)
    }

    /// Rank 0 makes a checkpoint of what all ranks have written; `record` is this rank's. Returns why it was given up,
    /// if it was.
    func commit(_ moment: Moment, with writer: CheckpointWriter, _ record: [UInt8], by world: World) throws -> String? {
        fault?.reached(.save)
        let records = try world.gather(record)
        let committed = try Self.failure {
            if world.rank == 0 {
                _ = try writer.commit(manifest(moment), recipe: recipe.toml, tokenizer: tokenizer, records: records)
            }
        }
        return try Self.first(committed, of: world)
    }

    /// What this rank writes. `together`: each rank its own; else rank 0 everything.
    func tensors(together: Bool, by world: World) throws -> (model: [SavedTensor], optimizer: [SavedTensor]) {
        let scales = savedScales(by: world)
        if together { return (slices(model, of: world), slices(moments, of: world) + scales) }
        return (try gather(model, by: world), try gather(moments, by: world) + scales)
    }

    /// Nil if `work` went well, else why it could not write. What is wrong otherwise is thrown on.
    static func failure(_ work: () throws -> Void) throws -> String? {
        do {
            try work()
            return nil
        } catch let error as CheckpointError {
            guard case .notWritten = error else { throw error }
            return error.description
        }
    }

    /// The first rank's failure that has one; the same on all.
    static func first(_ own: String?, of world: World) throws -> String? {
        let texts = try world.gather(Array((own.map { "!\($0)" } ?? ".").utf8))
        return texts.first { $0.first == UInt8(ascii: "!") }.map { String(decoding: $0.dropFirst(), as: UTF8.self) }
    }

    /// What this rank writes: of what every rank holds, a run of neighbouring tensors; of what is shared out, the
    /// pieces that it holds, or its share of them where others hold the same.
    private func slices(_ parts: [StateVector], of world: World) -> [SavedTensor] {
        let writer = self.writer(of: parts, among: world.size)
        var found: [SavedTensor] = [], number = 0
        for part in parts {
            let held = (0..<world.size).map { part.ranges(of: $0) }, isWhole = part.isWhole
            for (place, parameter) in part.tensors {
                let spec = part.spec(place)
                for (unit, range) in part.shard.ranges.enumerated() {
                    let piece = range.clamped(to: parameter.range)
                    let holders = held.indices.filter { held[$0][unit] == range }
                    let owner = isWhole ? writer(number) : holders[unit % holders.count]
                    guard !piece.isEmpty, owner == world.rank else { continue }
                    let elements = part.elements(place, piece)
                    found.append(SavedTensor(spec: spec, elements: elements, row: part.shard.part(piece, unit: unit)))
                }
                number += 1
            }
        }
        return found
    }

    /// Who writes the tensor of some number: a run of neighbouring tensors for each rank, about equal in bytes. A
    /// tensor belongs to the rank in whose part of the bytes its middle lies.
    private func writer(of parts: [StateVector], among ranks: Int) -> (Int) -> Int {
        let counts = parts.flatMap { $0.tensors.map(\.parameter.count) }
        let total = counts.reduce(0, +)
        var before = 0
        let writers = counts.map { count in
            defer { before += count }
            return (before + count / 2) * ranks / max(total, 1)
        }
        return { writers[$0] }
    }

    /// All tensors, whole, on rank 0: what it does not hold itself comes from those who do. The others have none.
    private func gather(_ parts: [StateVector], by world: World) throws -> [SavedTensor] {
        var found: [SavedTensor] = []
        for part in parts {
            for (place, parameter) in part.tensors {
                let row = try world.collect(parameter, of: part, at: 0)
                guard world.rank == 0 else { continue }
                found.append(SavedTensor(spec: part.spec(place), elements: part.elements(place, parameter.range),
                                         row: row.row, memory: row.memory))
            }
        }
        return found
    }

    /// Refuses a checkpoint that this run cannot go on from, before anything is changed. Returns where it was.
    func require(_ checkpoint: Checkpoint) throws -> Moment {
        try requireSameFormats(checkpoint)
        try checkpoint.requireModel(specs(model))
        try checkpoint.requireOptimizer(specs(moments) + scaleSpecs(of: checkpoint))
        let data = checkpoint.manifest.data
        guard let bytes = data.bytes else {
            throw BadInput("\(checkpoint.path) was written before checkpoints held a position in the data; train from "
                + "the beginning, or go on with the version of skein that wrote it")
        }
        try requireSameRows(checkpoint)
        if data.seed != UInt64(recipe.debug.seed) {
            throw BadInput("\(checkpoint.path) was trained with debug.seed = \(data.seed), "
                + "this recipe has \(recipe.debug.seed); the order of data would change")
        }
        let position = try DataPosition(bytes: bytes)
        try corpus.check(position)
        try schedule.checkPast(position, of: corpus)
        var taken = 0
        for bucket in 0..<corpus.bucketCount {
            taken += Int(position.rows[bucket]) * corpus.sequence(ofBucket: bucket)
        }
        if taken != checkpoint.step * schedule.tokensPerStep || Int(position.step) != checkpoint.step {
            let row = recipe.training.sequenceLength
            throw BadInput("\(checkpoint.path) took \(taken / row) rows of \(row) tokens in \(checkpoint.step) steps; "
                + "with training.global_batch_size = \(schedule.tokensPerStep / row) it would be "
                + "\(checkpoint.step * schedule.tokensPerStep / row). Keep the global batch size")
        }
        var moment = Moment(position: position)
        moment.tokens = checkpoint.manifest.tokens
        if case .number(let loss) = checkpoint.manifest.state[Self.lowestLossKey] { moment.lowestLoss = loss }
        if case .text(let table) = checkpoint.manifest.state[Self.tableKey] { moment.table = table }
        if case .text(let cost) = checkpoint.manifest.state[Self.costKey] { moment.cost = cost }
        // Earlier checkpoints counted every step.
        moment.updates = checkpoint.step
        if case .number(let updates) = checkpoint.manifest.state[Self.updatesKey] { moment.updates = Int(updates) }
        return moment
    }

    /// Refuses weights that are not of this run's model, before anything is changed. Positions may turn at another
    /// rate: longer contexts are learnt from weights that were trained on shorter ones.
    func requireWeights(_ checkpoint: Checkpoint) throws {
        let theirs = try ResolvedRecipe.load(text: checkpoint.recipe(), name: "\(checkpoint.path)/config.toml").recipe
        let differences = Recipe.differences(recipe.toml, theirs.toml).filter {
            $0.key.hasPrefix("model.") && !$0.key.hasPrefix("model.rope_")
        }
        if let first = differences.first {
            let more = differences.count > 1 ? ", and \(differences.count - 1) more keys" : ""
            throw BadInput("\(checkpoint.path) has another model: \(first.key) = \(first.theirs ?? "nothing") there, "
                + "\(first.mine ?? "nothing") here\(more); "
                + "give the same [model] keys (model.rope_theta and rope_scaling may differ)")
        }
        if try checkpoint.tokenizer() != tokenizer {
            throw BadInput("\(checkpoint.path) was trained with another tokenizer; name its folder by data.tokenizer")
        }
        _ = try StoredWeights(checkpoint, state.table)
    }

    /// Refuses state that is kept in something else, before its tensors are looked at one by one.
    private func requireSameFormats(_ checkpoint: Checkpoint) throws {
        let theirs = try ResolvedRecipe.load(text: checkpoint.recipe(), name: "\(checkpoint.path)/config.toml").recipe
        let keys = ["optimizer.moments", "optimizer.master_weights"]
        if let other = Recipe.differences(recipe.toml, theirs.toml).first(where: { keys.contains($0.key) }) {
            throw BadInput("\(checkpoint.path) was trained with \(other.key) = \(other.theirs ?? "nothing"), this "
                + "recipe has \(other.mine ?? "nothing"); keep it, or begin a run with its weights by "
                + "checkpoint.load_weights")
        }
    }

    /// Rows of one number are the same only where texts, layout and past weights are.
    private func requireSameRows(_ checkpoint: Checkpoint) throws(BadInput) {
        let found = checkpoint.manifest.data.fingerprint
        let expected = fingerprint(at: checkpoint.step), marker = ":weights "
        if found != expected,
           found.split(separator: marker).first == expected.split(separator: marker).first {
            throw BadInput("\(checkpoint.path) was trained with other data.weights; keep those that began before step "
                + "\(checkpoint.step) (they are in its config.toml), and add new ones as \"STEP: w1 w2 ...\", with a "
                + "step from \(checkpoint.step) on")
        }
        if found != expected {
            throw BadInput("\(checkpoint.path) was trained on other data, or on data cut otherwise; give the same "
                + "files in data.paths, and the same training.seq_len, data.layout, data.decomposition, "
                + "data.min_length and data.mixture (its are in its config.toml)")
        }
    }
}

/// A tensor, or a slice of one, as a checkpoint takes it; with memory of its own where this rank held only a piece.
struct SavedTensor {
    let spec: TensorSpec
    let elements: Range<Int>
    let row: Row
    var memory: Arena?

    var source: TensorSource {
        // Codes end before their last block does.
        let bytes = unsafe row.bytes[..<(elements.count * spec.type.width)]
        return unsafe TensorSource(spec.name, spec.type, spec.shape, elements,
                                   bytes: UnsafeRawBufferPointer(rebasing: bytes))
    }
}
