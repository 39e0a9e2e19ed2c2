import Tensor
import Testing
import TestSupport

@Suite struct MemoryTests {
    /// Every lane start of rows of every length up to three registers: inside, across and at the end.
    @Test func lanesReadZeroPastTheEndAndDoNotWriteThere() {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        for count in 0...49 {
            let values = (0..<count).map { Float($0 + 1) }
            let row = memory.row(values)
            for start in 0..<count {
                let lanes = row[lanes: start]
                for lane in 0..<16 { #expect(lanes[lane] == (start + lane < count ? values[start + lane] : 0)) }
                row[lanes: start] = lanes
                #expect(row.array == values)
                row[lanes: start] = -lanes
                let changed = (0..<count).map { $0 >= start && $0 < start + 16 ? -values[$0] : values[$0] }
                #expect(row.array == changed)
                row.copy(values)
            }
        }
    }

    @Test func slicesAndCopies() {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let row = memory.row((0..<10).map { Float($0) })
        #expect(row.slice(3, 4).array == [3, 4, 5, 6])
        #expect(row.slice(10, 0).count == 0)
        row.slice(2, 2).fill(-1)
        #expect(row.array == [0, 1, -1, -1, 4, 5, 6, 7, 8, 9])
        row.slice(0, 3).copy(row.slice(7, 3))
        #expect(row.array == [7, 8, 9, -1, 4, 5, 6, 7, 8, 9])
        #expect(unsafe row.bytes.count == 40)
    }

    /// Windows of windows of a 5 x 7 matrix, all of them, against plain index arithmetic.
    @Test func rowsAndColumnsOfAMatrix() {
        let memory = FencedMemory()
        defer { #expect(memory.isIntact) }
        let matrix = memory.matrix((0..<35).map { Float($0) }, 5, 7, gap: 3)
        for top in 0...5 {
            for height in 0...(5 - top) {
                for left in 0...7 {
                    for width in 0...(7 - left) {
                        let a = matrix.rows(top, height).columns(left, width)
                        let b = matrix.columns(left, width).rows(top, height)
                        let want = (0..<height).flatMap { y in (0..<width).map { Float((top + y) * 7 + left + $0) } }
                        #expect(a.values == want)
                        #expect(b.values == want)
                    }
                }
            }
        }
        matrix.columns(1, 2).copy(matrix.columns(4, 2))
        #expect(matrix.row(2).array == [14, 18, 19, 17, 18, 19, 20])
        matrix.rows(4, 1).fill(0)
        #expect(matrix.row(4).array == [0, 0, 0, 0, 0, 0, 0])
        #expect(matrix.row(3).array == [21, 25, 26, 24, 25, 26, 27])
    }

    @Test func anArenaGivesZeroedAlignedMemoryOfTheExactSize() throws {
        let sizes = [1, 15, 16, 17, 1_000, 0, 64]
        let arena = try Arena(name: "test", capacity: sizes.reduce(0) { $0 + Arena.padded($1) })
        var rows: [Row] = []
        for (number, size) in sizes.enumerated() {
            let row = arena.take(size)
            #expect(row.array.allSatisfy { $0 == 0 })
            #expect(unsafe Int(bitPattern: row.bytes.baseAddress) % 64 == 0)
            row.fill(Float(number))
            rows.append(row)
        }
        #expect(arena.used == arena.capacity)
        for (number, row) in rows.enumerated() { #expect(row.array.allSatisfy { $0 == Float(number) }) }
        withExtendedLifetime(arena) {}
    }

    @Test func anArenaThatTheSystemRefusesSaysSo() {
        let fault = #expect(throws: OutOfMemory.self) { try Arena(name: "dreams", capacity: 1 << 58) }
        #expect(fault?.kind.exitCode == 1)
        #expect(fault?.description.contains("for dreams; lower training.max_tokens_per_task") == true)
    }

    @Test func misuseTraps() async {
        await #expect(processExitsWith: .failure) { _ = FencedMemory().row(4).slice(2, 3) }
        await #expect(processExitsWith: .failure) { _ = FencedMemory().matrix(3, 4).row(3) }
        await #expect(processExitsWith: .failure) { _ = FencedMemory().matrix(3, 4).columns(2, 3) }
        await #expect(processExitsWith: .failure) { _ = Matrix(FencedMemory().row(11), rows: 3, columns: 4) }
        await #expect(processExitsWith: .failure) { try Arena(name: "small", capacity: 8).take(9).fill(0) }
        await #expect(processExitsWith: .failure) { _ = targets([1, 2])[2] }
    }
}
