import Base

/// Weights are 32-bit floats here, and often narrower elsewhere.
extension ElementType {
    /// Types that `readFloats` widens and `encode` narrows to: those that models are published in.
    package static let weightTypes: [ElementType] = [.float32, .bfloat16, .float16]

    /// Each float of `floats`, rounded to the nearest value of this type (to even where two are as near), into `out`:
    /// little-endian, as many elements. One of `weightTypes`.
    package func encode(_ floats: UnsafeRawBufferPointer, into out: UnsafeMutableRawBufferPointer) {
        let count = floats.count / 4
        precondition(ElementType.weightTypes.contains(self) && out.count == count * width, "no place for the floats")
        for index in 0..<count {
            let bits = unsafe floats.loadUnaligned(fromByteOffset: 4 * index, as: UInt32.self)
            switch self {
            case .bfloat16:
                unsafe out.storeBytes(of: upperHalf(bits).littleEndian, toByteOffset: 2 * index, as: UInt16.self)
            case .float16:
                let half = Float16(Float(bitPattern: bits)).bitPattern
                unsafe out.storeBytes(of: half.littleEndian, toByteOffset: 2 * index, as: UInt16.self)
            default:
                unsafe out.storeBytes(of: bits.littleEndian, toByteOffset: 4 * index, as: UInt32.self)
            }
        }
    }

    /// What `encode` would have left of each float, in place.
    package func round(_ floats: UnsafeMutableRawBufferPointer) {
        guard self != .float32 else { return }
        for index in 0..<(floats.count / 4) {
            let bits = unsafe floats.loadUnaligned(fromByteOffset: 4 * index, as: UInt32.self)
            let kept = self == .bfloat16 ? UInt32(upperHalf(bits)) << 16
                : Float(Float16(Float(bitPattern: bits))).bitPattern
            unsafe floats.storeBytes(of: kept, toByteOffset: 4 * index, as: UInt32.self)
        }
    }
}

/// The upper half of a float's bits, rounded to nearest even. What is not a number stays one.
private func upperHalf(_ bits: UInt32) -> UInt16 {
    if bits & 0x7FFF_FFFF > 0x7F80_0000 { return UInt16(bits >> 16) | 0x40 }
    return UInt16(truncatingIfNeeded: (bits + 0x7FFF + (bits >> 16 & 1)) >> 16)
}

extension TensorReader {
    /// All elements of a tensor of one of `ElementType.weightTypes`, exactly, as floats into `floats`. If this throws,
    /// the contents of `floats` are undefined.
    package func readFloats(_ tensor: StoredTensor, into floats: UnsafeMutableRawBufferPointer)
        throws(CheckpointError) {
        precondition(ElementType.weightTypes.contains(tensor.dtype) && floats.count == 4 * tensor.count, tensor.name)
        let type = tensor.dtype
        var place = 0
        try unsafe forEachPiece(of: tensor) { piece in
            for offset in stride(from: 0, to: piece.count, by: type.width) {
                let bits: UInt32
                switch type {
                case .bfloat16:
                    let word = unsafe piece.loadUnaligned(fromByteOffset: offset, as: UInt16.self)
                    bits = UInt32(UInt16(littleEndian: word)) << 16
                case .float16:
                    let word = unsafe piece.loadUnaligned(fromByteOffset: offset, as: UInt16.self)
                    bits = Float(Float16(bitPattern: UInt16(littleEndian: word))).bitPattern
                default:
                    bits = UInt32(littleEndian: unsafe piece.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
                }
                unsafe floats.storeBytes(of: bits, toByteOffset: place, as: UInt32.self)
                place += 4
            }
        }
    }
}
