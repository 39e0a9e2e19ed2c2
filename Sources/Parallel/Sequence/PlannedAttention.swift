import Collectives
import Model
import Recipe
import Tensor

/// Attention of one task after another, each in its own way: shared by heads, shared by keys, or of one rank alone.
final class PlannedAttention: SharedAttention {
    private let ulysses: UlyssesAttention
    private let ring: RingAttention
    private var method = Recipe.ContextMethod.ring

    init(_ ulysses: UlyssesAttention, _ ring: RingAttention) { (self.ulysses, self.ring) = (ulysses, ring) }

    /// How the tasks that follow share.
    func choose(_ method: Recipe.ContextMethod) { self.method = method }

    /// A ring of one has no round: it is the kernel of a rank alone.
    private var chosen: any SharedAttention { method == .ulysses ? ulysses : ring }

    var keptFloats: Int { ulysses.keptFloats }

    func begin(_ split: SequenceSplit, in group: Group) { chosen.begin(split, in: group) }

    func check() throws(CollectiveFault) {
        try ulysses.check()
        try ring.check()
    }

    var stayedBytes: Int { ulysses.stayedBytes }
    var parts: Int { chosen.parts }
    var headGroups: Int { chosen.headGroups }
    var wantsKeysFirst: Bool { chosen.wantsKeysFirst }

    func keysMade(_ qkv: Matrix) { chosen.keysMade(qkv) }
    func made(_ part: Int, _ group: Int, qkv: Matrix, kept: Row) { chosen.made(part, group, qkv: qkv, kept: kept) }
    func arrived(_ part: Int, _ group: Int, out: Matrix) { chosen.arrived(part, group, out: out) }
    func made(_ part: Int, dOut: Matrix) { chosen.made(part, dOut: dOut) }
    func finish(_ dQKV: Matrix) { chosen.finish(dQKV) }

    func forward(_ out: Matrix, logSum: Matrix, kept: Row, qkv: Matrix, shape: AttentionShape, segments: Segments) {
        chosen.forward(out, logSum: logSum, kept: kept, qkv: qkv, shape: shape, segments: segments)
    }

    func backward(_ dQKV: Matrix, dOut: Matrix, out: Matrix, logSum: Matrix, kept: Row, qkv: Matrix,
                  shape: AttentionShape, segments: Segments) {
        chosen.backward(dQKV, dOut: dOut, out: out, logSum: logSum, kept: kept, qkv: qkv, shape: shape,
                        segments: segments)
    }
}
