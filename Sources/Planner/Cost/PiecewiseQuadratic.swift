/// Seconds as a function of a length in tokens: within each piece `square` L^2 + `linear` L + `constant`. Linear layers
/// cost in proportion to a sequence's length and attention to its square (FlexSP, 2412.01523, section 4.1); pieces,
/// because a kernel's rate changes where a length outgrows a cache. Neighbouring pieces need not meet.
package struct PiecewiseQuadratic: Sendable, Equatable, Codable {
    package struct Piece: Sendable, Equatable, Codable {
        /// The shortest length that this piece is for. The first piece is also for whatever is shorter.
        package var from: Int
        package var square: Double
        package var linear: Double
        package var constant: Double

        package init(from: Int, square: Double, linear: Double, constant: Double) {
            (self.from, self.square, self.linear, self.constant) = (from, square, linear, constant)
        }
    }

    /// By `from`, ascending; at least one.
    package var pieces: [Piece]

    package init(pieces: [Piece]) {
        precondition(!pieces.isEmpty, "a function without a piece")
        self.pieces = pieces
    }

    package func callAsFunction(_ length: Int) -> Double {
        let piece = pieces.last { $0.from <= length } ?? pieces[0]
        let x = Double(length)
        return max(0, (piece.square * x + piece.linear) * x + piece.constant)
    }
}

extension PiecewiseQuadratic {
    /// A piece is for lengths that differ at least by this factor: within less, a parabola follows the noise.
    private static let leastSpan = 2
    private static let leastSamples = 6
    private static let mostPieces = 4

    /// The function that fits samples of (tokens, seconds) best: weighted least squares of the *relative* errors in
    /// each piece, the cuts between pieces by dynamic programming over all of them, and as many pieces as Schwarz's
    /// criterion (Annals of Statistics 6, 1978) finds worth their parameters.
    ///
    /// `samples` are at least three different lengths of at least one token, with times above 0.
    package init(fitting samples: [(length: Int, seconds: Double)]) {
        self = Self.best(samples.map { Sample(length: $0.length, seconds: $0.seconds, scale: $0.seconds) }).curve
    }

    /// A time, and what its error is counted relative to: a part of a measured time is as uncertain as the whole.
    struct Sample {
        var length: Int
        var seconds: Double
        var scale: Double
    }

    /// The same for samples whose errors have a scale, with the value of the criterion.
    static func best(_ samples: [Sample]) -> (curve: PiecewiseQuadratic, criterion: Double) {
        precondition(samples.allSatisfy { $0.length > 0 && $0.seconds > 0 && $0.scale > 0 },
                     "a sample without a length or a time")
        let sorted = samples.sorted { ($0.length, $0.seconds) < ($1.length, $1.seconds) }
        let table = PieceTable(sorted)
        // best[p][j]: the least error of the first j samples in p + 1 pieces, and where the last of them begins.
        var best = [(0...sorted.count).map { j in (error: j == 0 ? .infinity : table.fit(0, j)?.error ?? .infinity,
                                                  start: 0) }]
        while best.count < mostPieces {
            let last = best[best.count - 1]
            best.append((0...sorted.count).map { j in
                var found = (error: Double.infinity, start: 0)
                for start in 0..<j where last[start].error.isFinite {
                    guard let piece = table.fit(start, j), last[start].error + piece.error < found.error
                    else { continue }
                    found = (last[start].error + piece.error, start)
                }
                return found
            })
        }
        let n = Double(sorted.count)
        func criterion(_ pieces: Int) -> Double {
            let error = best[pieces - 1][sorted.count].error
            // Errors under a millionth are rounding, not evidence for one more piece.
            return error.isFinite ? n * log(error / n + 1e-12) + 4 * Double(pieces) * log(n) : .infinity
        }
        let count = (1...mostPieces).min { criterion($0) < criterion($1) } ?? 1
        var pieces: [Piece] = [], end = sorted.count
        for p in stride(from: count - 1, through: 0, by: -1) {
            let start = best[p][end].start
            if let piece = table.fit(start, end)?.piece { pieces.insert(piece, at: 0) }
            end = start
        }
        return (PiecewiseQuadratic(pieces: pieces), criterion(count))
    }

    /// The best parabola through every run of samples that may be a piece.
    private struct PieceTable {
        private var fits: [[(piece: Piece, error: Double)?]]

        init(_ samples: [Sample]) {
            let count = samples.count
            fits = Array(repeating: Array(repeating: nil, count: count + 1), count: count)
            for start in 0..<count where start == 0 || samples[start - 1].length < samples[start].length {
                var moments = Moments(scale: Double(samples[start].length))
                for end in start..<count {
                    moments.add(samples[end])
                    let isCut = end + 1 == count || samples[end].length < samples[end + 1].length
                    let isWhole = start == 0 && end + 1 == count
                    let isWide = samples[end].length >= PiecewiseQuadratic.leastSpan * samples[start].length
                        && end + 1 - start >= PiecewiseQuadratic.leastSamples
                    guard isCut, isWide || isWhole else { continue }
                    fits[start][end + 1] = moments.fit(from: samples[start].length)
                }
            }
        }

        func fit(_ start: Int, _ end: Int) -> (piece: Piece, error: Double)? { fits[start][end] }
    }

    /// Sums over samples, each weighted by 1 over the square of its scale; lengths in units of `scale`.
    private struct Moments {
        let scale: Double
        /// Of x^0 to x^4, of t x^0 to t x^2, and of t^2.
        private var x = [Double](repeating: 0, count: 5)
        private var t = [Double](repeating: 0, count: 3)
        private var square = 0.0

        init(scale: Double) { self.scale = scale }

        mutating func add(_ sample: Sample) {
            let length = Double(sample.length) / scale
            var power = 1 / (sample.scale * sample.scale)
            square += power * sample.seconds * sample.seconds
            for exponent in 0...4 {
                x[exponent] += power
                if exponent < 3 { t[exponent] += power * sample.seconds }
                power *= length
            }
        }

        /// Solves the normal equations by elimination with pivots; nil where lengths do not determine a parabola.
        func fit(from: Int) -> (piece: Piece, error: Double)? {
            var rows = (0..<3).map { i in (0..<3).map { x[i + $0] } + [t[i]] }
            for column in 0..<3 {
                guard let pivot = (column..<3).max(by: { rows[$0][column].magnitude < rows[$1][column].magnitude }),
                      rows[pivot][column].magnitude > 1e-13 * x[0] else { return nil }
                rows.swapAt(column, pivot)
                for row in 0..<3 where row != column {
                    let factor = rows[row][column] / rows[column][column]
                    for k in column..<4 { rows[row][k] -= factor * rows[column][k] }
                }
            }
            let c = (0..<3).map { rows[$0][3] / rows[$0][$0] }
            var error = square
            for i in 0..<3 {
                error -= 2 * c[i] * t[i]
                for j in 0..<3 { error += c[i] * c[j] * x[i + j] }
            }
            return (Piece(from: from, square: c[2] / (scale * scale), linear: c[1] / scale, constant: c[0]),
                    max(0, error))
        }
    }
}

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif
