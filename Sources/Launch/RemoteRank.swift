import Base

/// How a rank is started on another machine, and ended with the launcher.
///
/// `ssh HOST SCRIPT` runs a shell there, whose input is a pipe from here: its first line is the job's secret, each
/// other line the name of a signal for the rank; where it ends, however it does (a launcher that was killed, a cable
/// that was cut), the rank is killed. So the secret is in no argument and no variable, and no rank outlives its
/// launcher.
public struct RemoteShell: Sendable, Equatable {
    /// The program and its options, to which the machine and the script are added.
    public var command: [String]
    /// The folder to be in there, and the program there.
    public var folder: String
    public var program: String
    /// More variables for the ranks.
    public var variables: [String: String]

    public init(command: [String], folder: String, program: String, variables: [String: String] = [:]) {
        self.command = command
        self.folder = folder
        self.program = program
        self.variables = variables
    }

    package func command(for host: String, arguments: [String], environment: [String: String]) -> [String] {
        let pairs = environment.merging(variables) { $1 }.sorted { $0.key < $1.key }
        let assignments = pairs.map { "\($0.key)=\(quoted($0.value))" }.joined(separator: " ")
        let words = ([program] + arguments).map(quoted).joined(separator: " ")
        let script = """
            u=$(umask); umask 077; f=$(mktemp "${TMPDIR:-/tmp}/skein-secret-XXXXXX") || exit 1
            read -r s; printf '%s\\n' "$s" >"$f"
            cd \(quoted(folder)) || { rm -f "$f"; exit 2; }; umask "$u"; exec 3<&0
            \(assignments) SKEIN_SECRET_FILE="$f" \(words) </dev/null 3<&- & p=$!
            { while read -r s <&3; do kill -s "$s" $p; done; rm -f "$f"; kill -9 $p; } >/dev/null 2>&1 & w=$!
            exec 3<&-; wait $p; c=$?; kill $w 2>/dev/null; rm -f "$f"; exit $c
            """
        return command + [host, script]
    }
}

/// A word as any shell reads it back.
private func quoted(_ word: String) -> String { "'" + word.replacing("'", with: "'\\''") + "'" }
