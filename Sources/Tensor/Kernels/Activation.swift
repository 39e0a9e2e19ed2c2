/// SwiGLU (Shazeer, 2002.05202): h = silu(gate) * up, silu(x) = x sigmoid(x).
///
/// gateUp: [T, 2F], gate in the first F columns and up in the last F, as the fused matrix product leaves
/// them. out: [T, F], overwritten; must not overlap.
public func swiGLU(_ out_TF: Matrix, gateUp gateUp_T2F: Matrix) {
    let width = out_TF.columns
    precondition(gateUp_T2F.columns == 2 * width && gateUp_T2F.rows == out_TF.rows, "swiGLU: shapes differ")
    for t in 0..<out_TF.rows {
        let both = gateUp_T2F.row(t)
        let gate = both.slice(0, width), up = both.slice(width, width), out = out_TF.row(t)
        for i in laneStarts(width) {
            let g = gate[lanes: i]
            out[lanes: i] = g * g.sigmoid * up[lanes: i]
        }
    }
}

/// The backward of `swiGLU`, fused with a second forward, because the backward of the down projection
/// needs h again and keeping it would cost T x F floats a layer.
///
/// dGateUp: [T, 2F], overwritten; may be the same memory as gateUp. h: [T, F], overwritten with the forward's
/// result; may be the same memory as dH. dSilu(x) = s (1 + x (1 - s)) with s = sigmoid(x).
public func swiGLUBackward(_ dGateUp_T2F: Matrix, recomputed h_TF: Matrix,
                           dH dH_TF: Matrix, gateUp gateUp_T2F: Matrix) {
    let width = h_TF.columns
    let rows = h_TF.rows
    precondition(gateUp_T2F.columns == 2 * width && dGateUp_T2F.columns == 2 * width && dH_TF.columns == width,
                 "swiGLUBackward: shapes differ")
    precondition(gateUp_T2F.rows == rows && dGateUp_T2F.rows == rows && dH_TF.rows == rows,
                 "swiGLUBackward: rows differ")
    for t in 0..<h_TF.rows {
        let both = gateUp_T2F.row(t), dBoth = dGateUp_T2F.row(t), dH = dH_TF.row(t), h = h_TF.row(t)
        let gate = both.slice(0, width), up = both.slice(width, width)
        let dGate = dBoth.slice(0, width), dUp = dBoth.slice(width, width)
        for i in laneStarts(width) {
            let g = gate[lanes: i], u = up[lanes: i], d = dH[lanes: i]
            let s = g.sigmoid
            let silu = g * s
            h[lanes: i] = silu * u
            dUp[lanes: i] = d * silu
            dGate[lanes: i] = d * u * (s + silu * (1 - s))
        }
    }
}
