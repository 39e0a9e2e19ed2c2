/// Sixteen floats: one AVX-512 register, two AVX2 registers or four NEON registers. Every element-wise
/// kernel works in these lanes, so a sum's order is the same on every instruction set.
public typealias Lanes = SIMD16<Float>

/// A run of `count` floats that somebody else owns (an arena, as a rule): a row of a matrix, a slice of a
/// gradient, a gain vector.
///
/// This is the one type through which kernels touch memory; the unsafe expressions of the house's compute
/// are in this folder. Bounds are a precondition where a row is made and a debug assertion per element.
/// Rows may alias; a kernel says in its comment where they must not.
@safe public struct Row: @unchecked Sendable {
    // @unchecked Sendable: a Row is an address and a length, without state. Two threads may hold the same
    // one; `Pool` hands out tiles so that what one thread writes, no other touches before the barrier at
    // the tile loop's end. That discipline is per kernel and is checked by the tests that compare results
    // for 1, 2 and 3 threads bit by bit.
    @usableFromInline let base: UnsafeMutablePointer<Float>
    public let count: Int

    @inlinable public init(_ base: UnsafeMutablePointer<Float>, count: Int) {
        precondition(count >= 0, "a row cannot have a negative length")
        unsafe self.base = base
        self.count = count
    }

    @inlinable public subscript(_ index: Int) -> Float {
        @inline(__always) get {
            assert(index >= 0 && index < count)
            return unsafe base[index]
        }
        @inline(__always) nonmutating set {
            assert(index >= 0 && index < count)
            unsafe base[index] = newValue
        }
    }

    /// The lanes that begin at `index`. Past the row's end they read as zero and are not written.
    @inlinable public subscript(lanes index: Int) -> Lanes {
        @inline(__always) get {
            if index &+ 16 <= count {
                return unsafe UnsafeRawPointer(base + index).loadUnaligned(as: Lanes.self)
            }
            var lanes = Lanes.zero
            unsafe withUnsafeMutableBytes(of: &lanes) { unsafe loadRest(into: $0, at: index) }
            return lanes
        }
        @inline(__always) nonmutating set {
            if index &+ 16 <= count {
                unsafe UnsafeMutableRawPointer(base + index).storeBytes(of: newValue, as: Lanes.self)
            } else {
                unsafe withUnsafeBytes(of: newValue) { unsafe storeRest(from: $0, at: index) }
            }
        }
    }

    // The rest goes through memory: a function that takes or returns sixteen lanes does so in four 128-bit
    // registers, and the compiler then keeps them in quarters in the loop around the call as well (5x slower).
    @usableFromInline @inline(never) func loadRest(into lanes: UnsafeMutableRawBufferPointer, at index: Int) {
        unsafe lanes.baseAddress!.copyMemory(from: base + index, byteCount: 4 * (count - index))
    }

    @usableFromInline @inline(never) func storeRest(from lanes: UnsafeRawBufferPointer, at index: Int) {
        let to = unsafe UnsafeMutableRawPointer(base + index)
        unsafe to.copyMemory(from: lanes.baseAddress!, byteCount: 4 * (count - index))
    }

    /// `count` floats from `start` on.
    @inlinable public func slice(_ start: Int, _ count: Int) -> Row {
        precondition(start >= 0 && count >= 0 && start + count <= self.count, "slice outside the row")
        return unsafe Row(base + start, count: count)
    }

    public func fill(_ value: Float) { unsafe base.update(repeating: value, count: count) }

    /// Copies `other`, which has the same length and does not overlap.
    public func copy(_ other: Row) {
        precondition(count == other.count, "copy between rows of different length")
        unsafe base.update(from: other.base, count: count)
    }

    /// Copies floats of the row to another place in it; the two may overlap.
    public func moveWithin(from source: Int, to target: Int, count: Int) {
        precondition(source >= 0 && target >= 0 && count >= 0 && max(source, target) + count <= self.count,
                     "moved outside the row")
        unsafe (base + target).update(from: base + source, count: count)
    }

    public func copy(_ values: [Float]) {
        precondition(count == values.count, "copy between rows of different length")
        for index in 0..<count { self[index] = values[index] }
    }

    public var array: [Float] { (0..<count).map { self[$0] } }

    /// The row as memory, for checkpoints and the network.
    public var bytes: UnsafeMutableRawBufferPointer {
        unsafe UnsafeMutableRawBufferPointer(start: base, count: count * MemoryLayout<Float>.stride)
    }

    /// The row as floats, for collectives.
    public var floats: UnsafeMutableBufferPointer<Float> {
        unsafe UnsafeMutableBufferPointer(start: base, count: count)
    }

    /// The address, for C interfaces (`CKernels`, OpenBLAS). Only this module may use it.
    @usableFromInline package var pointer: UnsafeMutablePointer<Float> { unsafe base }
}

/// 0, 16, 32, ... below `count`: the loop of every element-wise kernel.
@inline(__always) func laneStarts(_ count: Int) -> StrideTo<Int> { stride(from: 0, to: count, by: 16) }

/// A few Doubles that tiles write and the caller reads afterwards: the losses and norms of a run's tiles, kept
/// apart so that they can be added in a fixed order. Owns its memory.
@safe public final class Doubles: @unchecked Sendable {
    // @unchecked Sendable: as for Row, a tile writes its own element and no other.
    private let base: UnsafeMutablePointer<Double>
    public let count: Int

    public init(count: Int) {
        self.count = count
        unsafe base = .allocate(capacity: max(count, 1))
        unsafe base.initialize(repeating: 0, count: max(count, 1))
    }

    deinit { unsafe base.deallocate() }

    public subscript(_ index: Int) -> Double {
        get {
            precondition(index >= 0 && index < count, "outside the doubles")
            return unsafe base[index]
        }
        set {
            precondition(index >= 0 && index < count, "outside the doubles")
            unsafe base[index] = newValue
        }
    }
}
