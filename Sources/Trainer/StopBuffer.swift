/// Text on its way out, which ends before certain words. What may be their beginning is held back until it is known not
/// to be; all else goes on at once.
public struct StopBuffer: Sendable {
    private let stops: [[UInt8]]
    private var held: [UInt8] = []
    private var isStopped = false

    /// stops: words, none of them empty.
    public init(_ stops: [[UInt8]]) {
        precondition(!stops.contains([]), "an empty word stands everywhere")
        self.stops = stops
    }

    /// Takes more text, and gives what may be shown. Once one of the words has come it gives nothing more.
    public mutating func push(_ text: [UInt8]) -> (text: [UInt8], isStopped: Bool) {
        if isStopped { return ([], true) }
        held += text
        let places = stops.compactMap { stop in held.indices.first { held[$0...].starts(with: stop) } }
        if let first = places.min() {
            defer { held = [] }
            isStopped = true
            return (Array(held[..<first]), true)
        }
        let kept = held.indices.first { place in
            stops.contains { $0.count > held.count - place && $0.starts(with: held[place...]) }
        } ?? held.endIndex
        defer { held.removeSubrange(..<kept) }
        return (Array(held[..<kept]), false)
    }

    /// What was held back, when nothing more comes.
    public mutating func finish() -> [UInt8] {
        defer { held = [] }
        return held
    }
}
