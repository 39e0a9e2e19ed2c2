import Base

/// What keeps a job from being started. What happens to its ranks afterwards is an `Outcome`.
enum LaunchError: Fault, Equatable {
    /// The machine refuses something that has nothing to do with the input: a process, a pipe, a folder.
    case refused(what: String, problem: String)

    var kind: FaultKind { .running }

    var description: String {
        switch self {
        case .refused(let what, let problem): "cannot \(what): \(problem)"
        }
    }
}
