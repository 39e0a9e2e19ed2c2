import Base
import Recipe

/// What `config.json` of a published model says, in Hugging Face's terms: a Llama, or one of the families whose
/// forward is the same. Both directions are here, so that they can be read side by side.
///
/// Reading refuses by name whatever is not understood: a key that is passed over may be one that changes what the
/// model computes. Writing gives old and new readers what each wants: `rope_theta` and `rope_scaling` beside
/// `rope_parameters`, without which transformers before version 5 takes 10000 in silence; `torch_dtype` beside `dtype`.
package struct PublishedConfig: Equatable, Sendable {
    package var model: Recipe.ModelShape
    /// Rows of the embedding.
    package var vocabulary: Int
    /// `max_position_embeddings`.
    package var positions: Int

    package init(model: Recipe.ModelShape, vocabulary: Int, positions: Int) {
        self.model = model
        self.vocabulary = vocabulary
        self.positions = positions
    }

    /// A family, and whether its attention has biases: Qwen 2's always has, on queries, keys and values alone.
    private static let families: [(type: String, name: String, hasBias: Bool)] = [
        ("llama", "LlamaForCausalLM", false), ("mistral", "MistralForCausalLM", false),
        ("qwen2", "Qwen2ForCausalLM", true),
    ]

    // MARK: Reading

    /// path: for messages.
    package init(json: [UInt8], path: String) throws(BadInput) {
        guard case .object(let fields)? = JSONValue(json) else { throw BadInput("\(path) is no JSON object") }
        self = try Reader(fields: fields, path: path).read()
    }

    private struct Reader {
        let fields: [String: JSONValue]
        let path: String

        /// Keys that have no part in what a model computes for a text, whatever they say.
        private static let harmless: Set<String> = [
            "_name_or_path", "_attn_implementation_autoset", "architectures", "attention_dropout", "bos_token_id",
            "eos_token_id", "pad_token_id", "initializer_range", "pretraining_tp", "torch_dtype", "dtype",
            "transformers_version", "use_cache", "max_window_layers", "unsloth_version", "unsloth_fixed",
        ]
        private static let known: Set<String> = [
            "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling",
            "rope_parameters", "tie_word_embeddings",
        ]

        func read() throws(BadInput) -> PublishedConfig {
            let type = fields["model_type"]?.text ?? "none"
            guard let family = PublishedConfig.families.first(where: { $0.type == type }) else {
                let names = PublishedConfig.families.map(\.type).joined(separator: ", ")
                throw BadInput("\(path): model_type \(type) is not understood; \(names) are")
            }
            try checkOthers(family.type)
            // Left out, it means 4,096 there.
            if family.type == "mistral", fields["sliding_window"] != .null {
                throw BadInput("\(path): sliding_window must be null, so that attention is full")
            }
            var shape = Recipe().model
            shape.dim = try integer("hidden_size")
            shape.layers = try integer("num_hidden_layers")
            shape.heads = try integer("num_attention_heads")
            shape.keyValueHeads = try integer("num_key_value_heads", else: shape.heads)
            shape.ffnDim = try integer("intermediate_size")
            let width = try integer("head_dim", else: shape.dim / shape.heads)
            shape.headWidth = width * shape.heads == shape.dim ? 0 : width
            shape.hasBias = family.hasBias
            shape.normEpsilon = try number("rms_norm_eps", else: 1e-6)
            shape.tieEmbeddings = try bool("tie_word_embeddings", else: false)
            try readRotation(&shape)
            return PublishedConfig(model: shape, vocabulary: try integer("vocab_size"),
                                   positions: try integer("max_position_embeddings", else: 2_048))
        }

        /// Keys that must have one value, and all that are not known.
        private func checkOthers(_ type: String) throws(BadInput) {
            for (key, value) in fields.sorted(by: { $0.key < $1.key }) {
                switch (key, value) {
                case _ where Reader.harmless.contains(key) || Reader.known.contains(key) || value == .null: continue
                case ("hidden_act", .text("silu")), ("attention_bias", .bool(false)), ("mlp_bias", .bool(false)),
                     ("use_sliding_window", .bool(false)), ("rope_interleaved", .bool(false)): continue
                // Qwen 2 names a window that it does not use.
                case ("sliding_window", _) where fields["use_sliding_window"] == .bool(false): continue
                case ("layer_types", .list(let names))
                    where names.allSatisfy({ $0 == .text("full_attention") }): continue
                default:
                    throw BadInput("\(path): \(key) = \(value.brief) is not understood for a \(type); a plain one has "
                        + "SwiGLU with silu, full attention, and biases only where Qwen 2 has them. Remove the key if "
                        + "it changes nothing that the model computes")
                }
            }
        }

        /// Old files have `rope_theta` and `rope_scaling`, new ones `rope_parameters` with both.
        private func readRotation(_ shape: inout Recipe.ModelShape) throws(BadInput) {
            let new = fields["rope_parameters"]?.object ?? [:], old = fields["rope_scaling"]?.object ?? [:]
            let bases = [fields["rope_theta"], new["rope_theta"], old["rope_theta"]].compactMap { $0?.number }
            guard Set(bases).count <= 1 else {
                throw BadInput("\(path): rope_theta is \(bases[0]) in one place and \(bases[1]) in another; keep one")
            }
            shape.ropeTheta = bases.first ?? 10_000
            let sources = [("rope_parameters", new), ("rope_scaling", old)].filter { !$0.1.isEmpty }
            let known = ["rope_theta", "rope_type", "type", "factor", "low_freq_factor", "high_freq_factor",
                         "original_max_position_embeddings"]
            for (name, source) in sources {
                for (key, value) in source where !known.contains(key) {
                    guard value == .null || (key == "partial_rotary_factor" && value.number == 1) else {
                        throw BadInput("\(path): \(name).\(key) = \(value.brief) is not understood")
                    }
                }
            }
            let kinds = sources.map { ($0.1["rope_type"] ?? $0.1["type"])?.text ?? "default" }
            guard Set(kinds).count <= 1 else {
                throw BadInput("\(path): rope_parameters and rope_scaling have different types; keep one of them")
            }
            guard let (name, source) = sources.first else { return }
            func scale(_ key: String) throws(BadInput) -> Double {
                guard let value = source[key]?.number else { throw BadInput("\(path): \(name) has no number \(key)") }
                return value
            }
            switch kinds[0] {
            case "default": break
            case "linear": (shape.ropeScaling, shape.ropeFactor) = (.linear, try scale("factor"))
            case "llama3":
                (shape.ropeScaling, shape.ropeFactor) = (.llama3, try scale("factor"))
                shape.ropeLowFactor = try scale("low_freq_factor")
                shape.ropeHighFactor = try scale("high_freq_factor")
                guard let length = source["original_max_position_embeddings"]?.integer else {
                    throw BadInput("\(path): \(name) has no integer original_max_position_embeddings")
                }
                shape.ropeOriginalLength = length
            default:
                throw BadInput("\(path): \(name).rope_type \(kinds[0]) is not understood; default, linear and llama3 "
                    + "are")
            }
        }

        private func integer(_ key: String, else standard: Int? = nil) throws(BadInput) -> Int {
            let value = fields[key] ?? .null
            if value == .null, let standard { return standard }
            guard let number = value.integer, (1...1 << 30).contains(number) else {
                throw BadInput("\(path): \(key) must be an integer of at least 1, found \(value.brief)")
            }
            return number
        }

        private func number(_ key: String, else standard: Double) throws(BadInput) -> Double {
            let value = fields[key] ?? .null
            if value == .null { return standard }
            guard let number = value.number else {
                throw BadInput("\(path): \(key) must be a number, found \(value.brief)")
            }
            return number
        }

        private func bool(_ key: String, else standard: Bool) throws(BadInput) -> Bool {
            let value = fields[key] ?? .null
            if value == .null { return standard }
            guard let flag = value.bool else {
                throw BadInput("\(path): \(key) must be true or false, found \(value.brief)")
            }
            return flag
        }
    }

    // MARK: Writing

    /// `config.json`. end: the id that ends documents, which also begins texts here. type: PyTorch's name of the
    /// weights' type.
    package func json(end: Int, type: String) -> String {
        let family = Self.families.first { $0.hasBias == model.hasBias } ?? Self.families[0]
        var scaling = ["\"rope_type\": \"\(model.ropeScaling == .none ? "default" : model.ropeScaling.rawValue)\""]
        if model.ropeScaling != .none { scaling.append("\"factor\": \(model.ropeFactor)") }
        if model.ropeScaling == .llama3 {
            scaling += ["\"low_freq_factor\": \(model.ropeLowFactor)", "\"high_freq_factor\": \(model.ropeHighFactor)",
                        "\"original_max_position_embeddings\": \(model.ropeOriginalLength)"]
        }
        let old = model.ropeScaling == .none ? "null" : "{\(scaling.joined(separator: ", "))}"
        let new = "{\((scaling + ["\"rope_theta\": \(model.ropeTheta)"]).joined(separator: ", "))}"
        var lines = [
            "\"architectures\": [\"\(family.name)\"]", "\"model_type\": \"\(family.type)\"",
            "\"vocab_size\": \(vocabulary)", "\"hidden_size\": \(model.dim)",
            "\"intermediate_size\": \(model.hiddenDim)",
            "\"num_hidden_layers\": \(model.layers)", "\"num_attention_heads\": \(model.heads)",
            "\"num_key_value_heads\": \(model.keyHeads)", "\"head_dim\": \(model.headDim)",
            "\"hidden_act\": \"silu\"",
            "\"max_position_embeddings\": \(positions)", "\"rms_norm_eps\": \(model.normEpsilon)",
            "\"rope_theta\": \(model.ropeTheta)", "\"rope_scaling\": \(old)", "\"rope_parameters\": \(new)",
            "\"tie_word_embeddings\": \(model.tieEmbeddings)", "\"attention_dropout\": 0.0",
            "\"initializer_range\": 0.02", "\"use_cache\": true", "\"bos_token_id\": \(end)",
            "\"eos_token_id\": \(end)",
            "\"torch_dtype\": \"\(type)\"", "\"dtype\": \"\(type)\"",
        ]
        lines += model.hasBias ? ["\"use_sliding_window\": false", "\"sliding_window\": null"]
            : ["\"attention_bias\": false", "\"mlp_bias\": false"]
        return "{\n" + lines.map { "  " + $0 }.joined(separator: ",\n") + "\n}\n"
    }
}
