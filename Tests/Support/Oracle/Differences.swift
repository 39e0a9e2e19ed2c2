import Base

/// df/dx[index] by central differences. `step` balances the third derivative against the rounding of a
/// Double: both leave about 1e-9 for functions whose values and derivatives are near 1.
package func slope(of f: ([Double]) -> Double, at x: [Double], index: Int, step: Double = 1e-5) -> Double {
    var moved = x
    moved[index] = x[index] + step
    let above = f(moved)
    moved[index] = x[index] - step
    return (above - f(moved)) / (2 * step)
}

/// All of them.
package func gradient(of f: ([Double]) -> Double, at x: [Double], step: Double = 1e-5) -> [Double] {
    x.indices.map { slope(of: f, at: x, index: $0, step: step) }
}

/// sum_i a[i] * b[i]: makes a number of a kernel's output, whose gradient is then `b`.
package func weighted(_ a: [Double], by b: [Double]) -> Double {
    zip(a, b).reduce(0) { $0 + $1.0 * $1.1 }
}

/// The length of got - want over the length of want. Not-a-number when either holds one, so that a bound on it
/// fails; two empty or zero vectors are equal.
package func relativeError(_ got: [Double], _ want: [Double]) -> Double {
    guard got.count == want.count else { return .infinity }
    let difference = zip(got, want).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
    let size = want.reduce(0) { $0 + $1 * $1 }
    return difference == 0 ? 0 : (difference / size).squareRoot()
}

package func relativeError(_ got: [Float], _ want: [Double]) -> Double {
    relativeError(got.map(Double.init), want)
}

/// What tells two lists of floats apart, in a line; nil when they are equal. `#expect(a == b)` would compute and
/// print an edit script, which takes minutes for a model's gradient.
package func mismatch(_ got: [Float], _ want: [Float]) -> String? {
    guard got.count == want.count else { return "\(got.count) values for \(want.count)" }
    let wrong = got.indices.filter { got[$0] != want[$0] }
    guard let first = wrong.first else { return nil }
    return "\(wrong.count) of \(got.count) differ, the first at \(first): \(got[first]) for \(want[first])"
}

/// `count` normal values with deviation `size`, as floats; `doubles` has the same ones.
package func normals(_ count: Int, seed: Int, size: Double = 1) -> [Float] {
    let rng = CounterRNG(seed: UInt64(seed), stream: 0xF00D)
    return (0..<count).map { Float(rng.normalPair(at: UInt64($0)).0 * size) }
}

package func doubles(_ values: [Float]) -> [Double] { values.map(Double.init) }
