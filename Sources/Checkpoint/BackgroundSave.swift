import Base
import Dispatch
import Glibc
import Storage
import Synchronization

/// A copy of tensors, made while nothing changes them, to be saved while training goes on. Its memory is taken once:
/// `take` of as many bytes again uses the same.
public struct TensorCopy: Sendable {
    private struct Entry {
        let name: String
        let type: ElementType
        let shape: [Int]
        let elements: Range<Int>
        let bytes: Range<Int>
    }

    private var bytes: [UInt8] = []
    private var model: [Entry] = []
    private var optimizer: [Entry] = []

    public init() {}

    public mutating func take(model: [TensorSource], optimizer: [TensorSource]) {
        let count = (model + optimizer).reduce(0) { unsafe $0 + $1.bytes.count }
        if bytes.count != count { bytes = [UInt8](repeating: 0, count: count) }
        var offset = 0
        func copy(_ sources: [TensorSource]) -> [Entry] {
            sources.map { source in
                let place = unsafe offset..<(offset + source.bytes.count)
                unsafe bytes.withUnsafeMutableBytes { memory in
                    unsafe UnsafeMutableRawBufferPointer(rebasing: memory[place]).copyBytes(from: source.bytes)
                }
                offset = place.upperBound
                return Entry(name: source.spec.name, type: source.spec.type, shape: source.spec.shape,
                             elements: source.elements, bytes: place)
            }
        }
        self.model = copy(model)
        self.optimizer = copy(optimizer)
    }

    func withSources<T>(_ body: (_ model: [TensorSource], _ optimizer: [TensorSource]) throws(CheckpointError) -> T)
        throws(CheckpointError) -> T {
        try unsafe bytes.span.bytes.withUnsafeBytes { memory throws(CheckpointError) in
            func sources(_ entries: [Entry]) -> [TensorSource] {
                entries.map { entry in
                    unsafe TensorSource(entry.name, entry.type, entry.shape, entry.elements,
                                        bytes: UnsafeRawBufferPointer(rebasing: memory[entry.bytes]))
                }
            }
            return try body(sources(model), sources(optimizer))
        }
    }
}

/// A save on a thread of its own, from a copy. The thread touches its copy, its disk and the result; whoever started
/// it asks for the result now and then, or waits for it.
public final class BackgroundSave<Output: Sendable>: Sendable {
    private let disk: CancellableDisk
    private let result = Mutex<Result<Output, CheckpointError>?>(nil)
    private let ended = DispatchSemaphore(value: 0)

    fileprivate init(_ writer: CheckpointWriter, _ copy: TensorCopy,
                     _ body: @escaping @Sendable (CheckpointWriter, [TensorSource], [TensorSource])
                        throws(CheckpointError) -> Output) {
        disk = CancellableDisk(writer.disk)
        let cancellable = writer.on(disk)
        let thread = startThread { [self] in
            let outcome: Result<Output, CheckpointError>
            do throws(CheckpointError) {
                outcome = .success(try copy.withSources { model, optimizer throws(CheckpointError) in
                    try body(cancellable, model, optimizer)
                })
            } catch {
                outcome = .failure(error)
            }
            result.withLock { $0 = outcome }
            ended.signal()
        }
        pthread_detach(thread)
    }

    /// What came of it; nil while it goes on.
    public var outcome: Result<Output, CheckpointError>? { result.withLock { $0 } }

    /// Gives it up: it ends as after a failed operation, `.notWritten`, within a block or two. A save that is already
    /// renamed into place stays.
    public func cancel() { disk.cancel() }

    /// Waits for the end.
    public func wait() throws(CheckpointError) -> Output {
        ended.wait()
        // For whoever waits next.
        ended.signal()
        return try outcome!.get()
    }
}

extension CheckpointWriter {
    /// `write` in the background.
    public func writeInBackground(_ manifest: Manifest, recipe: String, tokenizer: String, _ copy: TensorCopy)
        -> BackgroundSave<String> {
        BackgroundSave(self, copy) { writer, model, optimizer throws(CheckpointError) in
            try writer.write(manifest, recipe: recipe, tokenizer: tokenizer, model: model, optimizer: optimizer)
        }
    }

    /// `writePart` in the background: between `begin` and `commit`, which rank 0 does when all parts are written.
    public func writePartInBackground(step: Int, _ part: Int, of count: Int, _ copy: TensorCopy)
        -> BackgroundSave<[UInt8]> {
        BackgroundSave(self, copy) { writer, model, optimizer throws(CheckpointError) in
            try writer.writePart(step: step, part, of: count, model: model, optimizer: optimizer)
        }
    }
}
