import Base
import Corpus
import Foundation
import Testing

/// A folder of texts that is removed with the value.
final class TemporaryFolder {
    let path: String

    init() throws {
        path = FileManager.default.temporaryDirectory.path + "/corpus-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// Writes a file, making the folders on its way, and returns its path.
    @discardableResult
    func write(_ name: String, _ text: String) throws -> String { try write(name, Array(text.utf8)) }

    @discardableResult
    func write(_ name: String, _ bytes: [UInt8]) throws -> String {
        let file = path + "/" + name
        try FileManager.default.createDirectory(
            atPath: (file as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
        try Data(bytes).write(to: URL(fileURLWithPath: file))
        return file
    }
}

/// The folder of real corpora, for tests that are skipped without it.
let realData = ProcessInfo.processInfo.environment["SKEIN_DATA"]

/// Letters and spaces, a function of `seed`.
func someText(_ count: Int, seed: UInt64) -> [UInt8] {
    let rng = CounterRNG(seed: seed, stream: 0)
    return (0..<count).map { Array("abcdefghijk \n".utf8)[rng.integer(below: 13, at: UInt64($0))] }
}

/// The text of the `BadInput` that `body` throws, or nil.
func complaint(_ body: () throws -> Void) -> String? {
    do {
        try body()
        return nil
    } catch let fault as BadInput {
        return fault.description.contains("\n") ? nil : fault.description
    } catch {
        return nil
    }
}
