// Numbers in fewer bits than memory's, for their way over the wire. Each function is element by element, and none looks
// at the order of anything.

/// The largest number of E4M3.
package let largestE4M3: Float = 448

/// The code of the nearest number of OCP's E4M3, ties to even; beyond the largest, the largest. What is not finite
/// becomes not-a-number, so that nobody takes an infinity for a large gradient.
///
/// Adding 2^(e - 3 + 23), where 2^e is the power of two at or below the number and at least 2^-6, makes the addition
/// round at E4M3's step; below 2^-6 that step is 2^-9, and adding 2^14 leaves how many there are in the last bits.
@inline(__always)
package func narrowedE4M3(_ value: Float) -> UInt8 {
    let bits = value.bitPattern, magnitude = bits & 0x7FFF_FFFF
    let positive = Float(bitPattern: magnitude)
    let clamped = positive < largestE4M3 ? positive : largestE4M3
    let exponent = clamped.bitPattern & 0x7F80_0000, least: UInt32 = 121 << 23
    let pusher = Float(bitPattern: (exponent > least ? exponent : least) &+ 20 << 23)
    let rounded = (clamped + pusher) - pusher
    let normal = rounded.bitPattern >> 20 &- 120 << 3, below = (rounded + 0x1p14).bitPattern & 0x7F
    let code = magnitude >= 0x7F80_0000 ? 0x7F : rounded < 0x1p-6 ? below : normal
    return UInt8(truncatingIfNeeded: code | bits >> 24 & 0x80)
}

/// The number that a code stands for.
@inline(__always)
package func widenedE4M3(_ code: UInt8) -> Float {
    let magnitude = UInt32(code & 0x7F)
    // 2^14 plus so many of its steps, which are 2^-9.
    let below = Float(bitPattern: 0x4680_0000 | magnitude) - 0x1p14
    let normal = Float(bitPattern: magnitude << 20 &+ 120 << 23)
    let value = magnitude == 0x7F ? .nan : magnitude < 8 ? below : normal
    return Float(bitPattern: value.bitPattern | UInt32(code & 0x80) << 24)
}

/// Floats as they travel. Returns how many were beyond the largest number.
func narrow(_ source: UnsafeRawPointer, into destination: UnsafeMutableRawPointer, count: Int, as wire: WireFormat)
    -> Int {
    let from = unsafe source.assumingMemoryBound(to: Float.self)
    switch wire {
    case .native:
        preconditionFailure("nothing is narrow")
    case .bfloat16:
        let into = unsafe destination.assumingMemoryBound(to: UInt16.self)
        for i in 0..<count { unsafe into[i] = narrowed(from[i]) }
        return 0
    case .e4m3:
        let into = unsafe destination.assumingMemoryBound(to: UInt8.self)
        for i in 0..<count { unsafe into[i] = narrowedE4M3(from[i]) }
        return unsafe saturated(from, count: count)
    }
}

/// And back.
func widen(_ source: UnsafeRawPointer, into destination: UnsafeMutableRawPointer, count: Int, as wire: WireFormat) {
    let into = unsafe destination.assumingMemoryBound(to: Float.self)
    switch wire {
    case .native:
        preconditionFailure("nothing is narrow")
    case .bfloat16:
        let from = unsafe source.assumingMemoryBound(to: UInt16.self)
        for i in 0..<count { unsafe into[i] = widened(from[i]) }
    case .e4m3:
        let from = unsafe source.assumingMemoryBound(to: UInt8.self)
        for i in 0..<count { unsafe into[i] = widenedE4M3(from[i]) }
    }
}

/// Every element as it comes out at the other end. Returns how many were beyond the largest number.
func roundInPlace(_ memory: UnsafeMutableRawPointer, count: Int, as wire: WireFormat) -> Int {
    let floats = unsafe memory.assumingMemoryBound(to: Float.self)
    guard wire == .e4m3 else {
        for i in 0..<count { unsafe floats[i] = widened(narrowed(floats[i])) }
        return 0
    }
    let found = unsafe saturated(floats, count: count)
    for i in 0..<count { unsafe floats[i] = widenedE4M3(narrowedE4M3(floats[i])) }
    return found
}

/// Finite numbers beyond E4M3's largest.
private func saturated(_ floats: UnsafePointer<Float>, count: Int) -> Int {
    var found: UInt32 = 0
    for i in 0..<count {
        let magnitude = unsafe floats[i].bitPattern & 0x7FFF_FFFF
        found &+= magnitude > 0x43E0_0000 && magnitude < 0x7F80_0000 ? 1 : 0
    }
    return Int(found)
}
