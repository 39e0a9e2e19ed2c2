/// What goes wrong in a simulated cluster, besides delays and strangers.
package enum Misfortune: CaseIterable, Sendable {
    case nothing
    /// The process dies.
    case killed
    /// The process is stopped and never goes on.
    case stopped
    /// Every link of the rank's is cut, and nobody hears of it.
    case cutOff
    /// Stopped, or cut off, for less than the heartbeat's deadline.
    case hiccup, flicker
    /// Stopped during the start for longer than a handshake has patience.
    case longHiccup
    /// A bit flips on its way from the rank to another one.
    case damaged
    /// A connection between the rank and another one breaks.
    case disconnected
    /// The rank never comes.
    case absent
    /// It comes long after the others.
    case late
    /// It is started twice.
    case twin
    /// A process with another secret takes itself for the rank.
    case impostor

    /// What a job may go on after.
    static let survivable: [Misfortune] = [.killed, .stopped, .cutOff, .disconnected, .damaged, .hiccup]

    /// Whether the job must end well all the same.
    var isHarmless: Bool {
        switch self {
        case .nothing, .hiccup, .flicker, .late, .twin, .impostor: true
        case .killed, .stopped, .cutOff, .longHiccup, .damaged, .disconnected, .absent: false
        }
    }
}

/// What a simulated run came to, in one line for each process, and what is wrong with it.
package struct ClusterReport: Sendable, Equatable {
    package let seed: UInt64
    package let misfortune: Misfortune
    package let lines: [String]
    /// Empty for a run as it should be.
    package let wrongs: [String]
    /// Processes that ended with their sums, with an error of the start, and with a fault later.
    package let finished: Int
    package let startsFailed: Int
    package let failed: Int
    /// Processes that agreed on another life of their job, and that left after a fault because they have no part in it.
    package let goOn: Int
    package let retired: Int
    /// Virtual nanoseconds until the last process had ended.
    package let nanoseconds: UInt64
    /// A hash of everything that happened, and when.
    package let trace: UInt64
    package let strangers: Int

    package var description: String {
        (["seed \(seed): \(misfortune)"] + wrongs.map { "  WRONG: \($0)" } + lines.map { "  " + $0 })
            .joined(separator: "\n")
    }
}
