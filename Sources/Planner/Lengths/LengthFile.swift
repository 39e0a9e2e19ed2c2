import Base
import Foundation

/// Sequence lengths of a text file: one number of tokens a line. Blank lines are skipped, and so is what follows a #.
/// Throws: a file that cannot be read, a line that is no length (by its number), a file without one.
package func readLengths(file: String) throws(BadInput) -> [Int] {
    let data: Data
    do {
        data = try Data(contentsOf: URL(fileURLWithPath: file))
    } catch {
        throw BadInput("\(file): cannot be read; give a text file with one sequence length a line")
    }
    guard let text = String(bytes: data, encoding: .utf8) else {
        throw BadInput("\(file): this is not UTF-8 text; give a text file with one sequence length a line")
    }
    return try parseLengths(text, file: file)
}

package func parseLengths(_ text: String, file: String) throws(BadInput) -> [Int] {
    var lengths: [Int] = []
    for (number, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
        let word = line.prefix { $0 != "#" }.trimmingCharacters(in: .whitespacesAndNewlines)
        guard !word.isEmpty else { continue }
        let isNumber = word.utf8.allSatisfy { (48...57).contains($0) }
        guard isNumber, let length = Int(word), (1...longestSequence).contains(length) else {
            throw BadInput("\(file):\(number + 1): \(quoted(word)) is not a sequence length; write a number of tokens "
                + "from 1 to \(Units.grouped(longestSequence))")
        }
        lengths.append(length)
        if lengths.count > mostSequences {
            throw BadInput("\(file):\(number + 1): more than \(Units.grouped(mostSequences)) sequences in one step; "
                + "give fewer")
        }
    }
    guard !lengths.isEmpty else { throw BadInput("\(file): no sequence length in it; write one a line") }
    return lengths
}

/// Far above any step's, and small enough that no sum overflows.
private let longestSequence = 1 << 30
private let mostSequences = 1 << 16

private func quoted(_ word: String) -> String { "\"" + String(word.prefix(40)) + (word.count > 40 ? "…" : "") + "\"" }
