import CKernels

/// How many times `body` asks the system's allocator for memory, on whatever thread and in whatever library. Nil
/// where the C library gives no way to count. Not reentrant.
public func countAllocations(_ body: () throws -> Void) rethrows -> Int? {
    skein_count_allocations()
    defer { skein_allocations() }
    try body()
    let calls = skein_allocations()
    return calls < 0 ? nil : calls
}
