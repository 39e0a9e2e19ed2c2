/// The memory that a run of a recipe will hold, component by component, before any of it is asked for: arenas are
/// sized by the recipe alone, so the plan is exact for them and an estimate for the few megabytes beside.
public struct MemoryPlan: Sendable, Equatable {
    /// What a recipe does not say.
    public struct Setting: Sendable, Equatable {
        public var vocabulary: Int
        /// Ranks that share a step's rows.
        public var ranks: Int
        /// Compute threads, where `training.threads` is 0.
        public var threads: Int
        /// Bytes of the files that `data.paths` leads to.
        public var textBytes: Int
        /// Tokens of data that stay mapped, and documents of those that were prepared.
        public var mappedTokens: Int
        public var documents: Int
        /// What the process holds before a run takes anything: program, libraries, their tables.
        public var processBytes: Int
        /// What the network holds in a job of several ranks.
        public var communicationBytes: Int
        /// The training state of a rank; nil: all of it, with AdamW's moments.
        public var state: State?

        public init(vocabulary: Int, ranks: Int = 1, threads: Int, textBytes: Int, mappedTokens: Int = 0,
                    documents: Int = 0, processBytes: Int, communicationBytes: Int = 0,
                    state: State? = nil) {
            self.vocabulary = vocabulary
            self.ranks = ranks
            self.threads = threads
            self.textBytes = textBytes
            self.mappedTokens = mappedTokens
            self.documents = documents
            self.processBytes = processBytes
            self.communicationBytes = communicationBytes
            self.state = state
        }
    }

    /// Bytes of what an optimizer step changes, as ranks share it out.
    public struct State: Sendable, Equatable {
        public var parameters: Int
        public var gradients: Int
        public var moments: Int
        /// Where the blocks of shared parameters and gradients take turns.
        public var slots: Int
        /// What the optimizer computes in.
        public var scratch: Int
        /// What `checkpoint.async` copies.
        public var copy: Int
        /// What a save holds of the file that it is writing.
        public var writing: Int
        /// Copies for the loss of a rank: its own share of two steps, and a neighbour's.
        public var kept: Int

        public init(parameters: Int, gradients: Int, moments: Int, slots: Int = 0, scratch: Int = 0, copy: Int = 0,
                    writing: Int = 0, kept: Int = 0) {
            self.parameters = parameters
            self.gradients = gradients
            self.moments = moments
            self.slots = slots
            self.scratch = scratch
            self.copy = copy
            self.writing = writing
            self.kept = kept
        }
    }

    public struct Component: Sendable, Equatable {
        public let name: String
        public let bytes: Int
        /// The slots of the activations, each for all layers together. Empty elsewhere.
        public let slots: [Slot]

        public struct Slot: Sendable, Equatable {
            public let name: String
            public let bytes: Int
        }
    }

    /// What is there while a step runs.
    public let components: [Component]
    /// What is there while the texts are read and encoded, before the arenas exist.
    public let readingBytes: Int
    /// What is there while the GEMM peak is measured, between reading and the arenas: for each thread two matrices of
    /// 1,024 x 1,024, and one for all.
    public let measuringBytes: Int
    /// The part of both that the process holds already.
    public let processBytes: Int

    public init(_ recipe: Recipe, _ setting: Setting) {
        let table = ParameterTable(recipe.model, vocabulary: setting.vocabulary)
        let rows = recipe.rowsPerTask, sequence = recipe.training.sequenceLength
        let shared = recipe.sequenceMemory(worldSize: setting.ranks), precision = recipe.precision.checked
        let isRounded = precision?.roundsAttention ?? false
        let slots = ActivationSlots(recipe.model, vocabulary: setting.vocabulary, tokens: recipe.tokensPerRank,
                                    recomputation: recipe.activationCheckpoint.mode, exchanged: shared?.kept ?? 0,
                                    precision: precision)
        let threads = recipe.training.threads == 0 ? setting.threads : recipe.training.threads
        let attention = shared == nil
            ? Self.attentionFloats(recipe.model, sequence, threads: threads, isRounded: isRounded) : nil
        let borrowed = precision.map {
            $0.borrowed(slots, recipe.model, tokens: rows * sequence, threads: threads, attention: attention)
        } ?? BorrowedLogits(logits: 0, attention: 0, tiles: 0)
        let flat = 4 * padded(table.count)
        let state = setting.state ?? State(parameters: flat, gradients: flat, moments: 2 * flat)
        let data = Self.data(setting)
        let index = Self.indexBytes(recipe, setting)
        let groups = recipe.groups(worldSize: setting.ranks)
        let share = (recipe.rowsPerStep(worldSize: setting.ranks) + groups - 1) / groups
        // Where plans share them out, every rank has a look at all rows of a step.
        let batches = recipe.plansSequences && setting.ranks > 1 ? recipe.rowsPerStep(worldSize: setting.ranks)
            : (share + rows - 1) / rows * rows
        let activations = slots.slots.filter { $0.name != "logits" }.map {
            Component.Slot(name: $0.name, bytes: 4 * padded($0.floats) * $0.copies)
        }
        func component(_ name: String, _ bytes: Int) -> Component { Component(name: name, bytes: bytes, slots: []) }
        components = [
            component("parameters", state.parameters),
            component("gradients", state.gradients),
            component("moments", state.moments),
            component("blocks in use", state.slots),
            component("optimizer scratch", state.scratch),
            component("copy for checkpoints", state.copy),
            component("writing checkpoints", state.writing),
            component("copies for lost ranks", state.kept),
            Component(name: "activations", bytes: activations.reduce(0) { $0 + $1.bytes }, slots: activations),
            component("logits", 4 * padded(slots.floats("logits"))),
            component("attention scratch", 4 * ((attention ?? 0) - borrowed.attention)),
            component("sequence exchange",
                      4 * (shared?.floats(recipe.model, threads: threads, isRounded: isRounded) ?? 0)),
            component("head scratch", 4 * padded(threads * slots.head.packed(dim: recipe.model.dim))),
            component("quantisation",
                      4 * (precision?.floats(recipe.model, tokens: rows * sequence, threads: threads,
                                            keepsWeights: recipe.keepsPackedWeights(worldSize: setting.ranks),
                                            borrowed: borrowed) ?? 0)),
            component("rotary tables", 4 * Self.rotaryFloats(recipe.model, sequence)),
            component("data", data.held),
            component("row tables", index),
            component("batches", batches * 12 * sequence),
            component("packing", threads * Self.packingBytes),
            component("communication", setting.communicationBytes),
            component("program", setting.processBytes + Self.programGrowth),
        ].filter { $0.bytes > 0 }
        readingBytes = data.reading + setting.processBytes + Self.programGrowth
        measuringBytes = data.held + index + setting.processBytes + Self.programGrowth + threads * Self.packingBytes
            + (1 + 2 * threads) * 4 << 20
        processBytes = setting.processBytes
    }

    /// The most that is held at once.
    public var peakBytes: Int { max(readingBytes, measuringBytes, components.reduce(0) { $0 + $1.bytes }) }

    /// What the process will take beyond what it has.
    public var neededBytes: Int { peakBytes - processBytes }

    /// What a matrix product packs its operands into, at most, on the stack of each thread (`skein_gemm`).
    static let packingBytes = 384 << 10

    /// Code and tables that the program meets only on its way (measured: 3 to 5 MiB, of which 1 to 2 differ from
    /// one build to the next).
    static let programGrowth = 5 << 20

    /// Bytes of text are their own tokens and are held once; while the last file is read it is mapped as well. Other
    /// vocabularies hold two bytes a token (four beyond 65,536), of which the shortest we know of, English in GPT-2's,
    /// come every 3 bytes of program text; the text and growing arrays are there while they are made.
    /// Tokens that stay mapped are the page cache's, but not what is known of their documents.
    private static func data(_ setting: Setting) -> (held: Int, reading: Int) {
        let text = setting.textBytes
        let (documents, building) = (setting.documents * documentBytes, setting.documents * documentBuildingBytes)
        if setting.vocabulary == byteVocabulary { return (text + documents, 2 * text + building) }
        let tokens = text / 3 * (setting.vocabulary <= 1 << 16 ? 2 : 4)
        let tokenizer = setting.vocabulary * tokenizerBytesPerToken
        return (tokens + tokenizer + documents, text + 2 * tokens + 2 * tokenizer + building)
    }

    /// Measured with 200,000 and 300,000 documents: 120 to 150 bytes each, much of it given back to the allocator,
    /// which keeps it; while the data are opened 240.
    private static let documentBytes = 130
    private static let documentBuildingBytes = 240

    /// Of each row's pieces, 24 bytes each: as many as when all buckets hold equally many bytes of text, and one more
    /// for each document where its rest is packed. Concatenated rows are computed.
    private static func indexBytes(_ recipe: Recipe, _ setting: Setting) -> Int {
        guard recipe.data.layout != .concatenate else { return 0 }
        let lengths = recipe.bucketLengths, bytes = Double(setting.textBytes + setting.mappedTokens)
        let piecesPerByte = lengths.reduce(0) { $0 + 1 / Double($1) } / Double(lengths.count)
        return 24 * (Int(bytes * piecesPerByte) + setting.documents)
    }

    private static let byteVocabulary = 257
    /// Names, merges and their tables.
    private static let tokenizerBytesPerToken = 320

    /// Of all workers together: each packs one key head of the longest row, and some blocks of 64.
    /// `isRounded`: its operands are bf16 (`precision.attention`).
    public static func attentionFloats(_ shape: Recipe.ModelShape, _ sequence: Int, threads: Int,
                                       isRounded: Bool) -> Int {
        let block = 64, queries = 128, head = shape.headDim
        let blocks = (sequence + block - 1) / block, tokens = padded(blocks * block * head)
        let each = 3 * padded(queries * head) + 2 * queries * block + 17 * queries
        guard isRounded else { return padded(threads * (5 * tokens + each)) }
        // Keys and values as columns, one of them as rows; queries and their gradients as both; weights.
        let packed = 2 * padded(blocks * dotFloats(head, block)) + padded(blocks * dotFloats(block, head))
            + 2 * padded(queries * dotRowFloats(head)) + 2 * padded(dotFloats(queries, head))
            + padded(max(queries * dotRowFloats(block), block * dotRowFloats(queries)))
        return padded(threads * (2 * tokens + each + packed))
    }

    /// Cosines and sines of every position.
    public static func rotaryFloats(_ shape: Recipe.ModelShape, _ sequence: Int) -> Int {
        2 * padded(sequence * (shape.headDim / 2))
    }
}
