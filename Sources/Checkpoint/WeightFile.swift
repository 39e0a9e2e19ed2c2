import Base
import Storage

/// Weights as others publish them: safetensors files without a manifest.
package enum WeightFile {
    /// Writes a new file of `specs`, whose elements become `type`; durable when this returns its bytes. `load` fills a
    /// tensor's memory with its floats. One tensor is in memory at a time.
    package static func write(_ path: String, _ specs: [TensorSpec], as type: ElementType, disk: any Disk,
                              load: (TensorSpec, UnsafeMutableRawBufferPointer) throws -> Void) throws -> Int {
        let layout = Safetensors(laying: specs.map { ($0.name, type, $0.shape) })
        let file = try onDisk { () throws(DiskError) in try disk.create(path, size: layout.fileSize) }
        defer { disk.close(file) }
        try unsafe layout.head.span.bytes.withUnsafeBytes { bytes in
            try unsafe disk.write(bytes, to: file, at: 0)
        }
        for (spec, place) in zip(specs, layout.tensors) {
            precondition(spec.name == place.name && spec.type == .float32, "tensors of one width keep their order")
            let floats = UnsafeMutableRawBufferPointer.allocate(byteCount: spec.byteCount, alignment: 64)
            defer { unsafe floats.deallocate() }
            try unsafe load(spec, floats)
            let out = UnsafeMutableRawBufferPointer.allocate(byteCount: place.range.count, alignment: 64)
            defer { unsafe out.deallocate() }
            unsafe type.encode(UnsafeRawBufferPointer(floats), into: out)
            try unsafe disk.write(UnsafeRawBufferPointer(out), to: file, at: place.range.lowerBound)
        }
        try disk.sync(file)
        return layout.fileSize
    }

    /// Tensors in the order given, cut into files of at most `bytes` each; a larger tensor is a file of its own.
    package static func shards(_ specs: [TensorSpec], as type: ElementType, bytes: Int) -> [[TensorSpec]] {
        var shards: [[TensorSpec]] = [[]], size = 0
        for spec in specs {
            let own = spec.byteCount / spec.type.width * type.width
            if size + own > bytes, !shards[shards.count - 1].isEmpty {
                shards.append([])
                size = 0
            }
            shards[shards.count - 1].append(spec)
            size += own
        }
        return shards
    }

    /// "model.safetensors", or "model-00001-of-00003.safetensors".
    package static func name(_ number: Int, of count: Int) -> String {
        Manifest.partName(Manifest.modelFile, number, of: count)
    }
}
