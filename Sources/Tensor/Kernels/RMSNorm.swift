/// Root-mean-square normalisation (Zhang and Sennrich, 1910.07467), as in Llama: out = gain * x * r with
/// r = 1 / sqrt(mean(x^2) + eps). T rows of D columns.
///
/// out: [T, D], overwritten; must not overlap x. inverse: [T], receives r for the backward.
public func rmsNorm(_ out_TD: Matrix, inverse inverse_T: Row, x x_TD: Matrix, gain gain_D: Row, epsilon: Float) {
    let width = x_TD.columns
    precondition(inverse_T.count == x_TD.rows, "rmsNorm: shapes differ")
    for t in 0..<x_TD.rows {
        let x = x_TD.row(t)
        var squares = Lanes.zero
        for i in laneStarts(width) {
            let v = x[lanes: i]
            squares = squares.fma(v, v)
        }
        inverse_T[t] = 1 / (squares.total / Float(width) + epsilon).squareRoot()
    }
    rmsNormScale(out_TD, x: x_TD, inverse: inverse_T, gain: gain_D)
}

/// The second half of the forward alone: out = gain * x * inverse. The backward uses it to have the
/// normalised activations again without keeping them. out: [T, D], overwritten.
public func rmsNormScale(_ out_TD: Matrix, x x_TD: Matrix, inverse inverse_T: Row, gain gain_D: Row) {
    precondition(gain_D.count == x_TD.columns && out_TD.columns == x_TD.columns && out_TD.rows == x_TD.rows
        && inverse_T.count == x_TD.rows, "rmsNorm: shapes differ")
    for t in 0..<x_TD.rows {
        let x = x_TD.row(t), out = out_TD.row(t)
        let r = Lanes(repeating: inverse_T[t])
        for i in laneStarts(x_TD.columns) { out[lanes: i] = gain_D[lanes: i] * (x[lanes: i] * r) }
    }
}

/// The backward of `rmsNorm`.
///
///     dX += r * (gain * dOut) - x * r^3 / D * sum_d(gain * dOut * x)
///     dGain += sum_t dOut * x * r
///
/// dX: [T, D], accumulated into, since x also feeds the residual stream. dGain: [D], accumulated into.
public func rmsNormBackward(_ dX_TD: Matrix, dGain dGain_D: Row, dOut dOut_TD: Matrix, x x_TD: Matrix,
                            inverse inverse_T: Row, gain gain_D: Row) {
    let width = x_TD.columns
    precondition(gain_D.count == width && dGain_D.count == width && dOut_TD.columns == width
        && dX_TD.columns == width, "rmsNormBackward: shapes differ")
    precondition(dOut_TD.rows == x_TD.rows && dX_TD.rows == x_TD.rows && inverse_T.count == x_TD.rows,
                 "rmsNormBackward: rows differ")
    for t in 0..<x_TD.rows {
        let x = x_TD.row(t), dOut = dOut_TD.row(t), dX = dX_TD.row(t)
        let r = inverse_T[t]
        var along = Lanes.zero
        for i in laneStarts(width) {
            let scaled = dOut[lanes: i] * x[lanes: i]
            along = along.fma(scaled, gain_D[lanes: i])
            dGain_D[lanes: i] = dGain_D[lanes: i].fma(scaled, r)
        }
        let pull = -(along.total * r * r * r / Float(width))
        for i in laneStarts(width) {
            dX[lanes: i] = dX[lanes: i].fma(gain_D[lanes: i] * dOut[lanes: i], r).fma(x[lanes: i], pull)
        }
    }
}
