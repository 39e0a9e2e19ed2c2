import Base

/// What one training step has to say. Telemetry takes such values in and gives text out; nothing that it
/// computes flows back into the run.
public struct StepReport: Equatable, Sendable {
    /// The step just done, counted from 1, and how many there will be.
    public var step: Int
    public var totalSteps: Int
    /// Nats per target token, over all ranks.
    public var loss: Double
    /// Nil where tokens have no fixed relation to bytes.
    public var bitsPerByte: Double?
    /// Before clipping.
    public var gradientNorm: Double
    public var learningRate: Double
    /// Over all ranks.
    public var tokensPerSecond: Double
    /// Model arithmetic (no recomputation) of all ranks, in 1e9 operations a second.
    public var gflops: Double
    /// `gflops` as a fraction of the GEMM peak that was measured on this machine; nil if none was.
    public var mfu: Double?
    /// Seconds to the last step; nil as long as it is unknown.
    public var eta: Double?
    /// Target tokens seen since step 0, over all ranks.
    public var tokens: Int
    /// Wall time of this step.
    public var seconds: Double
    public var ranks: Int
    /// Seconds of the step that this rank waited for the network.
    public var waitSeconds: Double
    /// The share of the received bytes that came while this rank computed; nil where nothing was received.
    public var hiddenShare: Double?
    /// Bytes that this rank sent; nil where it is alone.
    public var sentBytes: Int?
    /// Inputs in the rows of the step, and how many of them attention could look back on.
    public var bucketLength: Int?
    public var length: Int?
    /// The sum of the roots of Adam's second moment, and the largest of them; nil where nothing was updated.
    public var varianceNorm: Double?
    public var varianceMax: Double?
    /// `loss` over the lowest loss of a step before; nil for the first.
    public var lossRatio: Double?
    /// In steps that looked at what quantising does.
    public var precision: PrecisionReport?
    /// The most memory that this rank's process ever held; nil where it was not asked for.
    public var memoryBytes: Int?
    /// Ranks that shared a token's sequence, in the mean; nil where no sequence is shared.
    public var contextDegree: Double?
    /// What the step's plan reckoned with; nil where there was none.
    public var plannedSeconds: Double?
    /// Bytes of shared sequences that this rank received, and the share of them that came while it computed; nil where
    /// no sequence is shared.
    public var sequenceBytes: Int?
    public var hiddenSequenceShare: Double?
    /// Gradients that were beyond the largest number that travels; nil where none can be.
    public var saturatedGradients: Int?
    /// Before which no plan could have ended, by the same reckoning; and what planning took.
    public var planBound: Double?
    public var planningSeconds: Double?

    public init(step: Int, totalSteps: Int, loss: Double, bitsPerByte: Double? = nil, gradientNorm: Double,
                learningRate: Double, tokensPerSecond: Double, gflops: Double, mfu: Double? = nil,
                eta: Double? = nil, tokens: Int, seconds: Double, ranks: Int = 1, waitSeconds: Double = 0,
                hiddenShare: Double? = nil) {
        self.step = step
        self.totalSteps = totalSteps
        self.loss = loss
        self.bitsPerByte = bitsPerByte
        self.gradientNorm = gradientNorm
        self.learningRate = learningRate
        self.tokensPerSecond = tokensPerSecond
        self.gflops = gflops
        self.mfu = mfu
        self.eta = eta
        self.tokens = tokens
        self.seconds = seconds
        self.ranks = ranks
        self.waitSeconds = waitSeconds
        self.hiddenShare = hiddenShare
    }
}

/// The held-out documents, read with the weights of `step`.
public struct ValidationReport: Equatable, Sendable {
    public var step: Int
    /// Nats per target token.
    public var loss: Double
    public var bitsPerByte: Double?

    public init(step: Int, loss: Double, bitsPerByte: Double? = nil) {
        self.step = step
        self.loss = loss
        self.bitsPerByte = bitsPerByte
    }

    /// "validation at step 500: loss 1.4713, 2.123 bits/byte"
    public var line: String {
        "validation at step \(step): loss \(Units.fixed(loss, 4))"
            + (bitsPerByte.map { ", \(Units.fixed($0, 3)) bits/byte" } ?? "")
    }
}
