import CKernels
#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Softmax cross-entropy of T rows of V logits, in nats, and its backward in the same visit.
///
/// logits: [T, V]. With `gradientScale` they are overwritten by d(loss)/d(logits) = scale * (softmax - onehot);
/// without, they are left as they are. targets: T token ids; a negative one is no target and gives no loss and
/// a zero row. Returns the SUM of the losses, in Double, rows in ascending order. The maximum is subtracted
/// before the exponential, and the logarithm of the sum is taken in Double.
public func crossEntropy(_ logits_TV: Matrix, targets: Targets, gradientScale: Float?) -> Double {
    precondition(targets.count == logits_TV.rows, "crossEntropy: shapes differ")
    let vocabulary = logits_TV.columns
    var loss = 0.0
    for t in 0..<logits_TV.rows {
        let row = logits_TV.row(t)
        let target = targets[t]
        guard target >= 0 else {
            if gradientScale != nil { row.fill(0) }
            continue
        }
        precondition(target < vocabulary, "crossEntropy: target \(target) outside the vocabulary of \(vocabulary)")
        let largest = maximum(row)
        let chosen = row[target]
        let sum: Float
        if let gradientScale {
            sum = exponentials(row, minus: largest)
            let factor = gradientScale / sum
            for i in laneStarts(vocabulary) { row[lanes: i] = row[lanes: i] * factor }
            row[target] -= gradientScale
        } else {
            sum = exponentialSum(row, minus: largest)
        }
        loss += log(Double(sum)) - Double(chosen - largest)
    }
    return loss
}

/// Target ids of a run of rows: a window into a batch's array.
@safe public struct Targets: Sendable {
    // nonisolated(unsafe) because the batch that owns the memory is not written while a step runs.
    @usableFromInline nonisolated(unsafe) let base: UnsafePointer<Int32>
    public let count: Int

    public init(_ base: UnsafePointer<Int32>, count: Int) {
        unsafe self.base = base
        self.count = count
    }

    @inlinable public subscript(_ index: Int) -> Int {
        precondition(index >= 0 && index < count, "target outside the batch")
        return unsafe Int(base[index])
    }

    /// The first `count` of `ids`, for the time of `body`.
    public static func lend<Result>(_ ids: [Int32], count: Int, _ body: (Targets) throws -> Result) rethrows -> Result {
        precondition(count <= ids.count, "more targets than there are")
        return try unsafe ids.withUnsafeBufferPointer { buffer in
            guard let base = buffer.baseAddress else { preconditionFailure("no targets to lend") }
            return try unsafe body(Targets(base, count: count))
        }
    }

    public func slice(_ start: Int, _ count: Int) -> Targets {
        precondition(start >= 0 && count >= 0 && start + count <= self.count, "targets outside the batch")
        return unsafe Targets(base + start, count: count)
    }
}

/// The largest element; negative infinity of none.
package func maximum(_ row: Row) -> Float { unsafe skein_maximum(row.count, row.pointer) }

/// row = e^(row - shift); returns the sum, over sixteen chains.
package func exponentials(_ row: Row, minus shift: Float) -> Float {
    unsafe skein_exponentials(row.count, row.pointer, shift, row.pointer)
}

/// The same sum; the row stays as it is.
package func exponentialSum(_ row: Row, minus shift: Float) -> Float {
    unsafe skein_exponentials(row.count, row.pointer, shift, nil)
}
