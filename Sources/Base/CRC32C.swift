import CChecksum

/// CRC-32C (Castagnoli), as in iSCSI, ext4 and TensorBoard's record files.
public enum CRC32C {
    /// The checksum of `bytes`, continuing from `crc` (0 to begin). checksum(a + b) == checksum(b, from:
    /// checksum(a)).
    public static func checksum(_ bytes: UnsafeRawBufferPointer, from crc: UInt32 = 0) -> UInt32 {
        unsafe skein_crc32c(crc, bytes.baseAddress, bytes.count)
    }

    public static func checksum(_ bytes: [UInt8], from crc: UInt32 = 0) -> UInt32 {
        unsafe bytes.withUnsafeBytes { unsafe checksum($0, from: crc) }
    }

    /// The table-driven path, to hold against the instruction in tests.
    package static func portable(_ bytes: [UInt8], from crc: UInt32 = 0) -> UInt32 {
        unsafe bytes.withUnsafeBytes { unsafe skein_crc32c_portable(crc, $0.baseAddress, $0.count) }
    }
}
