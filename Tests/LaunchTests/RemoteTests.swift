import Base
import Foundation
import Launch
import Testing
import Wire

/// Ranks on other machines, which are this one: in place of ssh a script takes the machine's name and runs what the
/// other machine's shell would.
@Suite struct RemoteTests {
    /// What it starts is in no group of the launcher's, as on another machine.
    private static let ssh = """
        echo "$1" >> "$PLACE/hosts"; exec 4<&0; setsid /bin/sh -c "$2" <&4 4<&- & wait $!
        """

    private func run(_ trial: Trial, _ hosts: [JobHost], _ script: String, folder: String? = nil,
                     ssh: String = RemoteTests.ssh) throws {
        try Data("#!/bin/sh\n\(ssh)\n".utf8).write(to: URL(fileURLWithPath: trial.place + "/ssh"))
        let shell = RemoteShell(command: ["/bin/sh", trial.place + "/ssh"], folder: folder ?? trial.place,
                                program: "/bin/sh", variables: ["GREETING": "it's \"two\" words"])
        try trial.run(ranks: hosts.reduce(0) { $0 + $1.slots }, script, change: {
            $0.on(hosts, shell: shell, master: ("node1", 29_511))
        })
    }

    private static let two = [JobHost(name: "me@node1", slots: 2), JobHost(name: "node2")]

    @Test func everyRankIsToldItsPlaceAndTheSecret() throws {
        let trial = try Trial()
        try run(trial, Self.two, """
            echo "$RANK $WORLD_SIZE $LOCAL_RANK $LOCAL_WORLD_SIZE $MASTER_ADDR $MASTER_PORT $GREETING $PWD"
            stat -c %a "$SKEIN_SECRET_FILE" > "$PLACE/mode-$RANK"; cat "$SKEIN_SECRET_FILE" > "$PLACE/secret-$RANK"
            chmod 600 "$PLACE/secret-$RANK"; echo "$SKEIN_SECRET_FILE" > "$PLACE/file-$RANK"
            """)
        #expect(trial.code == 0, "\(trial.errors)")
        let end = "node1 29511 it's \"two\" words \(trial.place)"
        #expect(Set(trial.output) == ["0 3 0 2 \(end)", "[rank 1] 1 3 1 2 \(end)", "[rank 2] 2 3 0 1 \(end)"])
        #expect(trial.lines("hosts").sorted() == ["me@node1", "me@node1", "node2"])
        for rank in 0..<3 {
            #expect(trial.lines("mode-\(rank)") == ["600"])
            #expect(try JobSecret.load(from: "\(trial.place)/secret-\(rank)")
                == JobSecret.load(from: "\(trial.place)/secret-0"))
            #expect(!FileManager.default.fileExists(atPath: trial.lines("file-\(rank)")[0]))
        }
    }

    /// What ranks write has the rights that their user's files have there; only the secret is closer.
    @Test func filesHaveTheUsersRights() throws {
        let trial = try Trial()
        try run(trial, Self.two, "umask; stat -c %a \"$SKEIN_SECRET_FILE\"",
                ssh: "umask 027; exec /bin/sh -c \"$2\"")
        #expect(trial.code == 0 && Set(trial.output.map { $0.suffix(4) }) == ["0027", "600", " 600"],
                "\(trial.output)")
    }

    /// A rank's exit code, and the signal that killed it, come through the other machine's shell.
    @Test func endsComeThrough() throws {
        for (end, code, line) in [("echo 'skein: no data' >&2; exit 2", 2, "rank 2: no data"),
                                  ("kill -9 $$", 1, "rank 2 was killed by signal 9 (Killed)")] {
            let trial = try Trial()
            trial.channels.grace = 0
            try run(trial, Self.two, "[ $RANK = 2 ] || exec sleep 600; \(end)")
            #expect(trial.code == code && trial.lastError.hasPrefix("skein: \(line)"), "\(trial.errors)")
        }
    }

    /// The ranks do not outlive the launcher's end, though they are nobody's children here.
    @Test func nobodyIsLeftBehind() throws {
        let trial = try Trial()
        trial.channels.grace = 0
        try run(trial, Self.two, """
            echo $$ > "$PLACE/.pid-$RANK"; mv "$PLACE/.pid-$RANK" "$PLACE/pid-$RANK"
            echo "$SKEIN_SECRET_FILE" > "$PLACE/file-$RANK"
            if [ $RANK = 0 ]; then hear pid-1 >/dev/null; hear pid-2 >/dev/null; exit 1; fi; exec sleep 600
            """)
        #expect(trial.code == 1 && trial.areGone(["pid-0", "pid-1", "pid-2"]))
        for rank in 0..<3 { #expect(!FileManager.default.fileExists(atPath: trial.lines("file-\(rank)")[0])) }
    }

    /// The first request reaches the ranks as a signal, and they end as they like. (A shell in the background has
    /// SIGINT ignored and cannot trap it, other programs can.)
    @Test func requestsComeThrough() throws {
        let trial = try Trial()
        let place = trial.place
        trial.channels.requests = {
            let files = (0..<3).map { "\(place)/ready-\($0)" }
            return files.allSatisfy { FileManager.default.fileExists(atPath: $0) } ? (1, SIGTERM) : (0, 0)
        }
        try run(trial, Self.two, """
            trap 'echo saved; exit 0' TERM; tell ready-$RANK yes; while :; do sleep 0.02; done
            """)
        #expect(trial.code == 0, "\(trial.errors)")
        #expect(Set(trial.output) == ["saved", "[rank 1] saved", "[rank 2] saved"])
    }

    @Test func machinesThatAreNotThere() throws {
        let trial = try Trial()
        trial.channels.grace = 0
        try run(trial, Self.two, "sleep 600", ssh: "echo \"ssh: no route to $1\" >&2; exit 255")
        #expect(trial.code == 1 && trial.lastError.hasPrefix("skein: rank ")
            && trial.lastError.contains("ssh: no route to"), "\(trial.errors)")
        let other = try Trial()
        other.channels.grace = 0
        try run(other, Self.two, "sleep 600", folder: "/nowhere")
        #expect(other.code == 2 && other.errors.contains { $0.contains("/nowhere") }, "\(other.errors)")
    }
}

@Suite struct RestartTests {
    /// A rank that is killed brings all back, with the arguments of a new start, as often as is allowed.
    @Test(arguments: 0...3) func startsAgain(allowed: Int) throws {
        let trial = try Trial()
        trial.channels.grace = 0
        try trial.run(ranks: 3, """
            echo "$RANK $*" >> "$PLACE/starts"
            if [ $RANK = 1 ] && [ "$(grep -c '^1' "$PLACE/starts")" -le 2 ]; then kill -9 $$; fi
            [ $RANK = 1 ] || while [ "$(grep -c '^1' "$PLACE/starts")" -le 2 ]; do sleep 0.01; done
            """, arguments: ["sh", "once"], change: { $0.restarting(allowed, adding: ["more"]) })
        let starts = trial.lines("starts").filter { $0.hasPrefix("1") }
        #expect(starts == (["1 once", "1 once more", "1 once more"]).prefix(min(allowed, 2) + 1).map { $0 })
        #expect(trial.code == (allowed < 2 ? 1 : 0), "\(trial.errors)")
        let said = trial.errors.filter { $0.contains("starting again from the latest checkpoint") }
        #expect(said.count == min(allowed, 2) && said.allSatisfy { $0.contains("rank 1 was killed by signal 9") })
        #expect(allowed < 1 || said[0].hasSuffix("(1 of \(allowed))"))
    }

    /// What is wrong with the input will be wrong again.
    @Test func badInputIsFinal() throws {
        let trial = try Trial()
        try trial.run(ranks: 2, "echo x >> \"$PLACE/starts\"; echo 'skein: bad' >&2; exit 2", change: {
            $0.restarting(3, adding: [])
        })
        #expect(trial.code == 2 && trial.lines("starts").count <= 2)
    }
}

@Suite struct RankLogTests {
    @Test func aFileForEachRankAndTheFirstFailureOnTop() throws {
        let trial = try Trial()
        trial.channels.logs = trial.place + "/logs"
        try trial.run(ranks: 3, """
            i=0; while [ $i -lt 30 ]; do echo "line $i of $RANK"; i=$((i + 1)); done
            case $RANK in
            1) echo "skein: the cause" >&2; tell pid $$; exit 1 ;;
            *) gone $(hear pid); echo "skein: rank 1 is gone" >&2; exit 1 ;;
            esac
            """)
        #expect(trial.code == 1)
        for rank in 0..<3 {
            let lines = trial.lines("logs/rank-\(rank).log")
            #expect(lines.filter { $0.hasPrefix("line") } == (0..<30).map { "line \($0) of \(rank)" })
            #expect(lines.contains(rank == 1 ? "skein: the cause" : "skein: rank 1 is gone"))
        }
        let failure = trial.lines("logs/failure.txt")
        #expect(failure[0] == "rank 1: the cause")
        let heads = failure.filter { $0.hasPrefix("rank ") && $0.hasSuffix("has all):") }.map { $0.prefix(6) }
        #expect(heads == ["rank 1", "rank 0", "rank 2"])
        #expect(!failure.contains("line 0 of 1") && failure.contains("line 29 of 1"))
        // A job that does well leaves no failure, and its lines come behind.
        try trial.run(ranks: 3, "echo again")
        #expect(trial.lines("logs/rank-2.log").last == "again" && trial.lines("logs/failure.txt") == [])
    }

    @Test func aPlaceThatCannotBe() throws {
        let trial = try Trial()
        trial.channels.logs = "/dev/null/logs"
        let error = #expect(throws: BadInput.self) { try trial.run(ranks: 2, "exit 0") }
        #expect(error?.description.hasPrefix("--logs: cannot write /dev/null/logs") == true)
    }
}
