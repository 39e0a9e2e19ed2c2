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

    /// For the other ranks: 88 bytes.
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
    let state: TrainingState
    let corpus: Corpus
    let recipe: Recipe
    let schedule: StepSchedule
    let worldSize: Int

    /// Names of the manifest's own state: `Moment.lowestLoss` and `Moment.updates`.
    static let lowestLossKey = "lowest_loss"
    static let updatesKey = "updates"

    /// A vector of the state that is laid out by the table, and what stands before a parameter's name in its tensors'.
    private typealias Part = (prefix: String, shard: Shard)

    private var model: [Part] { [("", state.weightShard)] }
    private var moments: [Part] { Array(zip(recipe.optimizer.name.moments, state.moments)) }

    private func spec(_ prefix: String, _ parameter: ParameterTable.Parameter) -> TensorSpec {
        TensorSpec(prefix + parameter.name, .float32, parameter.shape)
    }

    private func specs(_ parts: [Part]) -> [TensorSpec] {
        parts.flatMap { part in state.table.parameters.map { spec(part.prefix, $0) } }
    }

    /// Says of which data a position is: the texts, how they are cut, and the weights that led to `step`.
    private func fingerprint(at step: Int) -> String {
        let rows = "\(String(corpus.fingerprint, radix: 16)):\(recipe.rowFingerprint)"
        guard let weights = corpus.options.weights else { return rows }
        return rows + ":weights " + String(weights.fingerprint(before: step), radix: 16)
    }

    private func manifest(_ moment: Moment) -> Manifest {
        let seed = UInt64(recipe.debug.seed), position = moment.position
        return Manifest(
            step: Int(position.step), tokens: moment.tokens, worldSize: worldSize,
            data: SavedPosition(fingerprint: fingerprint(at: Int(position.step)), seed: seed,
                                row: position.rows.reduce(0) { $0 + UInt64($1) }, position: position.bytes),
            rng: RNGState(seed: seed), state: [Self.lowestLossKey: .number(moment.lowestLoss),
                                              Self.updatesKey: .number(Double(moment.updates))])
    }

    private var tokenizer: String { String(decoding: corpus.tokenizer.json, as: UTF8.self) }

    /// Saves the state at `moment` by rank 0 alone. Returns the checkpoint's folder there, nil on the others.
    func saveByFirst(_ moment: Moment, with writer: CheckpointWriter, by world: World) throws -> String? {
        let model = try gather(self.model, by: world) { _ in 0 }
        let optimizer = try gather(self.moments, by: world) { _ in 0 }
        defer { withExtendedLifetime((model, optimizer)) {} }
        return try world.onFirst {
            try writer.write(manifest(moment), recipe: recipe.toml, tokenizer: tokenizer,
                             model: model.map(\.source), optimizer: optimizer.map(\.source))
        }
    }

    /// The same by all ranks of `world`: each writes its share of the tensors, rank 0 commits. Returns the folder on
    /// rank 0, nil on the others.
    func save(_ moment: Moment, with writer: CheckpointWriter, by world: World) throws -> String? {
        let step = Int(moment.position.step)
        let model = try gather(self.model, by: world, writer: self.writer(of: self.model, among: world.size))
        let optimizer = try gather(self.moments, by: world, writer: self.writer(of: self.moments, among: world.size))
        defer { withExtendedLifetime((model, optimizer)) {} }
        if world.rank == 0 { try writer.begin(step: step) }
        try world.barrier()
        let own = try writer.writePart(step: step, world.rank, of: world.size, model: model.map(\.source),
                                       optimizer: optimizer.map(\.source))
        let records = try world.gather(own)
        guard world.rank == 0 else { return nil }
        return try writer.commit(manifest(moment), recipe: recipe.toml, tokenizer: tokenizer,
                                 records: records)
    }

    /// Who writes the tensor of some number: a run of neighbouring tensors for each rank, about equal in bytes. A
    /// tensor belongs to the rank in whose part of the bytes its middle lies.
    private func writer(of parts: [Part], among ranks: Int) -> (Int) -> Int {
        let counts = parts.flatMap { _ in state.table.parameters.map(\.count) }
        let total = counts.reduce(0, +)
        var before = 0
        let writers = counts.map { count in
            defer { before += count }
            return (before + count / 2) * ranks / max(total, 1)
        }
        return { writers[$0] }
    }

    /// The tensors that this rank writes, whole: what it does not hold itself comes from those who do.
    private func gather(_ parts: [Part], by world: World, writer: (Int) -> Int) throws -> [WholeTensor] {
        var found: [WholeTensor] = [], number = 0
        for part in parts {
            for parameter in state.table.parameters {
                let writer = writer(number)
                let row = try world.collect(parameter, of: part.shard, state, at: writer)
                if world.rank == writer {
                    found.append(WholeTensor(spec: spec(part.prefix, parameter), row: row.row, memory: row.memory))
                }
                number += 1
            }
        }
        return found
    }

    /// Refuses a checkpoint that this run cannot go on from, before anything is changed. Returns where it was.
    func require(_ checkpoint: Checkpoint) throws -> Moment {
        try checkpoint.requireModel(specs(model))
        try checkpoint.requireOptimizer(specs(moments))
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
        // Earlier checkpoints counted every step.
        moment.updates = checkpoint.step
        if case .number(let updates) = checkpoint.manifest.state[Self.updatesKey] { moment.updates = Int(updates) }
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

    /// Fills weights and moments on all ranks with what rank 0 reads, so that the others need not see its disk. Without
    /// a checkpoint: the weights alone, with what rank 0 draws, since that takes the C library's logarithm, which
    /// another version may round otherwise. A tensor at a time: no rank needs memory for more.
    /// `isResumed`: rank 0 has one.
    func fill(from checkpoint: Checkpoint?, isResumed: Bool, by world: World) throws {
        let memory = try Arena(name: "a tensor", capacity: state.table.parameters.map(\.count).max() ?? 0)
        let largest = memory.take(memory.capacity)
        defer { withExtendedLifetime(memory) {} }
        for part in isResumed ? model + moments : model {
            for (number, parameter) in state.table.parameters.enumerated() {
                let whole = largest.slice(0, parameter.count)
                if world.rank == 0 {
                    if let checkpoint {
                        unsafe try checkpoint.read(spec(part.prefix, parameter), into: whole.bytes)
                    } else {
                        Parameters.initialize(whole, number, of: state.table, seed: recipe.debug.seed)
                    }
                }
                try world.broadcast(whole)
                state.forEachPiece(of: parameter, in: part.shard) { piece, row in
                    row.copy(whole.slice(piece.lowerBound - parameter.offset, piece.count))
                }
            }
        }
    }
}

/// A tensor as a checkpoint takes it, with memory of its own where this rank held only a piece.
private struct WholeTensor {
    let spec: TensorSpec
    let row: Row
    let memory: Arena?

    var source: TensorSource {
        unsafe TensorSource(spec.name, spec.type, spec.shape, bytes: UnsafeRawBufferPointer(row.bytes))
    }
}
