/// What quantising did to the operands of the linear layers in one step, as a log has it.
public struct PrecisionReport: Equatable, Sendable {
    /// A tag, and its number.
    public struct Entry: Equatable, Sendable {
        public let tag: String
        public let value: Double

        /// `tag`: plain ASCII without quotes, commas and colons.
        public init(_ tag: String, _ value: Double) {
            self.tag = tag
            self.value = value
        }
    }

    public let entries: [Entry]

    public init(_ entries: [Entry]) { self.entries = entries }
}
