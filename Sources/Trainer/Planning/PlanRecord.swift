import Base
import Foundation
import Planner
import Recipe

/// A step's plan as `plans.jsonl` has it, a line for each step, behind the step's number.
package struct PlanRecord: Sendable, Equatable, Codable {
    /// How many documents it is for, and a checksum of where they begin and end.
    package var documents: Int
    package var check: UInt32
    /// When it should end, and before which no plan could have ended.
    package var seconds: Double
    package var bound: Double
    package var tasks: [PlannerTask]

    package init(_ plan: StepPlan, documents: [Range<Int>], seconds: Double, bound: Double) {
        (self.documents, check) = (documents.count, Self.check(documents))
        (self.seconds, self.bound, tasks) = (seconds, bound, plan.tasks)
    }

    static func check(_ documents: [Range<Int>]) -> UInt32 {
        var writer = ByteWriter()
        for document in documents { writer.append(UInt32(document.lowerBound)) }
        writer.append(UInt32(documents.last?.upperBound ?? 0))
        return CRC32C.checksum(writer.bytes)
    }

    /// One line.
    package var json: String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        // Encoding finite numbers and strings cannot fail.
        guard let data = try? encoder.encode(self) else { preconditionFailure("a plan that is not finite") }
        return String(decoding: data, as: UTF8.self)
    }
}

/// Plans of another run, for `planner.replay`. Rank 0 reads them, for the others need not see its disk.
package struct PlanReplay {
    private let path: String
    /// By number of the step, 1 being the first. Empty on other ranks.
    private let lines: [Int: Substring]
    private let world: World

    /// Throws, on rank 0: a file that cannot be read, or holds no plan.
    package init(_ path: String, by world: World) throws(BadInput) {
        (self.path, self.world) = (path, world)
        guard world.rank == 0 else {
            lines = [:]
            return
        }
        var lines: [Int: Substring] = [:]
        for line in try readText(path).split(separator: "\n") {
            guard line.hasPrefix("{\"step\":") else { continue }
            if let step = Int(line.dropFirst(8).prefix { $0.isNumber }) { lines[step] = line }
        }
        if lines.isEmpty {
            throw BadInput("planner.replay = \"\(path)\" holds no plan; name the plans.jsonl of a run with planned "
                + "steps")
        }
        self.lines = lines
    }

    /// The plan of step `step` (0 is the first), on all ranks.
    package func record(of step: Int) throws -> PlanRecord {
        var own: [UInt8] = []
        if world.rank == 0 {
            guard let line = lines[step + 1] else {
                throw BadInput("planner.replay = \"\(path)\" has no plan of step \(step + 1), but of "
                    + "\(lines.keys.min() ?? 0) to \(lines.keys.max() ?? 0); end there by training.steps, or begin "
                    + "where it begins")
            }
            own = Array(line.utf8)
        }
        let text = try world.gather(own)[0]
        do {
            return try JSONDecoder().decode(PlanRecord.self, from: Data(text))
        } catch {
            throw BadInput("\(place(step)) is damaged; let the run that made it write it again")
        }
    }

    package func place(_ step: Int) -> String { "the plan of step \(step + 1) in planner.replay = \"\(path)\"" }
}
