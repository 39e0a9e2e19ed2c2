/// Floats of a row of the stack.
public let stackRowCount = 3_072

/// Lends `body` a row of `stackRowCount` zeros that lie on the stack: 12 KiB, for work that goes through a few blocks
/// at a time. `withUnsafeTemporaryAllocation` would ask the allocator for anything longer than 1,024 bytes.
public func withStackRow(_ body: (Row) -> Void) {
    var memory = InlineArray<192, Lanes>(repeating: .zero)
    unsafe withUnsafeMutableBytes(of: &memory) { bytes in
        guard let base = bytes.baseAddress else { return }
        unsafe body(Row(base.assumingMemoryBound(to: Float.self), count: stackRowCount))
    }
}
