import Base
import Recipe

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// What a launcher does for a job that goes on after faults: it looks at where the survivors say that they wait for
/// others (`Meeting`), and starts as many processes as are missing. A process of an earlier life that stands still has
/// no part in the job any more; it is ended, so that nothing that it holds (the folder's lock, memory) stays with it.
struct Replacements {
    /// The file in which survivors say so.
    private let path: String
    /// Processes that shall wait at any time.
    private let spares: Int
    /// The last life whose places were looked at.
    private var epoch: UInt32 = 0
    /// Processes that wait for a place, as far as is known.
    private(set) var waiting = 0

    init(_ setting: Job.Succession) {
        path = setting.meeting
        spares = setting.spares
        // What another job has left in this folder is nobody's meeting.
        unsafe unlink(path)
    }

    /// How many processes to start at the beginning.
    mutating func begin() -> Int {
        waiting = spares
        return spares
    }

    /// A process that waited has ended before anybody needed it.
    mutating func lost() { waiting = max(0, waiting - 1) }

    /// What is new since the last look: how many processes to start, and which are part of the next life already.
    mutating func look() -> (start: Int, members: [Int])? {
        guard let text = try? readText(path), let (meeting, _) = Meeting.read(text), meeting.epoch > epoch,
              !meeting.isOver else { return nil }
        epoch = meeting.epoch
        let start = max(0, meeting.open + spares - waiting)
        waiting = waiting + start - meeting.open
        return (start, meeting.processes)
    }
}
