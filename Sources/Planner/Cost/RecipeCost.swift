import Recipe

extension CostModel {
    /// A recipe's cost before anything was measured: operations at a flat rate, and exchanges at the link's. A bound
    /// from below, as the times of `skein plan` are; what is fitted to measurements takes its place.
    ///
    /// Bytes are those of float32 queries, keys, values and outputs (DeepSpeed-Ulysses, 2309.14509, section 3.2), for
    /// one token, all layers, forward and backward. The ring's backward moves keys and values with their gradients.
    ///
    /// `gflops`: GFLOP/s of a rank of speed 1. `linkGbit`: Gbit/s of its link, each way.
    package init(_ table: ParameterTable, recomputation: Recipe.Recomputation, gflops: Double, linkGbit: Double) {
        let rate = gflops * 1e9
        func flops(_ context: Double) -> Double {
            table.flopsPerToken(context: context) + table.recomputedFlopsPerToken(context: context, recomputation)
        }
        // A token of a causal sequence of L looks back at L / 2 in the mean.
        let perToken = flops(0), perTokenAndLength = (flops(2) - flops(0)) / 4
        let shape = CostShape(table.shape, recomputation), layers = Double(table.shape.layers)
        let passes = recomputation == .full ? 3.0 : 2.0
        let degrees = (1...12).map { 1 << $0 }
        // 2 exchanges a layer and pass (in and out); the ring has as many rounds as ranks, less one.
        func exchange(_ bytes: Double, _ latency: (Double) -> Double) -> Exchange {
            Exchange(bytesPerToken: bytes, table: ExchangeTable(rows: degrees.map { degree in
                .init(degree: degree, curve: ExchangeCurve(latency: latency(Double(degree)),
                                                           secondsPerByte: 8 / (linkGbit * 1e9)))
            }))
        }
        self.init(
            compute: PiecewiseQuadratic(pieces: [
                .init(from: 0, square: perTokenAndLength / rate, linear: perToken / rate, constant: 0),
            ]),
            // Forward, and both products of the backward, walk once through all weights.
            taskSeconds: 12 * Double(table.multipliedCount) / Self.memoryRate,
            ulysses: exchange(shape.ulyssesBytesPerToken) {
                2 * passes * layers * (Self.messageSeconds + Self.peerSeconds * ($0 - 1))
            },
            ring: exchange(shape.ringBytesPerToken) {
                (passes + 1) * layers * Self.messageSeconds * ($0 - 1)
            },
            heads: shape.heads, keyHeads: shape.keyHeads)
    }

    /// Bytes a second of a rank's memory, a message from one rank to another, and what each further peer of an
    /// exchange adds: orders of magnitude for ordinary machines, where nobody has measured.
    private static let memoryRate = 10e9
    private static let messageSeconds = 50e-6
    private static let peerSeconds = 10e-6
}

extension CostShape {
    /// Bytes are those of float32 queries, keys, values and outputs, as `CostModel(_:recomputation:gflops:linkGbit:)`
    /// has them.
    package init(_ shape: Recipe.ModelShape, _ recomputation: Recipe.Recomputation) {
        let layers = Double(shape.layers), passes = recomputation == .full ? 3.0 : 2.0
        let width = Double(shape.heads * shape.headDim), keyWidth = Double(shape.keyHeads * shape.headDim)
        self.init(heads: shape.heads, keyHeads: shape.keyHeads,
                  ulyssesBytesPerToken: 4 * layers * passes * (2 * width + 2 * keyWidth),
                  ringBytesPerToken: 4 * layers * (passes + 1) * 2 * keyWidth)
    }
}
