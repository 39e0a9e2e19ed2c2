/// One number of a step, under torchtitan's name for it where there is one: what every file that is kept of a run has
/// in common.
public struct Metric: Sendable {
    public let tag: String
    public let value: Double
    /// A whole number.
    public let isCount: Bool

    init(_ tag: String, _ value: Double) { (self.tag, self.value, isCount) = (tag, value, false) }
    init(_ tag: String, count: Int) { (self.tag, value, isCount) = (tag, Double(count), true) }
}

extension StepReport {
    /// What is unknown is left out. torchtitan counts throughput and arithmetic per device; so do `throughput(tps)` and
    /// `tflops` here, per rank. `throughput/total_tps` is over all ranks. `mfu(%)` is against the measured GEMM peak.
    public var metrics: [Metric] {
        var found = [Metric("loss_metrics/global_avg_loss", loss)]
        if let bitsPerByte { found.append(Metric("train/bpb", bitsPerByte)) }
        if let lossRatio { found.append(Metric("loss_metrics/loss_ratio", lossRatio)) }
        found.append(Metric("grad_norm", gradientNorm))
        if let varianceNorm { found.append(Metric("optim/variance_norm", varianceNorm)) }
        if let varianceMax { found.append(Metric("optim/variance_max", varianceMax)) }
        found += [Metric("lr", learningRate), Metric("throughput(tps)", tokensPerSecond / Double(max(ranks, 1))),
                  Metric("throughput/total_tps", tokensPerSecond),
                  Metric("tflops", gflops / 1000 / Double(max(ranks, 1)))]
        if let mfu { found.append(Metric("mfu(%)", 100 * mfu)) }
        found.append(Metric("time_metrics/end_to_end(s)", seconds))
        if ranks > 1 {
            found.append(Metric("comm/wait(s)", waitSeconds))
            if let hiddenShare { found.append(Metric("comm/hidden(%)", 100 * hiddenShare)) }
            if let sentBytes { found.append(Metric("comm/sent(B)", count: sentBytes)) }
        }
        if let saturatedGradients { found.append(Metric("comm/saturated_gradients", count: saturatedGradients)) }
        if let memoryBytes { found.append(Metric("memory/max_active(GiB)", Double(memoryBytes) / 0x1p30)) }
        if let bucketLength { found.append(Metric("data/bucket_len", count: bucketLength)) }
        if let length { found.append(Metric("data/length", count: length)) }
        if let contextDegree { found.append(Metric("parallel/cp_degree", contextDegree)) }
        if let sequenceBytes { found.append(Metric("parallel/cp_bytes", count: sequenceBytes)) }
        if let hiddenSequenceShare { found.append(Metric("parallel/cp_hidden(%)", 100 * hiddenSequenceShare)) }
        if let plannedSeconds { found.append(Metric("planner/planned(s)", plannedSeconds)) }
        if let planBound { found.append(Metric("planner/bound(s)", planBound)) }
        if let planningSeconds { found.append(Metric("planner/planning(s)", planningSeconds)) }
        found.append(Metric("n_tokens_seen", count: tokens))
        found += (precision?.entries ?? []).map { Metric($0.tag, $0.value) }
        return found
    }
}

extension ValidationReport {
    public var metrics: [Metric] {
        [Metric("validation_metrics/loss", loss)] + (bitsPerByte.map { [Metric("val/bpb", $0)] } ?? [])
    }
}
