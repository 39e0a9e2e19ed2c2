import CKernels

/// Arithmetic on sixteen lanes. `fma` is one instruction where the target has it, which `SKEIN_MARCH`
/// guarantees; a sum over lanes always folds halves (8, 4, 2, 1), so its rounding is fixed.
extension SIMD16<Float> {
    /// a * b + self, rounded once.
    @inline(__always) func fma(_ a: Lanes, _ b: Lanes) -> Lanes { addingProduct(a, b) }

    @inline(__always) func fma(_ a: Lanes, _ b: Float) -> Lanes { addingProduct(a, Lanes(repeating: b)) }

    @inline(__always) var total: Float { skein_total(self) }

    /// The largest lane. NaN lanes are not guaranteed to win; finiteness is checked on the loss.
    @inline(__always) var largest: Float { skein_largest(self) }

    @inline(__always) func atLeast(_ floor: Lanes) -> Lanes { skein_larger(self, floor) }
    @inline(__always) func atMost(_ ceiling: Lanes) -> Lanes { skein_smaller(self, ceiling) }

    /// Whether some lane is above its counterpart.
    @inline(__always) func isAnyGreater(than other: Lanes) -> Bool { skein_any_greater(self, other) != 0 }

    /// e to the power of each lane, within 2 ulp on [-87.3, 88]; flushed to zero below, clamped above. NaN
    /// gives the value at the upper clamp: whoever feeds NaN in finds it again in the loss or the norm.
    ///
    /// Cody and Waite's reduction: x = n ln 2 + r with |r| <= ln 2 / 2, where ln 2 is split in two so that
    /// n times the first part is exact; e^r by the degree-6 minimax polynomial on that interval; 2^n by
    /// adding n to the exponent. n is rounded by adding 1.5 * 2^23, which leaves it in the low mantissa bits.
    @inline(__always) var exponential: Lanes {
        let clamped = atMost(Lanes(repeating: 88.37)).atLeast(Lanes(repeating: -87.5))
        let magic = Lanes(repeating: 12_582_912)
        let shifted = magic.fma(clamped, Lanes(repeating: 1.442_695_04))
        let n = shifted - magic
        var r = clamped.fma(n, Lanes(repeating: -0.693_359_375))
        r = r.fma(n, Lanes(repeating: 2.121_944_4e-4))
        var p = Lanes(repeating: 1.987_569_15e-4)
        p = Lanes(repeating: 1.398_199_95e-3).fma(p, r)
        p = Lanes(repeating: 8.333_451_9e-3).fma(p, r)
        p = Lanes(repeating: 4.166_579_6e-2).fma(p, r)
        p = Lanes(repeating: 1.666_666_55e-1).fma(p, r)
        p = Lanes(repeating: 0.5).fma(p, r)
        p = (r + 1).fma(p, r * r)
        let exponent = unsafe (unsafeBitCast(shifted, to: SIMD16<Int32>.self) &- 0x4B40_0000) &<< 23
        let scaled = unsafe unsafeBitCast(unsafeBitCast(p, to: SIMD16<Int32>.self) &+ exponent, to: Lanes.self)
        return skein_where_less(self, Lanes(repeating: -87.3), .zero, scaled)
    }

    /// 1 / (1 + e^-x), within 4 ulp from -88.3 on. Below, it stays at about 4e-39 instead of vanishing.
    @inline(__always) var sigmoid: Lanes { 1 / (1 + (-self).exponential) }
}

/// out = e^x and out = sigmoid(x), element by element: the two functions above on whole rows, for the tests that
/// sweep them.
package func exponential(_ out: Row, _ x: Row) {
    for i in laneStarts(x.count) { out[lanes: i] = x[lanes: i].exponential }
}

package func sigmoid(_ out: Row, _ x: Row) {
    for i in laneStarts(x.count) { out[lanes: i] = x[lanes: i].sigmoid }
}
