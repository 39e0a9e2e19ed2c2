import CChecksum

/// From now on, a mapped file that becomes shorter while it is read ends the process with exit code 1 and one line
/// that names it, and not with a bare SIGBUS.
public func nameShortenedFiles() { skein_name_shortened_files() }
