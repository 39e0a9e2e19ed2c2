import Base
import Corpus
import Recipe
import Storage
import Telemetry
import Wire

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

// How another process takes a lost rank's place (`launch.elastic = "replace"`). The leader of the survivors leaves in
// the run's folder where they meet, and which ranks are open (`Meeting`), with a proof that it knows the job's secret.
// A process that waits looks there, compares all that ranks must have in common before it touches the job, takes a
// place by making a file that can be made once, and joins. So whoever is refused is refused here, by name, and the
// survivors have heard nothing of it.
extension TrainingRun {
    /// What all ranks must have in common.
    func claims(_ corpus: Corpus) -> [Meeting.Claim] {
        World.claims(recipe, dataFingerprint: String(corpus.fingerprint, radix: 16)).map { Meeting.Claim($0.0, $0.1) }
    }

    /// The survivors' leader opens the places of those that are lost.
    func open(_ next: Succession, ranks: Int, people: [String], _ corpus: Corpus) throws {
        // Where one has failed before all had told, nobody is named, and whatever stands still counts as left behind.
        let processes = people.isEmpty ? [] : next.members.compactMap { Int(people[$0]) }
        try post(Meeting(epoch: next.epoch, ranks: ranks, open: ranks - next.members.count, host: next.host,
                         port: next.port, processes: processes, claims: claims(corpus)))
    }

    /// Rank 0 of a life in which nobody is waited for says so: at its begin, and at the job's end.
    func closeMeeting(isOver: Bool) throws {
        guard isFirst, recipe.launch.elastic == .replace, let ranks else { return }
        try post(Meeting(epoch: epoch, ranks: ranks.worldSize, open: 0, host: ranks.masterHost, port: ranks.masterPort,
                         processes: [], claims: [], isOver: isOver))
        if isOver || epoch == 0 { try folder.removePlaces() }
    }

    private func post(_ meeting: Meeting) throws {
        guard let ranks else { return }
        let secret = try JobSecret.load(from: ranks.secretFile)
        try folder.write(meeting.text(proof: secret.proof(of: meeting.text)))
    }

    /// Waits for a place in the job, and takes it: `ranks` and `epoch` say then which. False: the job is over.
    func awaitPlace(_ corpus: Corpus) throws -> Bool {
        guard var setting = ranks, setting.isSpare else { return true }
        let secret = try JobSecret.load(from: setting.secretFile)
        printError("skein: this process waits for a rank's place in \(folder.path)")
        var last: UInt32?, isWarned = false
        while !Interrupt.isRequested {
            usleep(20_000)
            guard let (meeting, proof) = folder.meeting(), meeting.epoch != last || meeting.isOver else { continue }
            // Another job's, in the same folder; or nobody's.
            guard proof == secret.proof(of: meeting.text) else {
                if !isWarned {
                    printError("skein: the ranks that work in \(folder.path) have another secret than this process; it "
                        + "waits for those of its own job")
                }
                isWarned = true
                continue
            }
            if meeting.isOver { return false }
            guard meeting.open > 0 else { continue }
            last = meeting.epoch
            try compare(meeting, claims(corpus))
            guard let place = try meeting.places.first(where: { try folder.take($0, of: meeting.epoch) }) else {
                continue
            }
            (setting.rank, setting.worldSize, setting.isSpare) = (place, meeting.ranks, false)
            (setting.masterHost, setting.masterPort) = (meeting.host, meeting.port)
            (ranks, epoch) = (setting, meeting.epoch)
            return true
        }
        return false
    }

    private func compare(_ meeting: Meeting, _ own: [Meeting.Claim]) throws(BadInput) {
        for claim in own {
            let theirs = meeting.claims.first { $0.name == claim.name }?.value ?? "none"
            guard theirs != oneLine(claim.value) else { continue }
            throw BadInput("this process cannot take a rank's place in \(folder.path): it has another \(claim.name) "
                + "(\(claim.value) here, \(theirs) there)")
        }
    }
}

/// The descriptor of a file that was not there before; -1, and errno, where it cannot be made.
private func create(_ file: String) -> Int32 { unsafe open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666) }

extension RunFolder {
    private var meetingFile: String { "\(path)/\(Meeting.fileName)" }

    func write(_ meeting: String) throws { try disk.replace(meetingFile, with: [Array(meeting.utf8)]) }

    /// What lies there, if it is one.
    func meeting() -> (meeting: Meeting, proof: String)? {
        guard let text = try? readText(meetingFile) else { return nil }
        return Meeting.read(text)
    }

    /// Takes a place, which can be taken once. False: somebody else has.
    func take(_ rank: Int, of epoch: UInt32) throws -> Bool {
        let file = "\(meetingFile)-\(epoch)-\(rank)"
        let descriptor = create(file)
        guard descriptor >= 0 else {
            if errno == EEXIST { return false }
            throw BadInput("cannot make \(file): \(errorText(errno)); let this process write to the run's folder")
        }
        close(descriptor)
        return true
    }

    /// Removes the files of places that were taken.
    func removePlaces() throws {
        for name in try disk.list(path) where name.hasPrefix(Meeting.fileName + "-") {
            try disk.remove(joined(path, name))
        }
    }
}
