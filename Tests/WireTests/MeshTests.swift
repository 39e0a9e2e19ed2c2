import Base
import Testing
import Wire
#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

@Suite(.serialized) struct MeshTests {
    @Test(arguments: [2, 3, 4]) func exchange(worldSize: Int) throws {
        let reports = runJob(worldSize: worldSize) { mesh in
            try exchangeRandomMessages(mesh, count: 60)
            try mesh.leave()
        }
        for report in reports { #expect(report == nil) }
    }
}
