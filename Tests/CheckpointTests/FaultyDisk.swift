import Base
import Checkpoint
import Glibc
import Storage
import Synchronization

/// A disk in memory that knows what was synced. It fails at the operation it is told to, and after a crash
/// it keeps of everything that was not synced all, nothing, or a random part.
///
/// The model is harsher than a journaling file system: each change of a folder's names survives or not on its
/// own, and so does each 64-byte sector of a file. Only what `sync` and `syncFolder` have seen is certain.
final class FaultyDisk: Disk {
    enum Failure: Equatable {
        /// The operation does nothing and reports this code.
        case error(Int32)
        /// A write does half of its bytes, then reports this code. Other operations just fail.
        case torn(Int32)
        /// The operation is done by half if it is a write, else not; then the machine is off.
        case crash
    }

    enum Loss: Equatable {
        case everything, nothing, random(seed: UInt64)
    }

    private struct File {
        var now: [UInt8]
        var synced: [UInt8]?
    }

    private enum Change {
        case add(String, Int)
        case remove(String)
        case rename(String, to: String, Int)
    }

    private struct Folder {
        var now: [String: Int] = [:]
        var synced: [String: Int] = [:]
        var pending: [Change] = []

        mutating func make(_ change: Change) {
            Folder.apply(change, to: &now)
            pending.append(change)
        }

        static func apply(_ change: Change, to names: inout [String: Int]) {
            switch change {
            case .add(let name, let node): names[name] = node
            case .remove(let name): names[name] = nil
            case .rename(let old, let new, let node):
                if names[old] == node { names[old] = nil }
                names[new] = node
            }
        }
    }

    private struct State {
        var files: [Int: File] = [:]
        var folders: [Int: Folder] = [0: Folder()]
        var next = 1
        var operations = 0
        var plan: (at: Int, failure: Failure)?
        var off = false
        /// The node of each descriptor. A file may be open more than once.
        var openFiles: [Int32: Int] = [:]
        var lastDescriptor: Int32 = 0

        mutating func descriptor(for node: Int) -> Int32 {
            lastDescriptor += 1
            openFiles[lastDescriptor] = node
            return lastDescriptor
        }
    }

    private let state = Mutex(State())

    /// Arms one failure, counted from now: 0 is the next operation.
    func fail(at operation: Int, _ failure: Failure) {
        state.withLock { $0.operations = 0; $0.plan = (operation, failure) }
    }

    /// From now on all goes well.
    func disarm() { state.withLock { $0.plan = nil } }

    /// Operations since the start or the last `fail`.
    var operations: Int { state.withLock { $0.operations } }
    var isOff: Bool { state.withLock { $0.off } }
    var openFiles: Int { state.withLock { $0.openFiles.count } }

    /// Turns the machine on again, after losing what was not synced.
    func restart(_ loss: Loss) {
        state.withLock { state in
            var draws: UInt64 = 0
            func survives() -> Bool {
                draws += 1
                switch loss {
                case .everything: return false
                case .nothing: return true
                case .random(let seed): return CounterRNG(seed: seed, stream: 0).bits(at: draws) & 1 == 1
                }
            }
            for id in state.folders.keys.sorted() {
                for change in state.folders[id]!.pending where survives() {
                    Folder.apply(change, to: &state.folders[id]!.synced)
                }
                state.folders[id]!.now = state.folders[id]!.synced
                state.folders[id]!.pending = []
            }
            for id in state.files.keys.sorted() {
                let file = state.files[id]!, old = file.synced ?? []
                var bytes = [UInt8](repeating: 0, count: survives() ? file.now.count : old.count)
                for sector in stride(from: 0, to: bytes.count, by: 64) {
                    let source = survives() ? file.now : old
                    for index in sector..<min(sector + 64, bytes.count) where index < source.count {
                        bytes[index] = source[index]
                    }
                }
                state.files[id] = File(now: bytes, synced: bytes)
            }
            state.openFiles = [:]
            state.off = false
            state.plan = nil
        }
    }

    /// Changes a file behind everybody's back.
    func tamper(_ path: String, _ change: (inout [UInt8]) -> Void) {
        state.withLock { state in
            let id = FaultyDisk.find(path, state)!
            change(&state.files[id]!.now)
            state.files[id]!.synced = state.files[id]!.now
        }
    }

    func bytes(_ path: String) -> [UInt8]? {
        state.withLock { state in FaultyDisk.find(path, state).flatMap { state.files[$0]?.now } }
    }

    private static func find(_ path: String, _ state: State) -> Int? {
        var id = 0
        for part in path.split(separator: "/") where part != "." {
            guard let next = state.folders[id]?.now[String(part)] else { return nil }
            id = next
        }
        return id
    }

    private static func parent(_ path: String, _ state: State) -> (folder: Int, name: String)? {
        var parts = path.split(separator: "/").filter { $0 != "." }
        guard let name = parts.popLast(), let id = find(parts.joined(separator: "/"), state),
              state.folders[id] != nil else { return nil }
        return (id, String(name))
    }

    /// Counts one operation, fails it if its time has come, else does it. `half` is what a torn write does.
    private func perform<T>(_ name: String, _ path: String, half: (inout State) -> Void = { _ in },
                            _ body: (inout State) -> Result<T, DiskError>) throws(DiskError) -> T {
        let result: Result<T, DiskError> = state.withLock { state in
            if state.off { return .failure(DiskError(name, path, code: EIO)) }
            defer { state.operations += 1 }
            guard let plan = state.plan, plan.at == state.operations else { return body(&state) }
            switch plan.failure {
            case .error(let code): return .failure(DiskError(name, path, code: code))
            case .torn(let code):
                half(&state)
                return .failure(DiskError(name, path, code: code))
            case .crash:
                half(&state)
                state.off = true
                return .failure(DiskError(name, path, code: EIO))
            }
        }
        return try result.get()
    }
}

extension FaultyDisk {
    func kind(_ path: String) throws(DiskError) -> PathKind? {
        try perform("look at", path) { state in
            guard let id = FaultyDisk.find(path, state) else { return .success(nil) }
            return .success(state.files[id].map { .file(size: $0.now.count) } ?? .folder)
        }
    }

    func list(_ folder: String) throws(DiskError) -> [String] {
        try perform("list", folder) { state in
            guard let id = FaultyDisk.find(folder, state), let names = state.folders[id]?.now.keys else {
                return .failure(DiskError("list", folder, code: ENOENT))
            }
            return .success(names.sorted())
        }
    }

    func createFolder(_ path: String) throws(DiskError) {
        try perform("create the folder", path) { state -> Result<Void, DiskError> in
            guard FaultyDisk.find(path, state) == nil,
                  let (parent, name) = FaultyDisk.parent(path, state) else {
                return .failure(DiskError("create the folder", path, code: EEXIST))
            }
            state.folders[state.next] = Folder()
            state.folders[parent]!.make(.add(name, state.next))
            state.next += 1
            return .success(())
        }
    }

    func create(_ path: String, size: Int) throws(DiskError) -> OpenFile {
        try perform("create", path) { state in
            guard FaultyDisk.find(path, state) == nil,
                  let (parent, name) = FaultyDisk.parent(path, state) else {
                return .failure(DiskError("create", path, code: EEXIST))
            }
            state.files[state.next] = File(now: [UInt8](repeating: 0, count: size))
            state.folders[parent]!.make(.add(name, state.next))
            state.next += 1
            return .success(OpenFile(path: path, descriptor: state.descriptor(for: state.next - 1)))
        }
    }

    func open(_ path: String) throws(DiskError) -> OpenFile {
        try perform("open", path) { state in
            guard let id = FaultyDisk.find(path, state), state.files[id] != nil else {
                return .failure(DiskError("open", path, code: ENOENT))
            }
            return .success(OpenFile(path: path, descriptor: state.descriptor(for: id)))
        }
    }

    func close(_ file: OpenFile) { state.withLock { $0.openFiles[file.descriptor] = nil } }

    func write(_ bytes: UnsafeRawBufferPointer, to file: OpenFile, at offset: Int) throws(DiskError) {
        let copy = unsafe [UInt8](bytes)
        func put(_ bytes: ArraySlice<UInt8>, _ state: inout State) {
            state.files[state.openFiles[file.descriptor]!]!.now
                .replaceSubrange(offset..<(offset + bytes.count), with: bytes)
        }
        try perform("write", file.path, half: { put(copy[..<(copy.count / 2)], &$0) }) { state in
            put(copy[...], &state)
            return .success(())
        }
    }

    func read(into buffer: UnsafeMutableRawBufferPointer, from file: OpenFile, at offset: Int)
        throws(DiskError) {
        let bytes = try perform("read", file.path) { state -> Result<[UInt8], DiskError> in
            let bytes = state.files[state.openFiles[file.descriptor]!]!.now
            guard offset + buffer.count <= bytes.count else {
                return .failure(DiskError("read", file.path, code: 0))
            }
            return .success(Array(bytes[offset..<(offset + buffer.count)]))
        }
        unsafe buffer.copyBytes(from: bytes)
    }

    func cut(_ file: OpenFile, to size: Int) throws(DiskError) {
        try perform("cut", file.path) { state in
            let id = state.openFiles[file.descriptor]!
            state.files[id]!.now = Array(state.files[id]!.now.prefix(size))
            return .success(())
        }
    }

    func sync(_ file: OpenFile) throws(DiskError) {
        try perform("sync", file.path) { state in
            let id = state.openFiles[file.descriptor]!
            state.files[id]!.synced = state.files[id]!.now
            return .success(())
        }
    }

    func syncFolder(_ path: String) throws(DiskError) {
        try perform("sync the folder", path) { state in
            let id = FaultyDisk.find(path, state)!
            state.folders[id]!.synced = state.folders[id]!.now
            state.folders[id]!.pending = []
            return .success(())
        }
    }

    func rename(_ old: String, to new: String) throws(DiskError) {
        try perform("rename", old) { state -> Result<Void, DiskError> in
            guard let id = FaultyDisk.find(old, state) else {
                return .failure(DiskError("rename", old, code: ENOENT))
            }
            let (folder, name) = FaultyDisk.parent(old, state)!
            precondition(folder == FaultyDisk.parent(new, state)!.folder, "renames stay within a folder")
            state.folders[folder]!.make(.rename(name, to: FaultyDisk.parent(new, state)!.name, id))
            return .success(())
        }
    }

    func remove(_ file: String) throws(DiskError) {
        try perform("remove", file) { state -> Result<Void, DiskError> in
            guard let id = FaultyDisk.find(file, state), state.files[id] != nil else {
                return .failure(DiskError("remove", file, code: ENOENT))
            }
            let (folder, name) = FaultyDisk.parent(file, state)!
            state.folders[folder]!.make(.remove(name))
            return .success(())
        }
    }

    func removeFolder(_ path: String) throws(DiskError) {
        try perform("remove the folder", path) { state -> Result<Void, DiskError> in
            guard let id = FaultyDisk.find(path, state), let names = state.folders[id]?.now else {
                return .failure(DiskError("remove the folder", path, code: ENOENT))
            }
            guard names.isEmpty else {
                return .failure(DiskError("remove the folder", path, code: ENOTEMPTY))
            }
            let (folder, name) = FaultyDisk.parent(path, state)!
            state.folders[folder]!.make(.remove(name))
            return .success(())
        }
    }
}
