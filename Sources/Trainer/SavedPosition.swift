import Checkpoint

/// A checkpoint's data position. `Corpus` has a type of that name as well, and both rooms' types share their
/// room's name, so this file, which imports the one, gives it a name of its own.
typealias SavedPosition = DataPosition
