import Base

extension Recipe {
    /// Every key, in the order in which a config is printed. Section and key names follow torchtitan's last
    /// TOML release where it has them.
    public static let keys: [Key] = [
        .text("job.name", \.job.name, "names the run: its files are in DUMP_FOLDER/NAME"),
        .text("job.dump_folder", \.job.dumpFolder, "the folder that holds the runs"),

        .integer("model.dim", \.model.dim, 2...65_536, "width of the residual stream"),
        .integer("model.n_layers", \.model.layers, 1...1_000, "number of transformer blocks"),
        .integer("model.n_heads", \.model.heads, 1...1_024, "query heads; must divide model.dim into even heads"),
        .integer("model.n_kv_heads", \.model.keyValueHeads, 0...1_024, "key/value heads; 0: as many as n_heads"),
        .integer("model.ffn_dim", \.model.ffnDim, 0...1_048_576, "width of the gated MLP; 0: 8/3 dim"),
        .integer("model.head_dim", \.model.headWidth, 0...4_096, "width of a head; 0: dim / n_heads"),
        .integer("model.vocab_size", \.model.vocabularySize, 0...4_194_304,
                 "rows of the embedding, at least the tokenizer's ids; 0: as many as those"),
        .bool("model.qkv_bias", \.model.hasBias, "queries, keys and values have biases (Qwen 2)"),
        .number("model.norm_eps", \.model.normEpsilon, 1e-30...1, "added inside RMSNorm's root"),
        .number("model.rope_theta", \.model.ropeTheta, 1...1e12, "base of the rotary frequencies"),
        .choice("model.rope_scaling", \.model.ropeScaling, "lowers rotary frequencies for longer contexts"),
        .number("model.rope_factor", \.model.ropeFactor, 1...1e6, "for rope_scaling: how far they are lowered"),
        .number("model.rope_low_freq_factor", \.model.ropeLowFactor, 1e-3...1e6,
                "for llama3: wavelengths over rope_original_len / this are lowered by all of rope_factor"),
        .number("model.rope_high_freq_factor", \.model.ropeHighFactor, 1e-3...1e6,
                "for llama3: wavelengths under rope_original_len / this stay as they are"),
        .integer("model.rope_original_len", \.model.ropeOriginalLength, 1...16_777_216,
                 "for llama3: the context that the model was first trained on"),
        .bool("model.tie_embeddings", \.model.tieEmbeddings, "the output head is the embedding"),

        .list("data.paths", \.data.paths, "texts, folders of text, docs.txt beside docs.tsv, or prepared data"),
        .list("data.weights", \.data.weights,
              "shares of data.paths in the tokens; in phases as \"STEP: w1 w2\"; empty: all as it comes",
              takesNumbers: true),
        .text("data.tokenizer", \.data.tokenizer, "`bytes`, or a tokenizer.json or the folder with one"),
        .text("data.separator", \.data.separator,
              "texts and JSON lines are cut into documents where exactly this stands; empty: nowhere"),
        .bool("data.document_mask", \.data.documentMask, "tokens see their own document only"),
        .choice("data.layout", \.data.layout, "how documents become rows; decompose: buckets of powers of two"),
        .choice("data.decomposition", \.data.decomposition, "how decompose chooses the lengths of pieces"),
        .integer("data.min_length", \.data.minimumLength, 1...1_048_576,
                 "rows of decompose's shortest bucket, a power of two"),
        .numbers("data.mixture", \.data.mixture, 0...1e30,
                 "for quota: each bucket's share of all tokens, the shortest first; empty: equal"),
        .choice("data.curriculum", \.data.curriculum, "which of decompose's buckets come first"),
        .numbers("data.odds", \.data.odds, 0...1e30, "for free: the odds of each bucket, the shortest first"),
        .integer("data.cycles", \.data.cycles, 1...1_000_000, "times that the curriculum runs in an epoch"),

        .integer("training.steps", \.training.steps, 1...mostSteps, "optimizer steps"),
        .integer("training.seq_len", \.training.sequenceLength, 2...16_777_216, "tokens in a row"),
        .integer("training.local_batch_size", \.training.localBatchSize, 1...1_000_000, "rows a rank computes at once"),
        .integer("training.global_batch_size", \.training.globalBatchSize, 0...1_000_000,
                 "rows of one step over all ranks; 0: local_batch_size on each"),
        .integer("training.max_tokens_per_task", \.training.maxTokensPerTask, 0...mostSteps,
                 "most tokens computed at once; 0: local_batch_size x seq_len"),
        .integer("training.threads", \.training.threads, 0...4_096,
                 "compute threads; 0: the cores this process may use"),
        .choice("training.matmul", \.training.matmul,
                "who multiplies in linear layers: own, or openblas, whose bits are those of one CPU"),
        .number("training.max_norm", \.training.maxNorm, 0...Double.infinity,
                "clip the gradient's global norm; 0: never"),
        .integer("training.max_nonfinite_steps", \.training.maxNonfiniteSteps, 0...mostSteps,
                 "end after so many steps in a row whose loss or gradient is not finite; 0: never"),
        .bool("training.reproducible", \.training.reproducible,
              "the same weights, bit for bit, at 1, 2, 4, 8, ... ranks and at every stage of ZeRO"),
        .choice("training.length_warmup", \.training.lengthWarmup.method, "how short contexts are made at the start"),
        .choice("training.length_warmup_growth", \.training.lengthWarmup.growth, "how their length grows"),
        .integer("training.length_warmup_steps", \.training.lengthWarmup.steps, 1...10_000_000,
                 "steps to the full length, for linear and root"),
        .integer("training.length_warmup_start", \.training.lengthWarmup.start, 1...16_777_216, "the first length"),
        .number("training.length_warmup_root", \.training.lengthWarmup.root, 1...100,
                "for root: lengths grow with this root of the step"),
        .integer("training.length_warmup_multiple", \.training.lengthWarmup.multiple, 1...1_048_576,
                 "lengths are rounded down to multiples of this"),
        .numbers("training.length_warmup_lengths", \.training.lengthWarmup.lengths, 1...16_777_216,
                 "for discrete: the lengths, the last of them seq_len"),
        .numbers("training.length_warmup_ends", \.training.lengthWarmup.ends, 1...10_000_000,
                 "for discrete: the steps at which all lengths but the last end"),

        .choice("optimizer.name", \.optimizer.name, "the optimizer"),
        .number("optimizer.lr", \.optimizer.learningRate, 0...1_000, "the highest learning rate"),
        .number("optimizer.beta1", \.optimizer.beta1, 0...0.999_999_99, "decay of the first moment"),
        .number("optimizer.beta2", \.optimizer.beta2, 0...0.999_999_99, "decay of the second moment"),
        .number("optimizer.eps", \.optimizer.epsilon, 1e-30...1, "added to the root of the second moment"),
        .number("optimizer.weight_decay", \.optimizer.weightDecay, 0...1_000, "decoupled decay of matrices"),
        .number("optimizer.momentum", \.optimizer.momentum, 0...0.999_999, "for sgd and muon: decay of the momentum"),
        .choice("optimizer.moments", \.optimizer.moments,
                "what moments are kept in: fp8 is E4M3 and E5M2, with a scale for every 128 numbers"),
        .choice("optimizer.master_weights", \.optimizer.masterWeights,
                "what weights are kept in between steps: fp16 with a scale for every 128 numbers"),

        .integer("lr_scheduler.warmup_steps", \.schedule.warmupSteps, 0...mostSteps, "steps of linear warm-up"),
        .choice("lr_scheduler.decay_type", \.schedule.decay, "shape of the decay after warm-up"),
        .number("lr_scheduler.decay_ratio", \.schedule.decayRatio, 0...1,
                "the last share of the steps, in which the rate decays; 1: all after the warm-up"),
        .number("lr_scheduler.min_lr_factor", \.schedule.minimumFactor, 0...1, "the last rate over the highest"),

        .choice("precision.recipe", \.precision.recipe, "number formats of the linear layers' products"),
        .integer("precision.amax_history", \.precision.amaxHistory, 0...100_000,
                 "steps that delayed scales look back on; 0: 16, or 1 for fp8-paper"),
        .choice("precision.smooth_swiglu", \.precision.smoothSwiGLU,
                "smooth the down projection's input by channel or by token; auto: by channel for fp8-paper"),
        .choice("precision.attention", \.precision.attention,
                "operands of attention's products; auto: bf16 for bf16 and fp8-hybrid, else fp32"),
        .text("precision.forward_input", \.precision.forwardInput,
              "for custom: X in y = X W^T: a format, then delayed, tensor, row or AxB; stochastic; free"),
        .text("precision.forward_weight", \.precision.forwardWeight, "for custom: W in y = X W^T"),
        .text("precision.input_gradient_output", \.precision.inputGradientOutput, "for custom: dY in dX = dY W"),
        .text("precision.input_gradient_weight", \.precision.inputGradientWeight, "for custom: W in dX = dY W"),
        .text("precision.weight_gradient_output", \.precision.weightGradientOutput, "for custom: dY in dW = dY^T X"),
        .text("precision.weight_gradient_input", \.precision.weightGradientInput, "for custom: X in dW = dY^T X"),

        .integer("parallelism.zero", \.parallelism.zero, 0...3,
                 "what ranks share out: 1 optimizer state, 2 gradients too, 3 parameters too; 0 nothing; "
                    + "auto: what a search finds")
            .or("auto", \.parallelism.isSearched),
        .integer("parallelism.shard_parameters", \.parallelism.shardParameters, 0...65_536,
                 "ranks that share out the parameters; 0: as parallelism.zero says"),
        .integer("parallelism.shard_gradients", \.parallelism.shardGradients, 0...65_536,
                 "ranks that share out the gradients, a multiple of those of the parameters; 0: as zero says"),
        .integer("parallelism.shard_optimizer", \.parallelism.shardOptimizer, 0...65_536,
                 "ranks that share out the optimizer state, a multiple of those of the gradients; 0: as zero says"),
        .integer("parallelism.context_parallel_degree", \.parallelism.contextDegree, 1...4_096, or: "auto",
                 "ranks that share each sequence, a divisor of their number; auto: planned for every step"),
        .choice("parallelism.context_parallel_method", \.parallelism.contextMethod,
                "how they share attention; auto: whichever moves fewer bytes"),

        .bool("checkpoint.enable", \.checkpoint.enable, "write checkpoints at all"),
        .integer("checkpoint.interval", \.checkpoint.interval, 0...mostSteps,
                 "steps between checkpoints; 0: only the last"),
        .text("checkpoint.load", \.checkpoint.load, "start from `latest` of this run, or from a checkpoint's folder"),
        .text("checkpoint.load_weights", \.checkpoint.loadWeights,
              "begin at step 0 with the weights of this checkpoint's folder"),
        .integer("checkpoint.keep_latest_k", \.checkpoint.keepLatest, 1...1_000_000, "older checkpoints are removed"),
        .bool("checkpoint.shared", \.checkpoint.shared,
              "all ranks see dump_folder and save together; else rank 0 saves everything"),
        .bool("checkpoint.async", \.checkpoint.async, "copy what is saved, and write it while training goes on"),
        .choice("checkpoint.compression", \.checkpoint.compression, "of the optimizer's state"),
        .text("checkpoint.key_file", \.checkpoint.keyFile,
              "the key that checkpoints are signed with, and must be to be loaded (skein secret new FILE)"),

        .choice("comm.protection", \.communication.protection, "of frames between ranks; auto: sealed between hosts"),
        .choice("comm.transport", \.communication.transport,
                "messages between ranks of one machine; auto: shared memory where it can be had"),
        .integer("comm.streams", \.communication.streams, 1...16, "connections for data to each peer"),
        .choice("comm.algorithm", \.communication.algorithm,
                "for all collectives that it serves; auto: by kind, bytes and ranks"),
        .choice("comm.gradients", \.communication.gradients, "what gradients are on their way to whoever sums them"),
        .text("comm.table", \.communication.table,
              "a file of algorithms from skein bench collectives --tune; rank 0's holds for all"),
        .text("comm.bind", \.communication.bind, "the address to listen on"),
        .text("comm.interface", \.communication.interface, "the network interface to listen on, in place of bind"),
        .text("comm.port_range", \.communication.portRange, "ports that ranks other than 0 may take: 29400-29500"),
        .number("comm.heartbeat_seconds", \.communication.heartbeatSeconds, 0.1...3_600,
                "a rank that is silent for so long has failed"),
        .number("comm.start_seconds", \.communication.startSeconds, 1...86_400, "how long ranks wait for each other"),
        .number("comm.timeout_seconds", \.communication.timeoutSeconds, 1...86_400,
                "a collective in which nothing moves for so long has failed"),

        .choice("planner.solver", \.planner.solver, "of a step's plan; exact: then branch-and-cut, which takes longer"),
        .bool("planner.lp", \.planner.linearProgram, "a linear program guides each plan"),
        .number("planner.gflops", \.planner.gflops, 0...1e6,
                "GFLOP/s of a rank that plans reckon with; 0 for both rates: what tasks take is measured at the start"),
        .number("planner.link_gbit", \.planner.linkGbit, 0...1e6, "Gbit/s of its link that they reckon with"),
        .bool("planner.adapt", \.planner.adapts,
              "follow ranks' speeds while training; a run then does not repeat but by planner.replay"),
        .text("planner.replay", \.planner.replay, "a run's plans.jsonl: its plans are taken in place of own ones"),

        .choice("activation_checkpoint.mode", \.activationCheckpoint.mode,
                "what the backward computes again to save memory; auto: searched together with parallelism.zero")
            .or("auto", \.activationCheckpoint.isSearched),

        .integer("validation.interval", \.validation.interval, 0...mostSteps,
                 "steps between validations; 0: only the last"),
        .integer("validation.rows", \.validation.rows, 0...mostSteps, "rows each time; 0: all that are held out"),
        .bool("validation.full_at_end", \.validation.fullAtEnd, "the last step validates on all held-out rows"),
        .choice("validation.layout", \.validation.layout,
                "how held-out documents become rows; same: cut as data.layout concatenate does, else packed whole"),
        .choice("validation.document_mask", \.validation.documentMask,
                "held-out tokens see their own document only; same: as data.document_mask"),

        .integer("metrics.log_freq", \.metrics.logInterval, 1...mostSteps, "steps between plain log lines"),
        .integer("metrics.precision_freq", \.metrics.precisionInterval, 0...mostSteps,
                 "steps between looks at what quantising does to operands; 0: none"),
        .bool("metrics.enable_tensorboard", \.metrics.tensorBoard, "write event files for TensorBoard"),
        .text("metrics.save_tb_folder", \.metrics.tensorBoardFolder, "their folder, within the run's"),
        .text("metrics.prometheus", \.metrics.prometheus,
              "a .prom file in the folder of node exporter's textfile collector, kept current"),

        .bool("profiling.trace", \.profiling.trace, "write where some steps' time goes, for ui.perfetto.dev"),
        .integer("profiling.first_step", \.profiling.firstStep, 1...1_000_000_000,
                 "the first step that is traced, counted from where this run begins"),
        .integer("profiling.steps", \.profiling.steps, 1...10_000, "steps that are traced"),

        .bool("launch.keep_blas_core", \.launch.keepBlasCore, "ranks keep OPENBLAS_CORETYPE (for benches)"),
        .integer("launch.max_restarts", \.launch.maxRestarts, 0...1_000,
                 "a launcher that loses a rank starts all again from the latest checkpoint, so often at most"),
        .choice("launch.elastic", \.launch.elastic,
                "what the others do when a rank fails: stop, replace it by another process, or go on with fewer"),
        .integer("launch.spares", \.launch.spares, 0...256, "for replace: processes that wait to take its place"),
        .integer("launch.redundancy", \.launch.redundancy, 0...1,
                 "neighbours that hold a copy of what a rank holds alone; 0: a lost rank costs the steps since the "
                    + "latest checkpoint"),

        .integer("debug.seed", \.debug.seed, 0...Int.max, "seed of initialisation and of the order of data"),
        .numbers("debug.slow_ranks", \.debug.slowRanks, 1...1e9,
                 "where sequences are planned: each rank rests until it has taken so many times as long; empty: none"),
        .text("debug.fault", \.debug.fault,
              "\"kill 1 update 40\": rank 1 kills (or stops) itself at a place (plan, all-to-all, reduce-scatter, "
                  + "update, save) from step 40 on, in a run that begins anew; empty: none does"),
    ]

    /// Each step takes a row at least, and rows are counted in 32 bits; so sums of steps are far from overflowing.
    private static let mostSteps = Int(UInt32.max)

    static let keysByName: [String: Key] = Dictionary(uniqueKeysWithValues: keys.map { ($0.name, $0) })

    /// nanoGPT's names, accepted and translated; the translation is printed.
    public static let aliases: [String: String] = [
        "batch_size": "training.local_batch_size", "block_size": "training.seq_len",
        "learning_rate": "optimizer.lr", "max_iters": "training.steps", "warmup_iters": "lr_scheduler.warmup_steps",
        "grad_clip": "training.max_norm", "eval_interval": "validation.interval", "out_dir": "job.dump_folder",
        "weight_decay": "optimizer.weight_decay", "beta1": "optimizer.beta1", "beta2": "optimizer.beta2",
        "n_layer": "model.n_layers", "n_head": "model.n_heads", "n_embd": "model.dim", "seed": "debug.seed",
        "log_interval": "metrics.log_freq", "dataset": "data.paths",
    ]

    /// The whole recipe as TOML: what a checkpoint holds.
    public var toml: String { toml { _ in nil } }

    /// With a comment behind each value that `note` has one for.
    fileprivate func toml(_ note: (Key) -> String?) -> String {
        var lines: [String] = []
        var section = ""
        for key in Recipe.keys {
            if key.section != section {
                section = key.section
                lines.append(lines.isEmpty ? "[\(section)]" : "\n[\(section)]")
            }
            lines.append("\(key.leaf) = \(key.read(self).toml)" + (note(key).map { "  # \(oneLine($0))" } ?? ""))
        }
        return lines.joined(separator: "\n") + "\n"
    }
}

extension ResolvedRecipe {
    /// The whole recipe as TOML, with where each value came from behind it: what `outputs/NAME/config.toml` holds.
    public var toml: String { recipe.toml { origin($0.name).description } }
}
