import Base
import Foundation
import Testing

/// The scripts in launch/, with stand-ins for mpirun, srun and ssh that start their processes here.
@Suite struct ScriptTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path

    /// Runs a script of launch/ in a folder where programs of the given names are found first.
    private func run(_ script: String, _ arguments: [String], in place: borrowing Workplace, stand: [String: String],
                     variables: [String: String] = [:]) throws -> (code: Int32, text: String) {
        for (name, body) in stand {
            try place.write("bin/" + name, "#!/bin/bash\n" + body)
            try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: place.path + "/bin/" + name)
        }
        let process = Process(), file = place.path + "/.script.out"
        process.executableURL = URL(fileURLWithPath: "/bin/bash")
        process.arguments = [Self.root + "/launch/" + script] + arguments
        process.currentDirectoryURL = URL(fileURLWithPath: place.path)
        process.environment = ProcessInfo.processInfo.environment.merging(
            ["SKEIN": Program.path, "PATH": place.path + "/bin:/usr/local/bin:/usr/bin:/bin"]) { $1 }
            .merging(variables) { $1 }
        _ = FileManager.default.createFile(atPath: file, contents: nil)
        let output = try FileHandle(forWritingTo: URL(fileURLWithPath: file))
        (process.standardOutput, process.standardError) = (output, output)
        process.standardInput = FileHandle.nullDevice
        // Threads that tests run on block signals, and a shell keeps what it inherits: no warning would reach it.
        var (none, own) = (sigset_t(), sigset_t())
        unsafe sigemptyset(&none)
        unsafe pthread_sigmask(SIG_SETMASK, &none, &own)
        defer { unsafe pthread_sigmask(SIG_SETMASK, &own, nil) }
        try process.run()
        process.waitUntilExit()
        return (process.terminationStatus, try String(contentsOfFile: file, encoding: .utf8))
    }

    private static let train = ["run.toml", "--training.global_batch_size", "8"]

    private func secrets(_ place: borrowing Workplace) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: place.path).filter { $0.contains("secret") }
    }

    @Test func mpi() throws {
        let place = try Workplace()
        let mpirun = """
            [ "$1" = --version ] && { echo "mpirun (Open MPI) 4.1.4"; exit; }
            echo "$@" > told; [ "$1" = -n ] || exit 9; n=$2; shift 2
            [ "$1 $2 $3 $4" = "-x SKEIN_SECRET_FILE -x TERM" ] || exit 8; shift 4
            export OMPI_COMM_WORLD_SIZE=$n OMPI_COMM_WORLD_LOCAL_SIZE=$n MASTER_PORT=\(freePort())
            for ((i = 0; i < n; i++)); do
                OMPI_COMM_WORLD_RANK=$i OMPI_COMM_WORLD_LOCAL_RANK=$i "$@" & pids+=($!)
            done
            for pid in "${pids[@]}"; do wait "$pid" || exit; done
            """
        let done = try run("mpi", ["-n", "2", "--"] + Self.train, in: place, stand: ["mpirun": mpirun])
        #expect(done.code == 0 && done.text.contains("2 ranks of") && done.text.contains("step 4/4"), "\(done.text)")
        #expect(try secrets(place) == [])
        let bad = try run("mpi", ["-n", "2", "--", "gone.toml"], in: place, stand: [:])
        #expect(bad.code == 2 && bad.text.contains("gone.toml"), "\(bad.text)")
        for arguments in [["-n", "2"], ["--"]] {
            #expect(try run("mpi", arguments, in: place, stand: [:]).code == 2)
        }
    }

    /// A batch script's tasks, and the same job again after it was requeued, which goes on.
    @Test func slurm() throws {
        let place = try Workplace()
        let srun = """
            [ "$1 $2" = "--kill-on-bad-exit=1 --label" ] || exit 9; shift 2
            export SLURM_NTASKS=2 SLURM_NTASKS_PER_NODE=2 SLURM_STEP_ID=0 SLURM_STEP_NODELIST=localhost
            export MASTER_PORT=\(freePort())
            for i in 0 1; do SLURM_PROCID=$i SLURM_LOCALID=$i "$@" & pids+=($!); done
            for pid in "${pids[@]}"; do wait "$pid" || exit; done
            """
        let job = ["SLURM_SUBMIT_DIR": place.path, "SLURM_JOB_ID": "77", "ENVIRONMENT": "BATCH"]
        let done = try run("slurm.sbatch", Self.train, in: place, stand: ["srun": srun], variables: job)
        #expect(done.code == 0 && done.text.contains("2 ranks of") && done.text.contains("step 4/4"), "\(done.text)")
        #expect(try secrets(place) == [])
        let again = try run("slurm.sbatch", Self.train + ["--training.steps", "6"], in: place, stand: ["srun": srun],
                            variables: job.merging(["SLURM_RESTART_COUNT": "1"]) { $1 })
        #expect(again.code == 0 && again.text.contains("from step 4"), "\(again.text)")
        let none = try run("slurm.sbatch", [], in: place, stand: [:], variables: job)
        #expect(none.code == 2 && none.text.contains("takes a config"))
    }

    /// Slurm's warning reaches the script alone, two minutes before the end. The tasks save and end, the job is queued
    /// again, which ends the script at once, and its next life goes on to the weights of a job that had the time.
    @Test func slurmWarns() throws {
        let place = try Workplace(), train = Self.train + ["--training.steps", "400", "--model.dim", "64"]
        // Hands the signal on, as srun does. The first life is warned when it has trained for a few steps, or has
        // ended too soon.
        let srun = """
            shift 2; log=outputs/tiny/metrics.jsonl
            export SLURM_NTASKS=2 SLURM_NTASKS_PER_NODE=2 SLURM_STEP_ID=0 SLURM_STEP_NODELIST=localhost
            export MASTER_PORT=\(freePort())
            for i in 0 1; do SLURM_PROCID=$i SLURM_LOCALID=$i "$@" & pids+=($!); done
            trap 'kill -USR1 "${pids[@]}"' USR1
            if [ -n "${WARN:-}" ]; then
                until [ "$(wc -l 2>/dev/null < $log)" -ge 5 ] 2>/dev/null; do
                    kill -0 "${pids[@]}" 2>/dev/null || break
                    sleep 0.01
                done
                kill -USR1 $PPID
            fi
            for pid in "${pids[@]}"; do
                while kill -0 "$pid" 2>/dev/null; do code=0; wait "$pid" || code=$?; done
                [ "${code:-0}" = 0 ] || exit "$code"
            done
            """
        let job = ["SLURM_SUBMIT_DIR": place.path, "SLURM_JOB_ID": "78", "ENVIRONMENT": "BATCH"]
        let requeue = "echo \"$*\" >> asked; ls -a | grep -c secret >> asked; kill -9 $PPID"
        let stand = ["srun": srun, "scontrol": requeue]
        func life(_ name: String, _ variables: [String: String]) throws -> (code: Int32, text: String) {
            try run("slurm.sbatch", train + ["--job.name", name], in: place, stand: stand,
                    variables: job.merging(variables) { $1 })
        }
        let first = try life("tiny", ["WARN": "1"])
        #expect(first.code == 9 && first.text.contains("the job is queued again"), "\(first.text)")
        #expect(try String(contentsOfFile: place.path + "/asked", encoding: .utf8) == "requeue 78\n0\n")
        let second = try life("tiny", ["SLURM_RESTART_COUNT": "1"])
        #expect(second.code == 0 && second.text.contains("step 400/400") && !second.text.contains("queued"),
                "\(second.text)")
        #expect(try life("calm", [:]).code == 0)
        let diff = try place.run("inspect", "outputs/calm", "--diff", "outputs/tiny", "--json")
        let tensors = diff.out.split(separator: "\n").filter { $0.contains("\"tensor\":") }
        #expect(tensors.count > 20 && tensors.allSatisfy { $0.contains("\"different\":0,\"") }, "\(diff.out)")
    }

    /// A job that is not to be queued again stays ended, with its checkpoint; one that cannot be says so.
    @Test(arguments: [(["SKEIN_REQUEUE": "0"], false), (["FAIL": "1"], true)])
    func slurmEnds(_ variables: [String: String], asks: Bool) throws {
        let place = try Workplace()
        let srun = """
            shift 2; "$@" & pid=$!; trap 'kill -USR1 $pid' USR1
            until [ -s outputs/tiny/metrics.jsonl ]; do sleep 0.01; done
            kill -USR1 $PPID
            while kill -0 $pid 2>/dev/null; do code=0; wait $pid || code=$?; done
            exit $code
            """
        let job = ["SLURM_SUBMIT_DIR": place.path, "SLURM_JOB_ID": "79"]
        let ended = try run("slurm.sbatch", ["run.toml", "--training.steps", "20000"], in: place,
                            stand: ["srun": srun, "scontrol": "echo \"$*\" > asked; exit 1"],
                            variables: job.merging(variables) { $1 })
        #expect(ended.code == 0 && ended.text.contains("saved outputs/tiny/checkpoint/step-"), "\(ended.text)")
        #expect(FileManager.default.fileExists(atPath: place.path + "/asked") == asks)
        #expect(ended.text.contains("submit it again with --checkpoint.load latest") == asks)
        #expect(try secrets(place) == [])
    }

    private static var hasMPI: Bool {
        ["/usr/bin/mpirun", "/usr/local/bin/mpirun"].contains { FileManager.default.isExecutableFile(atPath: $0) }
    }

    /// The real one.
    @Test(.enabled(if: hasMPI, "there is no mpirun here (Debian: openmpi-bin)")) func openMPI() throws {
        let place = try Workplace()
        let done = try run(
            "mpi", ["-n", "4", "--oversubscribe", "--"] + Self.train, in: place, stand: [:],
            variables: ["OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                        "MASTER_PORT": "\(freePort())"])
        #expect(done.code == 0 && done.text.contains("4 ranks of") && done.text.contains("step 4/4"), "\(done.text)")
        #expect(try secrets(place) == [])
    }

    @Test func ssh() throws {
        let place = try Workplace()
        try place.write("hosts", "node1 slots=2\n")
        let ssh = "echo \"$1\" >> \"$(dirname \"$0\")/../asked\"; exec /bin/sh -c \"$2\"\n"
        let done = try run("ssh", ["--hostfile", "hosts", "--ssh", "ssh", "--master-addr", "127.0.0.1", "--master-port",
                                   "\(freePort())"] + Self.train, in: place, stand: ["ssh": ssh])
        #expect(done.code == 0 && done.text.contains("2 ranks of") && done.text.contains("step 4/4"), "\(done.text)")
        #expect(try String(contentsOfFile: place.path + "/asked", encoding: .utf8) == "node1\nnode1\n")
        let missing = try run("ssh", ["--hostfile", "hosts", "--ssh", "no-such-ssh", "run.toml"], in: place, stand: [:])
        #expect(missing.code == 2 && missing.text.contains("there is no no-such-ssh here"), "\(missing.text)")
        for script in ["ssh", "mpi"] {
            let help = try run(script, ["--help"], in: place, stand: [:])
            #expect(help.code == 0 && help.text.contains("launch/\(script)") && !help.text.contains("set -euo"))
        }
    }
}
