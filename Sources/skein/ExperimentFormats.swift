import ArgumentParser
import Base
import Bench
import Recipe
import Telemetry
import Tensor

extension Experiment {
    struct Formats: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "The same small model in each recipe of number formats: held-out loss beside that of fp32.",
            discussion: """
                Each run is in OUT/ARM-seedN. Ctrl-C saves and ends; the same command goes on. Seeds are paired: the \
                arms of one seed have the same weights at first and the same rows. With --operand-format, as many arms \
                more as there are operands, each of which has one operand in that format and the others in bf16. --law \
                takes E1M2, E2M1, E3M1, E2M3 and E4M3, in blocks of 32 and by channel, for the three operands of \
                arXiv 2501.02423 and then for all six, and prints what its law predicts beside them. After the texts, \
                values of the recipe can be given as flags, for example --model.dim 256.
                """)

        @Option(help: "The folder of the runs.")
        var out: String
        @Option(help: "Recipes, with commas; differences are from the first.")
        var recipes = "fp32,bf16,fp8-hybrid,fp8-block,mxfp8,fp8-paper"
        @Option(help: "A format and its scaling, for one operand at a time: \"E2M1 row\".")
        var operandFormat: String?
        @Flag(help: "The formats of the quantisation law, against bf16, instead of recipes.")
        var law = false
        @Option(help: "Seeds, with commas; several give a spread.")
        var seeds = "0"
        @Argument(parsing: .captureForPassthrough,
                  help: "Texts to train on and to judge by; then values of the recipe: --section.key value.")
        var texts: [String]

        func run() throws {
            let sources = try Experiment.sources(texts)
            var arms = law ? FormatsExperiment.Arm.law : try FormatsExperiment.Arm.recipes(recipes)
            if let operandFormat {
                _ = try OperandSetting(operandFormat, key: "--operand-format")
                arms += Operand.allCases.map { FormatsExperiment.Arm($0, operandFormat) }
            }
            var experiment = FormatsExperiment(sources: sources, folder: out, arms: arms)
            experiment.overrides = Array(texts.dropFirst(sources.count))
            experiment.seeds = try Experiment.numbers(seeds)
            Experiment.say(try experiment.run(announce: { printError($0) }), formatsTable)
        }
    }

    struct Outlier: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "One SwiGLU channel that is the square of a spike: which scales bear it in eight bits.",
            discussion: "No training: the outlier is put in. In the step of the spike, and in the one after it, signal "
                + "over noise of the down projection's output and of what the other channels have in it.")

        @Option(help: "The format of the input.")
        var format = "E4M3"
        @Option(help: "Length of the channel's two rows of weights.")
        var gain = 16.0
        @Option(help: "Their cosine.")
        var cosine = 1.0
        @Option(help: "How far one token reaches along them.")
        var spike = 32.0
        @Option(help: "Draws weights and tokens.")
        var seed = 0

        func run() throws {
            guard (0...1e6).contains(gain), (0...1e6).contains(spike), (-1...1).contains(cosine) else {
                throw BadInput("--gain and --spike must be from 0 to 1000000, --cosine from -1 to 1")
            }
            guard seed >= 0 else { throw BadInput("--seed \(seed): it must be at least 0") }
            var experiment = OutlierExperiment()
            experiment.format = try NumberFormat(named: format)
            (experiment.gain, experiment.cosine, experiment.spike, experiment.seed) = (gain, cosine, spike, seed)
            print(outlierTable(try experiment.run()))
        }
    }
}
