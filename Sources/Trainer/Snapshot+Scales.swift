import Base
import Checkpoint
import Model

/// The delayed scales of the linear layers, beside the optimizer's state: every rank holds the same.
extension Snapshot {
    private static let scalesName = "precision.delayed_scales"

    /// One tensor, or none where no scale is delayed.
    var scalesSpec: [TensorSpec] {
        guard let shape = quantisation?.stateShape else { return [] }
        return [TensorSpec(Self.scalesName, .float32, shape)]
    }

    /// What rank 0 writes.
    func savedScales(by world: World) -> [SavedTensor] {
        guard let quantisation, let spec = scalesSpec.first, world.rank == 0 else { return [] }
        quantisation.writeState()
        return [SavedTensor(spec: spec, elements: 0..<quantisation.state.count, row: quantisation.state)]
    }

    /// On all ranks those of the checkpoint that rank 0 reads.
    func fillScales(from checkpoint: Checkpoint?, by world: World) throws {
        guard let quantisation, let spec = scalesSpec.first else { return }
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
