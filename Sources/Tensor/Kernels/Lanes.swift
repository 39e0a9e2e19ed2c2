import CKernels

/// Arithmetic on sixteen lanes. `fma` is one instruction where the target has it, as nearly every CPU of the last ten
/// years; a sum over lanes always folds halves (8, 4, 2, 1), so its rounding is fixed.
extension SIMD16<Float> {
    /// a * b + self, rounded once where the target fuses the two.
    @inline(__always) func fma(_ a: Lanes, _ b: Lanes) -> Lanes { skein_fma(a, b, self) }

    @inline(__always) func fma(_ a: Lanes, _ b: Float) -> Lanes { skein_fma(a, Lanes(repeating: b), self) }

    @inline(__always) var root: Lanes { skein_root(self) }

    @inline(__always) var total: Float { skein_total(self) }

    /// The largest lane. NaN lanes are not guaranteed to win; finiteness is checked on the loss.
    @inline(__always) var largest: Float { skein_largest(self) }

    @inline(__always) func atLeast(_ floor: Lanes) -> Lanes { skein_larger(self, floor) }
    @inline(__always) func atMost(_ ceiling: Lanes) -> Lanes { skein_smaller(self, ceiling) }

    /// Whether some lane is above its counterpart.
    @inline(__always) func isAnyGreater(than other: Lanes) -> Bool { skein_any_greater(self, other) != 0 }

    /// e to the power of each lane, within 2 ulp on [-87.3, 88]; flushed to zero below, clamped above. NaN
    /// gives the value at the upper clamp: whoever feeds NaN in finds it again in the loss or the norm.
    @inline(__always) var exponential: Lanes { skein_exponential(self) }

    /// 2 to the power of each lane, within 1 ulp on [-126, 127]; zero below. NaN gives NaN, and lanes above are not
    /// defined. Softmax uses it, with its scores in units of ln 2: the reduction is one exact subtraction then.
    @inline(__always) var powerOfTwo: Lanes {
        let n = skein_nearest(self)
        let r = self - n
        var p = Lanes(repeating: 0.001_339_908_6).fma(r, 0.000_153_538_07)
        p = Lanes(repeating: 0.009_618_437).fma(r, p)
        p = Lanes(repeating: 0.055_503_316).fma(r, p)
        p = Lanes(repeating: 0.240_226_48).fma(r, p)
        p = Lanes(repeating: 0.693_147_2).fma(r, p)
        p = Lanes(repeating: 1).fma(r, p)
        return skein_where_less(self, Lanes(repeating: -126), .zero, skein_scaled(p, n))
    }

    /// 1 / (1 + e^-x), within 4 ulp from -88.3 on. Below, it stays at about 4e-39 instead of vanishing.
    @inline(__always) var sigmoid: Lanes { skein_sigmoid(self) }
}

/// out = e^x, 2^x and sigmoid(x), element by element: the functions above on whole rows, for the tests that sweep
/// them.
package func exponential(_ out: Row, _ x: Row) {
    for i in laneStarts(x.count) { out[lanes: i] = x[lanes: i].exponential }
}

package func powerOfTwo(_ out: Row, _ x: Row) {
    for i in laneStarts(x.count) { out[lanes: i] = x[lanes: i].powerOfTwo }
}

package func sigmoid(_ out: Row, _ x: Row) {
    for i in laneStarts(x.count) { out[lanes: i] = x[lanes: i].sigmoid }
}
