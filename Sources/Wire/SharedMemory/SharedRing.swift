import Synchronization

// A RING WITH ONE WRITER AND ONE READER
// =====================================
// Positions count bytes for ever; a position's place in the data is its remainder. `head` is written by the writer
// alone, `tail` by the reader alone, each on a cache line of its own:
//
//   offset  field
//        0  head: so many bytes have been written
//       64  tail: so many have been read; head - tail is at most the capacity
//      128  readerSleeps: 1 while the reader waits in the kernel for bytes
//      192  writerSleeps: 1 while the writer waits there for room
//     4096  data
//
// The argument
// ------------
// 1. No byte is read before it is written, or overwritten before it is read. The writer stores bytes, then `head` with
//    release; the reader loads `head` with acquire, then the bytes. The other way round for `tail`. Neither believes
//    the other's position: a distance that is negative, or above the capacity, proves the peer wrong.
// 2. Nobody sleeps for ever. Who is about to sleep sets its flag, and then looks once more; who has moved a position
//    then looks at the other's flag. All four are sequentially consistent, so at least one of the two sees the other:
//    either the sleeper finds something to do, or the mover finds the flag and rings (on the data stream, so that one
//    wait in the kernel is for sockets and memory alike). The flag is taken with an exchange: one ring for one sleep.
//
/// One end of such a ring, as the one that writes or the one that reads uses it. Owns no memory.
@safe struct SharedRing {
    /// Half of a second-level cache: what is written is still there when it is read.
    static let capacity = 1 << 20
    private static let dataOffset = 4096
    static let byteCount = dataOffset + capacity

    private let memory: UnsafeMutableRawPointer

    @unsafe init(_ memory: UnsafeMutableRawPointer) { unsafe self.memory = unsafe memory }

    private func position(_ offset: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
        unsafe (memory + offset).assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    private var head: UInt64 { unsafe position(0).pointee.load(ordering: .acquiring) }
    private var tail: UInt64 { unsafe position(64).pointee.load(ordering: .acquiring) }

    // MARK: writing

    /// Room in bytes; nil where the reader's position makes no sense.
    var room: Int? {
        let used = head &- tail
        return used > UInt64(Self.capacity) ? nil : Self.capacity - Int(used)
    }

    /// The next contiguous bytes that may be written, at most `limit`; `room` says how many there are in all.
    func writable(_ limit: Int) -> UnsafeMutableRawBufferPointer {
        let place = Int(head & UInt64(Self.capacity - 1))
        return unsafe UnsafeMutableRawBufferPointer(start: memory + Self.dataOffset + place,
                                                    count: min(limit, room ?? 0, Self.capacity - place))
    }

    /// `count` bytes have been written. True: the reader sleeps, and must be rung.
    func wrote(_ count: Int) -> Bool {
        unsafe position(0).pointee.store(head &+ UInt64(count), ordering: .sequentiallyConsistent)
        return take(128)
    }

    // MARK: reading

    /// Bytes to be read; nil where the writer's position makes no sense.
    var filled: Int? {
        let used = head &- tail
        return used > UInt64(Self.capacity) ? nil : Int(used)
    }

    /// The next contiguous bytes that may be read, at most `limit`.
    func readable(_ limit: Int) -> UnsafeRawBufferPointer {
        let place = Int(tail & UInt64(Self.capacity - 1))
        return unsafe UnsafeRawBufferPointer(start: memory + Self.dataOffset + place,
                                             count: min(limit, filled ?? 0, Self.capacity - place))
    }

    /// `count` bytes have been read. True: the writer sleeps, and must be rung.
    func read(_ count: Int) -> Bool {
        unsafe position(64).pointee.store(tail &+ UInt64(count), ordering: .sequentiallyConsistent)
        return take(192)
    }

    // MARK: sleeping

    func readerSleeps(_ sleeps: Bool) { set(128, sleeps) }
    func writerSleeps(_ sleeps: Bool) { set(192, sleeps) }

    private func set(_ offset: Int, _ sleeps: Bool) {
        unsafe position(offset).pointee.store(sleeps ? 1 : 0, ordering: .sequentiallyConsistent)
    }

    private func take(_ offset: Int) -> Bool {
        let flag = unsafe position(offset)
        guard unsafe flag.pointee.load(ordering: .sequentiallyConsistent) != 0 else { return false }
        return unsafe flag.pointee.exchange(0, ordering: .sequentiallyConsistent) != 0
    }
}
