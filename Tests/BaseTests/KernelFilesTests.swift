import Base
import Testing

@Suite struct KernelFilesTests {
    @Test func listsOfNumbers() {
        #expect(KernelFiles.numbers("0-3,8\n") == [0, 1, 2, 3, 8])
        #expect(KernelFiles.numbers("\t5") == [5])
        for broken in ["", "a", "3-1", "1-", "-2", "0-9999999999", "1,,x"] {
            #expect(KernelFiles.numbers(broken) == nil, "\(broken)")
        }
    }

    @Test func missingFilesHaveNoLines() {
        #expect(KernelFiles.lines(of: "/proc/nothing").isEmpty)
        #expect(KernelFiles.line(of: "/proc/self/status", beginning: "Name:") != nil)
    }
}
