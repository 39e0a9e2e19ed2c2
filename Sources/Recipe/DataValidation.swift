import Base

/// Whether the keys of length buckets and of the length warm-up fit together. Keys of what is switched off are not
/// looked at, so that one flag turns it off.
extension Recipe {
    /// Buckets that a saved position can count.
    package static let mostBuckets = 11

    /// Lengths of the buckets' rows, the shortest first; one where all rows are equally long.
    public var bucketLengths: [Int] {
        guard data.layout == .decompose else { return [training.sequenceLength] }
        return Array(sequence(first: data.minimumLength) { $0 * 2 }.prefix { $0 <= training.sequenceLength })
    }

    func validateDecomposition(_ at: (String) -> String) throws(BadInput) {
        guard data.layout == .decompose else { return }
        let longest = training.sequenceLength, shortest = data.minimumLength
        for (key, length) in [("training.seq_len", longest), ("data.min_length", shortest)]
        where length & (length - 1) != 0 {
            let lower = 1 << (Int.bitWidth - 1 - length.leadingZeroBitCount)
            throw BadInput("\(at(key)) = \(length) is no power of two, which data.layout = decompose needs; "
                + "make it \(lower) or \(2 * lower)")
        }
        guard shortest <= longest else {
            throw BadInput("\(at("data.min_length")) = \(shortest) is more than training.seq_len = \(longest); "
                + "lower it")
        }
        let count = bucketLengths.count
        guard count <= Self.mostBuckets else {
            throw BadInput("\(at("data.min_length")) = \(shortest) makes \(count) buckets up to training.seq_len = "
                + "\(longest), the most are \(Self.mostBuckets); raise it to \(longest >> (Self.mostBuckets - 1))")
        }
        if data.decomposition == .quota, !data.mixture.isEmpty { try validateBuckets(data.mixture, at("data.mixture")) }
        if data.curriculum == .free { try validateBuckets(data.odds, at("data.odds")) }
    }

    /// One number for each bucket, not all of them 0.
    private func validateBuckets(_ numbers: [Double], _ place: String) throws(BadInput) {
        let lengths = bucketLengths
        guard numbers.count == lengths.count else {
            throw BadInput("\(place) has \(numbers.count) numbers, and there are \(lengths.count) buckets: "
                + lengths.map(String.init).joined(separator: ", ") + "; give one number for each")
        }
        guard numbers.contains(where: { $0 > 0 }) else {
            throw BadInput("\(place) are all 0; at least one must be more")
        }
    }

    func validateLengthWarmup(_ at: (String) -> String) throws(BadInput) {
        let warmup = training.lengthWarmup
        guard warmup.method != .none else { return }
        if warmup.method == .truncate, data.layout == .decompose {
            throw BadInput("\(at("training.length_warmup")) = truncate throws tokens away, and data.layout = decompose "
                + "is to use each once; use reshape or window")
        }
        if warmup.growth == .discrete { return try validateLengths(at) }
        guard warmup.start <= training.sequenceLength else {
            throw BadInput("\(at("training.length_warmup_start")) = \(warmup.start) is more than "
                + "training.seq_len = \(training.sequenceLength); lower it")
        }
        // A length is lowered to a divisor of the rows', which for a prime number would be 1 all the time.
        let (longest, start) = (training.sequenceLength, warmup.start)
        let shortest = stride(from: start, to: 1, by: -1).first { longest % $0 == 0 } ?? 1
        if warmup.method == .reshape, 2 * shortest < start {
            throw BadInput("\(at("training.length_warmup")) = reshape cuts rows evenly, and training.seq_len = "
                + "\(longest) has no divisor near training.length_warmup_start = \(start); make it "
                + "\((longest + start - 1) / start * start)")
        }
    }

    private func validateLengths(_ at: (String) -> String) throws(BadInput) {
        let (lengths, ends) = (training.lengthWarmup.lengths, training.lengthWarmup.ends)
        let places = [("training.length_warmup_lengths", lengths), ("training.length_warmup_ends", ends)]
        for (key, numbers) in places where numbers.contains(where: { $0 != $0.rounded() }) {
            throw BadInput("\(at(key)) must be whole numbers")
        }
        for (key, numbers) in places where zip(numbers, numbers.dropFirst()).contains(where: { $0 >= $1 }) {
            throw BadInput("\(at(key)) must grow from number to number")
        }
        guard lengths.last == Double(training.sequenceLength) else {
            throw BadInput("\(at("training.length_warmup_lengths")) must end with training.seq_len = "
                + "\(training.sequenceLength)")
        }
        guard ends.count == lengths.count - 1 else {
            throw BadInput("\(at("training.length_warmup_ends")) has \(ends.count) numbers for \(lengths.count) "
                + "lengths; give the step at which each but the last ends")
        }
    }
}
