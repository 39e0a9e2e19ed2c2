// The arithmetic of a reduction: the only place where this room touches a number. Element i of the result
// depends on element i of the two operands alone, so cutting a range anywhere does not change a bit.

/// destination[i] += source[i] for `count` floats. The two do not overlap; `source` may have any alignment
/// of a float.
func addFloats(_ destination: UnsafeMutablePointer<Float>, _ source: UnsafePointer<Float>, count: Int) {
    // The plain form: elements are independent, so the compiler makes vector code of it.
    for i in 0..<count {
        unsafe destination[i] += source[i]
    }
}

/// Applies an `add` step to raw memory. Bytes have no sum: only `float32` is reduced.
func add(_ element: ElementType, into destination: UnsafeMutableRawPointer, from source: UnsafeRawPointer,
         bytes: Int) {
    precondition(element == .float32, "only float32 can be summed")
    unsafe addFloats(destination.assumingMemoryBound(to: Float.self),
                     source.assumingMemoryBound(to: Float.self), count: bytes / ElementType.float32.size)
}
