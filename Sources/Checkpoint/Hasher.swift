import Base
import Crypto
import Dispatch
import Glibc
import Synchronization

/// SHA-256 of a file whose blocks are read or written one after the other: on a thread of its own, so that the next
/// block is on its way while the last one is hashed. For a file of one block there is no thread.
///
/// The two threads pass on whole arrays, by swapping them in and out of `slots`: block n goes through slot n mod 3.
/// `free` counts the slots that the caller may take, `filled` those that the hashing thread may.
final class Hasher {
    /// Blocks of a file of several that it holds.
    static let slotCount = 3

    private final class Shared: Sendable {
        let slots = Mutex<[(bytes: [UInt8], count: Int)]>(Array(repeating: ([], 0), count: Hasher.slotCount))
        let free = DispatchSemaphore(value: 0)
        let filled = DispatchSemaphore(value: 0)
        let ended = DispatchSemaphore(value: 0)
        let result = Mutex<(digest: String, seconds: Double)>(("", 0))

        init() {
            // Not by the semaphore's own first value: one that goes away below it ends the process.
            for _ in 0..<Hasher.slotCount { free.signal() }
        }

        /// The count that means: there is no further block.
        static let end = -1
    }

    private let shared: Shared?
    private let largest: Int
    private var next = 0
    private var hash = SHA256()
    private var seconds = 0.0
    private var hasEnded = false

    /// For so many blocks, none of more than `largest` bytes.
    init(blocks: Int, largest: Int) {
        self.largest = largest
        shared = blocks > 1 ? Shared() : nil
        guard let shared else { return }
        pthread_detach(startThread { Hasher.run(shared) })
    }

    /// `body` fills a buffer of `count` bytes, which are hashed next.
    func withBuffer<E>(_ count: Int, _ body: (UnsafeMutableRawBufferPointer) throws(E) -> Void) throws(E) {
        guard let shared else {
            var bytes = [UInt8](repeating: 0, count: count)
            try unsafe Self.fill(&bytes, count, body)
            let started = MonotonicClock.seconds()
            hash.update(data: bytes)
            seconds += MonotonicClock.seconds() - started
            return
        }
        let slot = next % Hasher.slotCount
        next += 1
        shared.free.wait()
        var bytes: [UInt8] = []
        shared.slots.withLock { swap(&bytes, &$0[slot].bytes) }
        if bytes.count < count { bytes = [UInt8](repeating: 0, count: largest) }
        // Also when it throws: the slot is part of the ring.
        defer {
            shared.slots.withLock {
                swap(&bytes, &$0[slot].bytes)
                $0[slot].count = count
            }
            shared.filled.signal()
        }
        try unsafe Self.fill(&bytes, count, body)
    }

    private static func fill<E>(_ bytes: inout [UInt8], _ count: Int,
                                _ body: (UnsafeMutableRawBufferPointer) throws(E) -> Void) throws(E) {
        var span = bytes.mutableSpan
        try unsafe span.withUnsafeMutableBytes { buffer throws(E) in
            try unsafe body(UnsafeMutableRawBufferPointer(rebasing: buffer[..<count]))
        }
    }

    private static func run(_ shared: Shared) {
        var hash = SHA256(), seconds = 0.0, next = 0
        while true {
            let slot = next % Hasher.slotCount
            next += 1
            shared.filled.wait()
            var bytes: [UInt8] = [], count = 0
            shared.slots.withLock {
                swap(&bytes, &$0[slot].bytes)
                count = $0[slot].count
            }
            if count == Shared.end { break }
            let started = MonotonicClock.seconds()
            unsafe bytes.withUnsafeBytes {
                unsafe hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: $0[..<count]))
            }
            seconds += MonotonicClock.seconds() - started
            shared.slots.withLock { swap(&bytes, &$0[slot].bytes) }
            shared.free.signal()
        }
        let digest = hexadecimal(hash.finalize())
        shared.result.withLock { $0 = (digest, seconds) }
        shared.ended.signal()
    }

    /// Lower-case hex digits, and how long hashing took.
    func finish() -> (digest: String, seconds: Double) {
        guard let shared else { return (hexadecimal(hash.finalize()), seconds) }
        end(shared)
        shared.ended.wait()
        return shared.result.withLock { $0 }
    }

    /// A file that could not be read to its end is not finished: its thread ends all the same.
    deinit { if let shared, !hasEnded { end(shared) } }

    private func end(_ shared: Shared) {
        hasEnded = true
        let slot = next % Hasher.slotCount
        next += 1
        shared.free.wait()
        shared.slots.withLock { $0[slot].count = Shared.end }
        shared.filled.signal()
    }
}

/// SHA-256 of bytes in memory: what a bench holds a verification against. Lower-case hex digits.
package func sha256(_ bytes: UnsafeRawBufferPointer) -> String {
    var hash = SHA256()
    unsafe hash.update(bufferPointer: bytes)
    return hexadecimal(hash.finalize())
}
