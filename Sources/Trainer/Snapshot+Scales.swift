import Base
import Checkpoint
import Model
import Parallel
import Tensor

/// The delayed scales of the linear layers, and the magnitudes that those of gradients on the wire come from, beside
/// the optimizer's state: every rank holds the same.
extension Snapshot {
    private static let scalesName = "precision.delayed_scales"
    private static let magnitudesName = "comm.gradient_magnitudes"

    /// One tensor, or none where no scale is delayed.
    private var delayedSpec: TensorSpec? {
        quantisation?.stateShape.map { TensorSpec(Self.scalesName, .float32, $0) }
    }

    private var magnitudesSpec: TensorSpec {
        TensorSpec(Self.magnitudesName, .float32, [state.table.parameters.count])
    }

    /// What a checkpoint must hold. How gradients travel may change on the way, so magnitudes may be there or not.
    func scaleSpecs(of checkpoint: Checkpoint) -> [TensorSpec] {
        (delayedSpec.map { [$0] } ?? []) + (hasMagnitudes(checkpoint) ? [magnitudesSpec] : [])
    }

    private func hasMagnitudes(_ checkpoint: Checkpoint) -> Bool { checkpoint.tensor(Self.magnitudesName) != nil }

    /// What rank 0 writes.
    func savedScales(by world: World) -> [SavedTensor] {
        guard world.rank == 0 else { return [] }
        var found: [SavedTensor] = []
        if let quantisation, let spec = delayedSpec {
            quantisation.writeState()
            found.append(SavedTensor(spec: spec, elements: 0..<quantisation.state.count, row: quantisation.state))
        }
        if let row = step.gradientMagnitudes {
            found.append(SavedTensor(spec: magnitudesSpec, elements: 0..<row.count, row: row))
        }
        return found
    }

    /// On all ranks what rank 0 reads, where it is there.
    func fillMagnitudes(from checkpoint: Checkpoint?, by world: World) throws {
        guard let row = step.gradientMagnitudes else { return }
        if let checkpoint, hasMagnitudes(checkpoint) { try unsafe checkpoint.read(magnitudesSpec, into: row.bytes) }
        try world.broadcast(row)
        step.resumeWire()
    }

    /// On all ranks those of the checkpoint that rank 0 reads.
    func fillScales(from checkpoint: Checkpoint?, by world: World) throws {
        guard let quantisation, let spec = delayedSpec else { return }
        if let checkpoint {
            unsafe try checkpoint.read(spec, into: quantisation.state.bytes)
        }
        try world.broadcast(quantisation.state)
        guard quantisation.readState() else {
            throw BadInput("the tensor \(spec.name) of the checkpoint holds no scales that a run has left; go on from "
                + "an earlier checkpoint, or begin a run with its weights by checkpoint.load_weights")
        }
    }
}
