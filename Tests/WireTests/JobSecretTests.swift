import Base
import Testing
import Wire
#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

@Suite struct JobSecretTests {
    /// Runs `body` with the name of a file that does not exist yet.
    private func withPath(_ body: (String) throws -> Void) rethrows {
        let name = hexadecimal(Array(JobSecret.random().bytes.prefix(8)))
        let path = "/tmp/skein-secret-\(name)"
        defer { unsafe unlink(path) }
        try body(path)
    }

    private func write(_ bytes: [UInt8], to path: String, mode: mode_t) {
        let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        _ = unsafe bytes.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
        fchmod(descriptor, mode)
        close(descriptor)
    }

    private func problem(_ path: String) -> String? {
        do throws(WireError) {
            _ = try JobSecret.load(from: path)
            return nil
        } catch {
            #expect(error.kind == .badInput)
            #expect(!error.description.contains("\n") && error.description.contains(path))
            return error.description
        }
    }

    @Test func createdSecretsLoadAndAreNeverOverwritten() throws {
        try withPath { path in
            let secret = try JobSecret.create(at: path)
            var status = stat()
            unsafe stat(path, &status)
            #expect(status.st_mode & 0o777 == 0o600)
            let loaded = try JobSecret.load(from: path)
            #expect(loaded == secret)
            #expect(throws: WireError.secret(path: path, problem: "File exists")) {
                _ = try JobSecret.create(at: path)
            }
            #expect(!"\(secret)".contains(hexadecimal(secret.bytes)))
        }
    }

    @Test func everyWiderModeIsRefused() {
        withPath { path in
            let text = Array(hexadecimal(testSecret.bytes).utf8)
            for mode in 0o400...0o777 where mode & 0o400 != 0 {
                write(text, to: path, mode: mode_t(mode))
                #expect((problem(path) == nil) == (mode & 0o077 == 0), "mode \(String(mode, radix: 8))")
                unsafe chmod(path, 0o600)
            }
        }
    }

    @Test func absentShortAndForeignFilesAreRefused() {
        withPath { path in
            #expect(problem(path)?.contains("No such file") == true)
            for count in 0...66 where count != 32 && count != 64 {
                write([UInt8](repeating: 0x61, count: count), to: path, mode: 0o600)
                #expect(problem(path)?.contains("\(count) bytes read") == true)
            }
            write([UInt8](repeating: 0x67, count: 64), to: path, mode: 0o600)       // "g" is no digit.
            #expect(problem(path) != nil)
            #expect(problem("/tmp")?.contains("not a file") == true)
        }
    }

    @Test func allThreeSpellingsAreRead() {
        let bytes = testSecret.bytes, hex = hexadecimal(testSecret.bytes)
        for content in [bytes, Array(hex.utf8), Array((hex.uppercased() + "\r\n").utf8)] {
            #expect(JobSecret.parse(content) == bytes)
        }
        #expect(JobSecret.random() != JobSecret.random())
    }
}
