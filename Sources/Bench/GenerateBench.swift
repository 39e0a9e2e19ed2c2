import Base
import Model
import Recipe
import Tensor
import Trainer

/// Writing, by the decoder that `skein generate` runs, with weights as a run begins with: seconds of a token behind
/// `context` others (`weights_gb_per_s` beside what this machine reads, adding up floats), and of a prompt of `prompt`
/// tokens beside the trainer's forward of as many.
/// With `side`, seconds of a token of each of so many texts side by side as well.
public func benchGenerate(_ recipe: Recipe, vocabulary: Int, prompt: Int, context: Int, threads: Int, side: Int,
                          rounds: Int) throws -> BenchLine {
    let table = ParameterTable(recipe.model, vocabulary: vocabulary)
    let pool = Pool(threads: threads)
    defer { pool.close() }
    let arena = try Arena(name: "bench generate", capacity: Arena.padded(table.count))
    defer { withExtendedLifetime(arena) {} }
    let weights = Parameters(table, flat: arena.take(table.count))
    weights.initialize(seed: recipe.debug.seed)
    let longest = max(prompt, context)
    let decoder = try Decoder(table, texts: side, capacity: longest + rounds + 16, longestPrompt: longest, pool: pool) {
        $1.copy(weights.values($0))
    }
    func token(_ index: Int) -> Int { index * 7_919 % vocabulary }
    let text = (0..<prompt).map(token)
    let forward = try trainerForward(table, weights, text, recipe, pool)
    let promptRounds = max(1, min(rounds, 5))
    let promptSeconds = medianSeconds(rounds: promptRounds) { _ in
        decoder.reset()
        _ = decoder.read(text)
    }
    let forwardSeconds = medianSeconds(rounds: promptRounds) { _ in forward() }
    decoder.reset()
    _ = decoder.read((0..<context).map(token))
    _ = decoder.next(token(1))
    let allocations = countAllocations { _ = decoder.next(token(2)) }
    let seconds = medianSeconds(rounds: rounds) { _ = decoder.next(token($0)) }
    let together = sideBySide(decoder, (0..<context).map(token), rounds: rounds)
    let bytes = 4 * Double(table.multipliedCount)
    var line = BenchLine(bench: "generate", threads: threads, seconds: seconds)
    line.add("parameters", table.parameterCount)
    line.add("context", context)
    line.add("tokens_per_s", 1 / seconds)
    line.add("weights_gb_per_s", bytes / seconds / 1e9)
    line.add("read_gb_per_s", try readRate(pool: pool, rounds: 5))
    line.add("allocations", allocations ?? -1)
    line.add("side", side)
    line.add("side_tokens_per_s", Double(side) / together)
    line.add("prompt", prompt)
    line.add("prompt_tokens_per_s", Double(prompt) / promptSeconds)
    line.add("forward_tokens_per_s", Double(prompt) / forwardSeconds)
    return line
}

/// Median seconds of a step of all the decoder's texts.
private func sideBySide(_ decoder: Decoder, _ context: [Int], rounds: Int) -> Double {
    for text in 0..<decoder.texts {
        decoder.reset(text: text)
        _ = decoder.read(context, text: text)
    }
    let tokens = (0..<decoder.texts).map { (text: $0, token: context[$0 % context.count]) }
    return medianSeconds(rounds: rounds) { _ in _ = decoder.next(tokens) }
}

private func trainerForward(_ table: ParameterTable, _ weights: Parameters, _ text: [Int], _ recipe: Recipe,
                            _ pool: Pool) throws -> () -> Void {
    let model = try Transformer(table, maxTokens: text.count, sequence: text.count, pool: pool)
    let ids = text.map { Int32($0) }
    return {
        Targets.lend(ids, count: ids.count) { inputs in
            Targets.lend([0, Int32(ids.count)], count: 2) { starts in
                let batch = MicroBatch(inputs: inputs, targets: inputs, segments: Segments(starts),
                                       sequence: ids.count)
                model.forward(batch, weights: weights)
            }
        }
    }
}

/// GB/s at which all threads together add up 256 MiB of floats: what a machine reads when it does little else.
private func readRate(pool: Pool, rounds: Int) throws -> Double {
    let parts = 64, count = 1 << 20
    let arena = try Arena(name: "bench generate", capacity: parts * count)
    defer { withExtendedLifetime(arena) {} }
    let memory = arena.take(parts * count), sums = Doubles(count: parts)
    let seconds = medianSeconds(rounds: rounds) { _ in
        pool.run(parts) { part, _ in sums[part] = Double(total(memory.slice(part * count, count))) }
    }
    return Double(4 * parts * count) / seconds / 1e9
}
