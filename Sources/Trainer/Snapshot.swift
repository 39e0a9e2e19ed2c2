import Base
import Checkpoint
import Corpus
import Model
import Recipe
import Tensor

/// How far a run is.
struct Moment {
    /// It counts the steps as well.
    var position: DataPosition
    /// Targets trained on since step 0.
    var tokens = 0
    /// The lowest loss of a step so far.
    var lowestLoss = Double.infinity

    init(position: DataPosition) { self.position = position }

    /// After a step. Returns its loss over the lowest one before it, which tells how unstable training is
    /// (2108.06084, section 3); nil for the first step.
    mutating func add(_ result: StepResult, position: DataPosition) -> Double? {
        defer { if result.loss < lowestLoss { lowestLoss = result.loss } }
        self.position = position
        tokens += result.tokens
        return lowestLoss == .infinity ? nil : result.loss / lowestLoss
    }

    /// For the other ranks: 80 bytes.
    var bytes: [UInt8] {
        var writer = ByteWriter(capacity: 80)
        writer.append(bytes: position.bytes)
        writer.append(UInt64(tokens))
        writer.append(lowestLoss.bitPattern)
        return writer.bytes
    }

    init(bytes: [UInt8]) throws {
        position = try DataPosition(bytes: Array(bytes.prefix(64)))
        var reader = ByteReader(Array(bytes.dropFirst(64)))
        tokens = Int(reader.read(UInt64.self) ?? 0)
        lowestLoss = Double(bitPattern: reader.read() ?? 0)
    }
}

/// Between a run's memory and a checkpoint: which tensors there are, and what else must come back for the next
/// step to be the one that an uninterrupted run would have taken.
struct Snapshot {
    let state: TrainingState
    let corpus: Corpus
    let recipe: Recipe
    let schedule: StepSchedule
    let worldSize: Int

    /// Moments are stored under their parameter's name with one of these before it.
    static let momentumPrefix = "momentum."
    static let variancePrefix = "variance."

    private typealias Entry = (spec: TensorSpec, row: Row)

    private func entries(_ parameters: Parameters, prefix: String) -> [Entry] {
        state.table.parameters.map { (TensorSpec(prefix + $0.name, .float32, $0.shape), parameters.values($0)) }
    }

    /// The manifest's name of `Moment.lowestLoss`.
    static let lowestLossKey = "lowest_loss"

    private var model: [Entry] { entries(state.weights, prefix: "") }
    private var moments: [Entry] {
        entries(state.momentum, prefix: Self.momentumPrefix) + entries(state.variance, prefix: Self.variancePrefix)
    }

    /// Says of which data a position is: the texts, how they are cut, and the weights that led to `step`.
    private func fingerprint(at step: Int) -> String {
        let rows = "\(String(corpus.fingerprint, radix: 16)):\(recipe.rowFingerprint)"
        guard let weights = corpus.options.weights else { return rows }
        return rows + ":weights " + String(weights.fingerprint(before: step), radix: 16)
    }

    private func sources(_ entries: [Entry]) -> [TensorSource] {
        entries.map { entry in
            unsafe TensorSource(entry.spec.name, entry.spec.type, entry.spec.shape,
                                bytes: UnsafeRawBufferPointer(entry.row.bytes))
        }
    }

    private func manifest(_ moment: Moment) -> Manifest {
        let seed = UInt64(recipe.debug.seed), position = moment.position
        return Manifest(
            step: Int(position.step), tokens: moment.tokens, worldSize: worldSize,
            data: SavedPosition(fingerprint: fingerprint(at: Int(position.step)), seed: seed,
                                row: position.rows.reduce(0) { $0 + UInt64($1) }, position: position.bytes),
            rng: RNGState(seed: seed), state: [Self.lowestLossKey: .number(moment.lowestLoss)])
    }

    private var tokenizer: String { String(decoding: corpus.tokenizer.json, as: UTF8.self) }

    /// What came of a save, on every rank the same: nil if it is done, else why it was given up (a full disk, say). The
    /// state is as it was, so training can go on.
    func save(_ moment: Moment, with writer: CheckpointWriter, shared: Bool, by world: World) throws -> String? {
        if shared, world.size > 1 { return try saveTogether(moment, with: writer, by: world) }
        let failure = try world.onFirst { try Self.failure { _ = try save(moment, with: writer) } }
        return try Self.first(failure ?? nil, of: world)
    }

    /// Saves the state at `moment`, by this process alone. Returns the checkpoint's folder.
    func save(_ moment: Moment, with writer: CheckpointWriter) throws(CheckpointError) -> String {
        try writer.write(manifest(moment), recipe: recipe.toml, tokenizer: tokenizer,
                         model: sources(model), optimizer: sources(moments))
    }

    /// The same by all ranks of `world`: each writes its share of the tensors, rank 0 commits. Returns why it was given
    /// up, if it was.
    private func saveTogether(_ moment: Moment, with writer: CheckpointWriter, by world: World) throws -> String? {
        let step = Int(moment.position.step), isFirst = world.rank == 0
        let begun = try Self.failure { if isFirst { try writer.begin(step: step) } }
        if let failure = try Self.first(begun, of: world) { return failure }
        var own: [UInt8] = []
        let written = try Self.failure {
            own = try writer.writePart(step: step, world.rank, of: world.size,
                                       model: sources(share(model, of: world)),
                                       optimizer: sources(share(moments, of: world)))
        }
        if let failure = try Self.first(written, of: world) {
            if isFirst { writer.abandon(step: step) }
            return failure
        }
        let records = try world.gather(own)
        let committed = try Self.failure {
            if isFirst {
                _ = try writer.commit(manifest(moment), recipe: recipe.toml, tokenizer: tokenizer, records: records)
            }
        }
        return try Self.first(committed, of: world)
    }

    /// Nil if `work` went well, else why it could not write. What is wrong otherwise is thrown on.
    private static func failure(_ work: () throws -> Void) throws -> String? {
        do {
            try work()
            return nil
        } catch let error as CheckpointError {
            guard case .notWritten = error else { throw error }
            return error.description
        }
    }

    /// The first rank's failure that has one; the same on all.
    private static func first(_ own: String?, of world: World) throws -> String? {
        let texts = try world.gather(Array((own.map { "!\($0)" } ?? ".").utf8))
        return texts.first { $0.first == UInt8(ascii: "!") }.map { String(decoding: $0.dropFirst(), as: UTF8.self) }
    }

    /// A run of neighbouring tensors for each rank, about equal in bytes: a tensor belongs to the rank in whose part
    /// of the bytes its middle lies.
    private func share(_ entries: [Entry], of world: World) -> [Entry] {
        let total = entries.reduce(0) { $0 + $1.row.count }
        var before = 0
        return entries.filter { entry in
            let middle = before + entry.row.count / 2
            before += entry.row.count
            return middle * world.size / max(total, 1) == world.rank
        }
    }

    /// Refuses a checkpoint that this run cannot go on from, before anything is changed. Returns where it was.
    func require(_ checkpoint: Checkpoint) throws -> Moment {
        try checkpoint.requireModel(model.map(\.spec))
        try checkpoint.requireOptimizer(moments.map(\.spec))
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
        return moment
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

    /// Fills weights and moments.
    func load(_ checkpoint: Checkpoint) throws(CheckpointError) {
        let reader = checkpoint.reader()
        for entry in model + moments { unsafe try checkpoint.read(entry.spec, into: entry.row.bytes, with: reader) }
    }
}
