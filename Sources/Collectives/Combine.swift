import Wire

// The arithmetic of a reduction: the only place where this room touches a number. Element i of the result
// depends on element i of the two operands alone, so cutting a range anywhere does not change a bit.

/// destination[i] (+ or max)= source[i] for `count` elements of memory. The two do not overlap; `source` has the wire's
/// format, any alignment of its elements, and the destination is in memory's.
func reduce(_ reduction: Reduction, _ element: ElementType, wire: WireFormat, into destination: UnsafeMutableRawPointer,
            from source: UnsafeRawPointer, count: Int) {
    switch (element, wire, reduction) {
    case (.float32, .native, .sum):
        unsafe addFloats(destination.assumingMemoryBound(to: Float.self),
                         source.assumingMemoryBound(to: Float.self), count: count)
    case (.float32, .native, .maximum):
        let into = unsafe destination.assumingMemoryBound(to: Float.self)
        let from = unsafe source.assumingMemoryBound(to: Float.self)
        for i in 0..<count { unsafe into[i] = larger(into[i], from[i]) }
    case (.float32, .bfloat16, _):
        let into = unsafe destination.assumingMemoryBound(to: Float.self)
        let from = unsafe source.assumingMemoryBound(to: UInt16.self)
        if reduction == .sum {
            for i in 0..<count { unsafe into[i] += widened(from[i]) }
        } else {
            for i in 0..<count { unsafe into[i] = larger(into[i], widened(from[i])) }
        }
    case (.float32, .e4m3, _):
        let into = unsafe destination.assumingMemoryBound(to: Float.self)
        let from = unsafe source.assumingMemoryBound(to: UInt8.self)
        if reduction == .sum {
            for i in 0..<count { unsafe into[i] += widenedE4M3(from[i]) }
        } else {
            for i in 0..<count { unsafe into[i] = larger(into[i], widenedE4M3(from[i])) }
        }
    case (.int64, _, _):
        let into = unsafe destination.assumingMemoryBound(to: Int64.self)
        let from = unsafe source.assumingMemoryBound(to: Int64.self)
        if reduction == .sum {
            for i in 0..<count { unsafe into[i] &+= from[i] }
        } else {
            for i in 0..<count { unsafe into[i] = max(into[i], from[i]) }
        }
    case (.byte, _, _):
        preconditionFailure("bytes have no sum")
    }
}

/// destination[i] += source[i] for `count` floats.
func addFloats(_ destination: UnsafeMutablePointer<Float>, _ source: UnsafePointer<Float>, count: Int) {
    // The plain form: elements are independent, so the compiler makes vector code of it.
    for i in 0..<count {
        unsafe destination[i] += source[i]
    }
}

/// The larger of two numbers; not-a-number where either is, the first operand's if both are: so it does not depend on
/// the order which ranks meet in, up to the payload of a not-a-number.
@inline(__always)
private func larger(_ a: Float, _ b: Float) -> Float {
    if a.isNaN { return a }
    return b > a || b.isNaN ? b : a
}

/// A reduction for a link that adds in place.
func linkSum(_ reduction: Reduction, _ element: ElementType) -> LinkSum {
    unsafe LinkSum { into, from, bytes in
        unsafe reduce(reduction, element, wire: .native, into: into, from: from, count: bytes / element.size)
    }
}

// MARK: bfloat16

/// The float that a bfloat16 stands for: its bits are a float's upper half.
@inline(__always)
package func widened(_ bits: UInt16) -> Float { Float(bitPattern: UInt32(bits) << 16) }

/// The nearest bfloat16, ties to even; a not-a-number stays one (its top fraction bit is set, lest it become infinity).
@inline(__always)
package func narrowed(_ value: Float) -> UInt16 {
    let bits = value.bitPattern
    let isNaN = bits & 0x7FFF_FFFF > 0x7F80_0000
    let rounded = (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16
    return UInt16(truncatingIfNeeded: isNaN ? bits >> 16 | 0x40 : rounded)
}
