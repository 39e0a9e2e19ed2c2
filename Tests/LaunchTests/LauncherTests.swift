import Base
import Foundation
import Launch
import Testing
import Wire

@Suite struct LauncherTests {
    /// Lines of several ranks never run into each other, whatever pieces they are written in.
    @Test func wholeLinesWithTheRankBeforeThem() throws {
        let trial = try Trial()
        try trial.run(ranks: 4, """
            i=0; while [ $i -lt 100 ]; do
                printf 'line '; printf '%s' $i; printf ' of %s\\n' $RANK; printf 'error %s\\n' $i >&2; i=$((i + 1))
            done
            printf 'no end'
            """)
        #expect(trial.code == 0)
        for rank in 0..<4 {
            let prefix = rank == 0 ? "" : "[rank \(rank)] "
            let lines = trial.output.filter { $0.hasSuffix(" of \(rank)") }
            #expect(lines == (0..<100).map { "\(prefix)line \($0) of \(rank)" })
            #expect(trial.output.filter { $0 == "\(prefix)no end" }.count == 1)
            #expect(trial.errors.filter { $0.hasPrefix(rank == 0 ? "error" : prefix) }
                == (0..<100).map { "\(prefix)error \($0)" })
        }
        #expect(trial.output.count == 404 && trial.errors.count == 400)
    }

    @Test func everyRankIsToldItsPlaceAndTheSecret() throws {
        let trial = try Trial()
        try trial.run(ranks: 3, """
            echo "$RANK $WORLD_SIZE $LOCAL_RANK $LOCAL_WORLD_SIZE $MASTER_ADDR" > "$PLACE/told-$RANK"
            echo "$MASTER_PORT" > "$PLACE/port-$RANK"
            echo "$SKEIN_SECRET_FILE" > "$PLACE/file-$RANK"
            stat -c %a "$SKEIN_SECRET_FILE" "$(dirname "$SKEIN_SECRET_FILE")" > "$PLACE/mode-$RANK"
            (umask 077; cat "$SKEIN_SECRET_FILE" > "$PLACE/secret-$RANK")
            """)
        #expect(trial.code == 0 && trial.errors == [])
        for rank in 0..<3 {
            #expect(trial.lines("told-\(rank)") == ["\(rank) 3 \(rank) 3 127.0.0.1"])
            #expect(trial.lines("mode-\(rank)") == ["600", "700"])
            #expect(trial.text("port-\(rank)") == trial.text("port-0"))
            let secret = try JobSecret.load(from: "\(trial.place)/secret-\(rank)")
            #expect(try secret == JobSecret.load(from: "\(trial.place)/secret-0"))
        }
        #expect((1...65_535).contains(Int(trial.lines("port-0")[0]) ?? 0))
        let file = trial.lines("file-0")[0]
        #expect(!FileManager.default.fileExists(atPath: file))
        #expect(!FileManager.default.fileExists(atPath: (file as NSString).deletingLastPathComponent))
    }

    @Test func oneRankNeedsNoSecret() throws {
        let trial = try Trial()
        try trial.run(ranks: 1, "echo \"${SKEIN_SECRET_FILE-none} $WORLD_SIZE\"; echo 'skein: bad' >&2; exit 2",
                      makeSecret: { Issue.record("a secret for one rank in \($0)") })
        #expect(trial.output == ["none 1"])
        #expect(trial.code == 2 && trial.errors == ["skein: bad"])
    }

    @Test(arguments: 0...5) func exitCodes(_ code: Int) throws {
        let trial = try Trial()
        try trial.run(ranks: 3, "[ $RANK = 1 ] || exit 0; echo 'skein: the reason' >&2; echo noise >&2; exit \(code)")
        #expect(trial.code == (code == 0 ? 0 : code == 2 ? 2 : 1))
        #expect(trial.lastError == (code == 0 ? "[rank 1] noise" : "skein: rank 1: the reason"))
    }

    /// The others have time to say what they saw; the first failure is still the last line.
    @Test func theFirstFailureIsToldLast() throws {
        let trial = try Trial()
        try trial.run(ranks: 4, """
            case $RANK in
            2) tell pid $$; kill -9 $$ ;;
            *) gone $(hear pid); echo "skein: rank 2 is gone" >&2; exit 1 ;;
            esac
            """)
        #expect(trial.code == 1)
        #expect(Set(trial.errors.dropLast()) == ["skein: rank 2 is gone", "[rank 1] skein: rank 2 is gone",
                                                 "[rank 3] skein: rank 2 is gone"])
        #expect(trial.lastError.hasPrefix("skein: rank 2 was killed by signal 9 (Killed)"))
    }

    /// Those who do not leave are killed, and what they have started with them.
    @Test func nobodyIsLeftBehind() throws {
        let trial = try Trial()
        trial.channels.grace = 0.3
        try trial.run(ranks: 4, """
            trap '' INT TERM HUP
            sleep 1000 & tell child-$RANK $!
            tell self-$RANK $$
            [ $RANK = 3 ] || wait
            for r in 0 1 2; do hear self-$r; done
            exit 7
            """)
        #expect(trial.code == 1 && trial.lastError == "skein: rank 3: ended with exit code 7 and without a word")
        #expect(trial.areGone((0..<4).flatMap { ["child-\($0)", "self-\($0)"] }))
    }

    /// A child that a rank leaves behind on a good end goes, too, and does not keep the launcher waiting.
    @Test func aGoodEndLeavesNobodyBehind() throws {
        let trial = try Trial()
        try trial.run(ranks: 2, "sleep 1000 & tell child-$RANK $!; echo done")
        #expect(trial.code == 0 && trial.output.sorted() == ["[rank 1] done", "done"])
        #expect(trial.areGone(["child-0", "child-1"]))
    }

    /// A stopped rank says nothing more: nobody waits for it once another has failed.
    @Test func stoppedRanksAreNotWaitedFor() throws {
        let trial = try Trial()
        try trial.run(ranks: 3, """
            [ $RANK = 1 ] && { tell pid $$; kill -STOP $$; }
            pid=$(hear pid)
            until grep -q '^State:.T' /proc/$pid/status; do sleep 0.01; done
            echo "skein: rank 1 is silent" >&2; exit 1
            """)
        #expect(trial.code == 1 && trial.lastError.hasSuffix(": rank 1 is silent") && trial.areGone(["pid"]))
    }

    @Test(arguments: [SIGINT, SIGTERM]) func theFirstRequestLetsRanksSave(_ signal: Int32) throws {
        let trial = try Trial()
        trial.channels.requests = { [place = trial.place] in
            let ready = (0..<3).allSatisfy { FileManager.default.fileExists(atPath: "\(place)/ready-\($0)") }
            return ready ? (1, signal) : (0, 0)
        }
        try trial.run(ranks: 3, """
            trap 'echo saved by INT; exit 0' INT; trap 'echo saved by TERM; exit 0' TERM
            tell ready-$RANK yes
            while :; do sleep 0.01; done
            """)
        let word = signal == SIGINT ? "INT" : "TERM"
        // The shell itself tells that its sleep was terminated; the launcher has nothing to say.
        #expect(trial.code == 0 && !trial.errors.contains { $0.hasPrefix("skein:") })
        #expect(trial.output.sorted() == ["[rank 1] saved by \(word)", "[rank 2] saved by \(word)", "saved by \(word)"])
    }

    @Test func theSecondRequestEnds() throws {
        let trial = try Trial()
        trial.channels.patience = 0.1
        trial.channels.requests = { [place = trial.place] in
            func all(_ name: String) -> Bool {
                (0..<2).allSatisfy { FileManager.default.fileExists(atPath: "\(place)/\(name)-\($0)") }
            }
            return all("once") ? (2, SIGINT) : all("ready") ? (1, SIGINT) : (0, 0)
        }
        try trial.run(ranks: 2, """
            trap 'tell once-$RANK yes' INT
            tell ready-$RANK $$
            while :; do sleep 0.01; done
            """)
        #expect(trial.code == 1 && trial.errors == ["skein: stopped at once on the second request, without saving"])
        #expect(trial.areGone(["ready-0", "ready-1"]))
    }

    @Test func aRequestThatComesTooEarly() throws {
        let trial = try Trial()
        trial.channels.requests = { [place = trial.place] in
            let ready = (0..<2).allSatisfy { FileManager.default.fileExists(atPath: "\(place)/ready-\($0)") }
            return ready ? (1, SIGTERM) : (0, 0)
        }
        try trial.run(ranks: 2, "tell ready-$RANK yes; while :; do sleep 0.01; done")
        #expect(trial.code == 1)
        #expect(trial.lastError.hasPrefix("skein: rank ") && trial.lastError.contains("by signal 15 (Terminated)"))
        #expect(trial.lastError.hasSuffix(" on request, before it could save"))
    }

    /// Rank 0 says in Wire's words that its port is taken; there is a second attempt and no third. Rank 1, which
    /// knows nothing of it, is not given the time that the others have after a failure.
    @Test(arguments: [1, 2]) func aTakenPortIsTriedOnceMore(_ times: Int) throws {
        let trial = try Trial()
        trial.channels.grace = times == 1 ? 0.1 : 600
        let words = "\(WireError.cannotListen(address: "127.0.0.1:$MASTER_PORT", problem: "Address already in use"))"
        try trial.run(ranks: 2, """
            try=$([ -e "$PLACE/try-1" ] && echo 2 || echo 1)
            [ $RANK = 0 ] || { tell sleeper-$try $$; exec sleep 1000; }
            hear sleeper-$try >&2
            tell try-$try $MASTER_PORT
            [ $try -gt \(times) ] || { echo "skein: \(words)" >&2; exit 2; }
            exit 5
            """)
        #expect(trial.areGone(["sleeper-1", "sleeper-2"]))
        #expect(!trial.text("try-1").isEmpty && !trial.text("try-2").isEmpty)
        #expect(trial.code == (times == 1 ? 1 : 2))
        #expect(trial.errors.filter { $0.contains("starting again") }.count == 1)
        if times == 2 { #expect(trial.lastError.hasPrefix("skein: cannot listen on 127.0.0.1:")) }
    }

    @Test func whatCannotStartLeavesNothing() throws {
        let trial = try Trial()
        var secret = ""
        do {
            try trial.run(ranks: 2, "", program: "/no/such/program") { path in
                secret = path
                try JobSecret.create(at: path)
            }
            Issue.record("started")
        } catch let fault as any Fault {
            #expect("\(fault)" == "cannot start /no/such/program: No such file or directory")
            #expect(fault.kind == .running)
        }
        #expect(secret.hasSuffix("/secret") && !FileManager.default.fileExists(atPath: secret))
        let other = try Trial()
        #expect(throws: BadInput("no entropy")) {
            try other.run(ranks: 2, "") { _ in throw BadInput("no entropy") }
        }
    }
}
