/// Every declared value of a run. What is not here cannot be set; what is here has a default, a flag
/// (`--section.key value`), a help text and a place in the resolved config that a checkpoint carries.
/// The list of keys, with their texts, is `RecipeKeys.swift`.
public struct Recipe: Sendable, Equatable {
    public var job = Job()
    public var model = ModelShape()
    public var data = Data()
    public var training = Training()
    public var optimizer = Optimizer()
    public var schedule = Schedule()
    public var precision = Precision()
    public var parallelism = Parallelism()
    public var planner = Planning()
    public var checkpoint = Checkpointing()
    public var activationCheckpoint = ActivationCheckpointing()
    public var communication = Communication()
    public var validation = Validation()
    public var metrics = Metrics()
    public var profiling = Profiling()
    public var launch = Launch()
    public var debug = Debug()

    public init() {}

    public struct Job: Sendable, Equatable {
        public var name = "run"
        public var dumpFolder = "outputs"
    }

    /// The transformer's shape, in Llama's terms. Parameters: see `ParameterTable`.
    public struct ModelShape: Sendable, Equatable {
        public var dim = 192
        public var layers = 4
        public var heads = 6
        /// Key/value heads; 0 means as many as heads.
        public var keyValueHeads = 0
        /// Width of the gated MLP; 0 means 8/3 dim, rounded up to a multiple of 64.
        public var ffnDim = 0
        /// Width of a head; 0 means dim / heads.
        public var headWidth = 0
        /// Rows of the embedding, of which those beyond the tokenizer's ids are padding; 0 means none beyond.
        public var vocabularySize = 0
        /// Queries, keys and values are `W x + b`, as in Qwen 2.
        public var hasBias = false
        public var normEpsilon = 1e-5
        public var ropeTheta = 10_000.0
        /// How rotary frequencies are lowered for contexts longer than a model was trained on. What follows is read
        /// only where it is not `none`; the last three for `llama3` only.
        public var ropeScaling = RopeScaling.none
        public var ropeFactor = 8.0
        public var ropeLowFactor = 1.0
        public var ropeHighFactor = 4.0
        public var ropeOriginalLength = 8_192
        public var tieEmbeddings = false

        public var keyHeads: Int { keyValueHeads == 0 ? heads : keyValueHeads }
        public var headDim: Int { headWidth == 0 ? dim / max(heads, 1) : headWidth }
        public var hiddenDim: Int { ffnDim == 0 ? (dim * 8 / 3 + 63) / 64 * 64 : ffnDim }
    }

    /// All frequencies over `ropeFactor` (Chen et al., 2306.15595), or the low ones only, with a ramp between (Llama
    /// 3.1, 2407.21783).
    public enum RopeScaling: String, Sendable, CaseIterable { case none, linear, llama3 }

    public struct Data: Sendable, Equatable {
        public var paths: [String] = []
        /// How much of each path is read; lines as `SourceWeights` reads them. None: all documents are one stream.
        public var weights: [String] = []
        /// `bytes`, or the path of a byte-level BPE's files.
        public var tokenizer = "bytes"
        /// Texts are cut into documents where these bytes stand; empty: nowhere.
        public var separator = ""
        /// Tokens see their own document only. Off: everything before them in the row.
        public var documentMask = true
        /// How documents become rows. All that follows belongs to `decompose`, and is not read without it.
        public var layout = DataLayout.concatenate
        public var decomposition = DecompositionMode.greedy
        /// The shortest bucket's rows; a power of two. The longest bucket's are `training.seq_len`.
        public var minimumLength = 32
        /// Shares of the buckets in all tokens, for `quota`, the shortest first; none: all equal.
        public var mixture: [Double] = []
        public var curriculum = CurriculumOdds.uniform
        /// Odds of the buckets, for `free`, the shortest first.
        public var odds: [Double] = []
        /// Parts of an epoch; the curriculum runs once in each.
        public var cycles = 1
    }

    /// Rows of one length (`padded`: one document in each, longer ones cut), or buckets of lengths (2405.13226).
    public enum DataLayout: String, Sendable, CaseIterable {
        case concatenate, bestFit = "best_fit", spfhp, nnlshp, padded, decompose
    }

    public enum DecompositionMode: String, Sendable, CaseIterable { case greedy, random, quota }

    public enum CurriculumOdds: String, Sendable, CaseIterable {
        case uniform, growLinear = "grow_linear", growP2 = "grow_p2", growP100 = "grow_p100"
        case shrinkP100 = "shrink_p100", natural, free
    }

    public struct Training: Sendable, Equatable {
        public var steps = 1_000
        public var sequenceLength = 256
        /// Rows that one rank computes at once (a micro-batch).
        public var localBatchSize = 8
        /// Rows of one optimizer step over all ranks; 0 means localBatchSize on each rank.
        public var globalBatchSize = 0
        /// Compute threads of this process; 0 means the cores it may use.
        public var threads = 0
        /// Whose matrix products the linear layers use.
        public var matmul = Matmul.own
        /// Upper bound of the tokens computed at once; 0 means localBatchSize x sequenceLength.
        public var maxTokensPerTask = 0
        /// Gradients are scaled down to this global norm; 0 means never.
        public var maxNorm = 1.0
        /// Steps in a row whose loss or gradient may be not finite before the run ends; 0 means any number.
        public var maxNonfiniteSteps = 3
        public var lengthWarmup = LengthSchedule()
        /// A step's gradients are added up along one tree over its micro-batches, whatever the number of ranks.
        public var reproducible = false
    }

    /// Sequence-length warm-up (2108.06084).
    public struct LengthSchedule: Sendable, Equatable {
        public var method = LengthWarmupMethod.none
        public var growth = LengthWarmupGrowth.linear
        /// Steps from the first length to `training.seq_len`, for `linear` and `root`.
        public var steps = 300
        public var start = 8
        /// Lengths grow with this root of the step.
        public var root = 2.0
        /// Lengths are rounded down to multiples of this.
        public var multiple = 8
        /// For `discrete`: the lengths one after the other, and the steps at which all but the last end.
        public var lengths: [Double] = []
        public var ends: [Double] = []
    }

    /// Rows are cut and the rest thrown away; cut into several; or attention alone is cut (2503.15450).
    public enum LengthWarmupMethod: String, Sendable, CaseIterable { case none, truncate, reshape, window }

    public enum LengthWarmupGrowth: String, Sendable, CaseIterable { case linear, root, discrete }

    public struct Optimizer: Sendable, Equatable {
        public var name = OptimizerName.adamw
        public var learningRate = 1e-3
        public var beta1 = 0.9
        public var beta2 = 0.95
        public var epsilon = 1e-8
        public var weightDecay = 0.1
        /// Of the optimizers that average gradients alone: sgd, muon.
        public var momentum = 0.95
        public var moments = MomentFormat.fp32
        public var masterWeights = MasterFormat.fp32
    }

    /// What an optimizer keeps its first and its second moment in; all but fp32 have a scale for every 128 numbers.
    /// `fp8`: E4M3, and E5M2 rounded stochastically. `fp8-nearest`: both to nearest, as 2409.12517. `fp8-root`: E4M3,
    /// and the second's root in E4M3. `fp8-fp16`: E4M3 and FP16, as FP8-LM (2310.18313). `bf16`: both, as DeepSeek-V3
    /// (2412.19437).
    public enum MomentFormat: String, Sendable, CaseIterable {
        case fp32, fp8
        case fp8Nearest = "fp8-nearest"
        case fp8Root = "fp8-root"
        case fp8FP16 = "fp8-fp16"
        case bf16
    }

    /// What weights are kept in between steps. A step computes with fp32 in any case: of `fp16` it makes them block by
    /// block.
    public enum MasterFormat: String, Sendable, CaseIterable { case fp32, fp16 }

    public enum OptimizerName: String, Sendable, CaseIterable { case adamw, lamb, sgd, muon, soap }

    public struct Schedule: Sendable, Equatable {
        public var warmupSteps = 50
        public var decay = Decay.cosine
        /// The share of all steps, at the end, in which the rate decays; 1: from the end of the warm-up on. With less
        /// than 1 the rate stands still before (warmup-stable-decay), so that the end can still be moved.
        public var decayRatio = 1.0
        /// The last step's learning rate as a share of the highest.
        public var minimumFactor = 0.1
    }

    public enum Decay: String, Sendable, CaseIterable { case cosine, linear, none }

    /// Number formats of the linear layers' products; `PrecisionSetting` has what a recipe's name stands for.
    public struct Precision: Sendable, Equatable {
        public var recipe = PrecisionRecipe.fp32
        /// Optimizer steps that delayed scales look back on; 0: as the recipe has it.
        public var amaxHistory = 0
        public var smoothSwiGLU = Smoothing.auto
        public var attention = AttentionOperands.auto
        /// For `custom`: the operands of y = X W^T, dX = dY W, dW = dY^T X.
        public var forwardInput = "BF16"
        public var forwardWeight = "BF16"
        public var inputGradientOutput = "BF16"
        public var inputGradientWeight = "BF16"
        public var weightGradientOutput = "BF16"
        public var weightGradientInput = "BF16"
    }

    public enum PrecisionRecipe: String, Sendable, CaseIterable {
        case fp32, bf16
        case fp8Hybrid = "fp8-hybrid"
        case fp8Block = "fp8-block"
        case mxfp8
        case fp8Paper = "fp8-paper"
        case custom
    }

    /// What the operands of attention's products are rounded to; softmax is fp32 always. `auto`: bf16 for the recipes
    /// bf16 and fp8-hybrid, else fp32.
    public enum AttentionOperands: String, Sendable, CaseIterable { case auto, fp32, bf16 }

    /// What the down projection's input is divided by before it is quantised (Smooth-SwiGLU, 2409.12517): the largest
    /// magnitude of the linear branch for each channel, as the paper has it, or for each token, as its authors' code.
    /// `auto`: by channel for fp8-paper, else not.
    public enum Smoothing: String, Sendable, CaseIterable { case auto, none, channel, token }

    /// Which parts of the training state ranks share out (ZeRO, 1910.02054). The counts are those of InternEvo
    /// (2401.09149): over how many ranks parameters, gradients and optimizer state are cut; 0: what `zero` says.
    public struct Parallelism: Sendable, Equatable {
        public var zero = 1
        /// A search finds these counts.
        public var isSearched = false
        public var shardParameters = 0
        public var shardGradients = 0
        public var shardOptimizer = 0
        /// Ranks that share a sequence, each with a part of its tokens; 0: as many as the step's plan says.
        public var contextDegree = 1
        public var contextMethod = ContextMethod.auto
    }

    /// How ranks that share a sequence share its attention: tokens are exchanged for heads and back (DeepSpeed-Ulysses,
    /// 2309.14509), or keys and values go to whoever's queries see them (RingAttention, 2310.01889). `auto` takes what
    /// moves less.
    public enum ContextMethod: String, Sendable, CaseIterable { case auto, ulysses, ring }

    /// Of the plans that say which ranks share which sequences of a step.
    public struct Planning: Sendable, Equatable {
        public var solver = PlanSolver.fast
        public var linearProgram = true
        /// Rates that plans reckon with. Both 0: what tasks take is measured as a run starts, and kept in checkpoints.
        public var gflops = 0.0
        public var linkGbit = 0.0
        /// Speeds of ranks are followed while they train. Then plans, and with them the order of sums, depend on time.
        public var adapts = false
        /// The plans of another run, in place of own ones.
        public var replay = ""

        /// Whether the recipe says what a rank takes, or one is to find out. A rate that is missing is the usual one.
        public var isDeclared: Bool { gflops > 0 || linkGbit > 0 }
        public static let usualGflops = 50.0, usualLinkGbit = 1.0
    }

    public enum PlanSolver: String, Sendable, CaseIterable { case fast, exact }

    public struct Checkpointing: Sendable, Equatable {
        public var enable = true
        /// Steps between two checkpoints; the last step is always saved. 0 means only the last.
        public var interval = 0
        /// Empty, `latest`, or a checkpoint's folder.
        public var load = ""
        /// Weights that a new run begins with: a checkpoint's folder, or empty.
        public var loadWeights = ""
        public var keepLatest = 3
        /// Every rank saves its part into `job.dumpFolder`, which all must see; else rank 0 saves everything.
        public var shared = true
        /// Saves are written while training goes on.
        public var async = false
        /// Of the optimizer's state.
        public var compression = CheckpointCompression.none
        /// A file with the key that checkpoints are signed with, and that those which are loaded must be signed with.
        /// Empty: none.
        public var keyFile = ""
    }

    public enum CheckpointCompression: String, Sendable, CaseIterable { case none, zstd }

    public struct ActivationCheckpointing: Sendable, Equatable {
        public var mode = Recomputation.none
        /// A search finds it.
        public var isSearched = false
    }

    /// Products of the linear layers: the house's own, whose sums have one order everywhere, or OpenBLAS's, whose order
    /// is its own affair on every CPU. Attention's are the house's own in any case.
    public enum Matmul: String, Sendable, CaseIterable { case own, openblas }

    /// What a backward computes again instead of keeping it from the forward (1904.10509, section 5.4). The
    /// gradients are the same, bit for bit.
    ///
    /// `selective` drops the MLP's fused gate and up projection, by far the largest slot of a layer, and makes it
    /// again from the residual stream: 11 % more arithmetic at 26 M. Attention, the dearest to redo, is kept. `full`
    /// keeps each layer's input alone.
    public enum Recomputation: String, Sendable, CaseIterable { case none, selective, full }

    /// Between ranks. Protection of frames: a checksum, or encryption with authentication; `auto` takes the
    /// checksum on the loopback interface and encryption between hosts.
    public struct Communication: Sendable, Equatable {
        public var protection = FrameProtection.auto
        /// Messages between ranks of one machine; between machines they go by TCP.
        public var transport = TransportChoice.auto
        /// Connections for data to each peer. One that is slow takes fewer messages, and does not set the pace.
        public var streams = 1
        /// One algorithm for all collectives that it serves; auto: by kind, bytes and ranks.
        public var algorithm = AlgorithmChoice.auto
        /// What gradients are while they travel: bf16 are half the bytes, fp8 (with a scale for each tensor, from the
        /// step before) a quarter. Sums are made in fp32 by their owner, to whom each rank's share goes straight.
        public var gradients = GradientFormat.fp32
        /// A table of algorithms that `skein bench collectives --tune` has measured; rank 0's holds for all.
        public var table = ""
        /// The address to listen on; empty: the loopback interface when the master is on it, else all.
        public var bind = ""
        /// The network interface to listen on, by its name, in place of `bind`.
        public var interface = ""
        /// Ports that ranks other than 0 may listen on, "29400-29500"; empty: any that is free.
        public var portRange = ""
        /// A rank that is silent for so long has failed.
        public var heartbeatSeconds = 5.0
        /// How long ranks wait for each other to come.
        public var startSeconds = 60.0
        /// A collective in which nothing moves for so long has failed.
        public var timeoutSeconds = 120.0
    }

    public enum GradientFormat: String, Sendable, CaseIterable { case fp32, bf16, fp8 }
    public enum FrameProtection: String, Sendable, CaseIterable { case auto, checked, sealed }
    public enum TransportChoice: String, Sendable, CaseIterable { case auto, tcp, shm }

    public enum AlgorithmChoice: String, Sendable, CaseIterable {
        case auto, ring, direct
        case recursiveDoubling = "recursive-doubling"
        case halvingDoubling = "halving-doubling"
    }

    public struct Validation: Sendable, Equatable {
        /// Steps between two validations; the last step always validates. 0 means only the last.
        public var interval = 0
        /// Rows used each time, spread evenly over all that are held out; 0 means all.
        public var rows = 0
        /// The last step's validation takes all rows, whatever `rows` says.
        public var fullAtEnd = false
        public var layout = ValidationLayout.same
        public var documentMask = ValidationMask.same
    }

    /// How held-out documents become rows of `training.seq_len`: cut anywhere, or packed whole. `same` cuts where
    /// `data.layout` does, and packs for all others.
    public enum ValidationLayout: String, Sendable, CaseIterable { case same, concatenate, bestFit = "best_fit" }

    /// Whether held-out tokens see their own document only. `same` is `data.document_mask`.
    public enum ValidationMask: String, Sendable, CaseIterable { case same, on, off }

    public struct Metrics: Sendable, Equatable {
        /// Steps between two plain log lines when the output is not a terminal.
        public var logInterval = 10
        /// Steps between two looks at what quantising does to the linear layers' operands; 0: none.
        public var precisionInterval = 100
        /// Event files for TensorBoard, in `tensorBoardFolder` of the run's folder.
        public var tensorBoard = false
        public var tensorBoardFolder = "tb"
        /// A file for the textfile collector of Prometheus' node exporter; empty: none.
        public var prometheus = ""
    }

    public struct Profiling: Sendable, Equatable {
        /// Some steps of the run are written down span by span.
        public var trace = false
        /// The first of them: 1 is the first that this process does, whatever it resumed from. The default leaves
        /// out those that meet cold pages.
        public var firstStep = 3
        public var steps = 3
    }

    public struct Launch: Sendable, Equatable {
        /// Ranks started by `skein launch` keep OPENBLAS_CORETYPE, if it is set; training does not heed it.
        public var keepBlasCore = false
        /// How often a job that has lost a rank is started again from its latest checkpoint.
        public var maxRestarts = 0
        /// What the others do when a rank fails.
        public var elastic = Elastic.stop
        /// Processes that wait to take a failed rank's place.
        public var spares = 0
        /// Other ranks that hold a copy of what a rank holds alone.
        public var redundancy = 1
    }

    public struct Debug: Sendable, Equatable {
        public var seed = 0
        /// Of each rank, how many times as long it takes to compute: it rests behind each task. Empty: none rests.
        public var slowRanks: [Double] = []
        /// See `RehearsedFault`. Empty: none.
        public var fault = ""
    }
}
