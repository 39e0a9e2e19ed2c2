import Base
import Checkpoint
import Testing

@Suite struct DifferenceTests {
    @Test func byHand() {
        var difference = TensorDifference()
        difference.add([1, 2, 3, .nan, .infinity, 0], [1, 4, 3, .nan, 1, -0.0], type: .float32)
        difference.add([5], [4], type: .float32)
        #expect(difference.count == 7 && difference.different == 3 && difference.nonFinite == 1)
        #expect(difference.maximum == 2 && difference.rootMeanSquare == (5.0 / 5).squareRoot())
        #expect(difference.ulps == 1 << 23)
        let cosine = (1.0 + 8 + 9 + 20) / ((1.0 + 4 + 9 + 25).squareRoot() * (1.0 + 16 + 9 + 16).squareRoot())
        #expect(abs(difference.cosine! - cosine) < 1e-15)
        var none = TensorDifference()
        none.add([0, 0], [0, 0], type: nil)
        #expect(none.cosine == nil && none.ulps == nil && none.different == 0 && none.rootMeanSquare == 0)
    }

    /// The distance of any two finite numbers of the small formats is how far apart they are in the sorted list of all.
    @Test(arguments: [ElementType.float8E4M3, .float8E5M2]) func everyPairOfSmallFloats(_ type: ElementType) {
        var values: [Double] = []
        unsafe (0...255).map { UInt8($0) }.withUnsafeBytes { unsafe type.decode($0, into: &values) }
        let sorted = Set(values.filter(\.isFinite)).sorted()
        #expect(sorted.count == (type == .float8E4M3 ? 253 : 247))
        for (i, a) in sorted.enumerated() {
            for (j, b) in sorted.enumerated() {
                #expect(type.distance(a, b) == UInt64(abs(i - j)), "\(a) \(b)")
            }
        }
    }

    /// The same for neighbours in each of the 16-bit formats, over all their codes, and for the ends of the wide ones.
    @Test func neighbours() {
        for type in [ElementType.float16, .bfloat16] {
            let codes = (0...UInt16.max).flatMap { [UInt8($0 & 255), UInt8($0 >> 8)] }
            var values: [Double] = []
            unsafe codes.withUnsafeBytes { unsafe type.decode($0, into: &values) }
            let sorted = Set(values.filter(\.isFinite)).sorted()
            for (a, b) in zip(sorted, sorted.dropFirst()) where type.distance(a, b) != 1 {
                Issue.record("\(type): \(a) and \(b)")
            }
        }
        #expect(ElementType.float32.distance(1, Double(Float(1).nextUp)) == 1)
        #expect(ElementType.float32.distance(-0.0, 0) == 0)
        #expect(ElementType.float64.distance(-Double.leastNonzeroMagnitude, .leastNonzeroMagnitude) == 2)
        #expect(ElementType.float64.distance(-.greatestFiniteMagnitude, .greatestFiniteMagnitude)
            == 2 * Double.greatestFiniteMagnitude.bitPattern)
    }

    @Test func ofCheckpoints() throws {
        let disk = FaultyDisk(), old = Fixture(step: 10), new = Fixture(step: 20)
        let mine = TensorArchive(try Checkpoint.open(try old.save(on: disk, ranks: 3), disk: disk))
        let theirs = TensorArchive(try Checkpoint.open(try new.save(on: disk), disk: disk))
        let names = ArchiveDifference(mine, theirs)
        #expect(names.both.count == 6 && names.reshaped.isEmpty && names.onlyMine.isEmpty && names.onlyTheirs.isEmpty)
        for (a, b) in names.both {
            let found = try difference((a, mine.reader()), (b, theirs.reader()))
            let same = try difference((a, mine.reader()), (a, mine.reader()))
            #expect(found.count == a.count && found.different == a.count && same.different == 0)
        }
        var other = Fixture(step: 30)
        other.model[1] = .init(spec: TensorSpec("embed.weight", .float32, [3, 4]), bytes: other.model[1].bytes)
        other.model[3] = .init(spec: TensorSpec("gain.weight", .float32, [3]), bytes: other.model[3].bytes)
        let third = TensorArchive(try Checkpoint.open(try other.save(on: disk), disk: disk))
        let changed = ArchiveDifference(mine, third)
        #expect(changed.reshaped.map(\.mine.name) == ["embed.weight"])
        #expect(changed.onlyMine.map(\.name) == ["norm.weight"] && changed.onlyTheirs.map(\.name) == ["gain.weight"])
    }
}
