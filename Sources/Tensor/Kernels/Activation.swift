import CKernels

/// SwiGLU (Shazeer, 2002.05202): h = silu(gate) * up, silu(x) = x sigmoid(x).
///
/// gateUp: [T, 2F], gate in the first F columns and up in the last F, as the fused matrix product leaves
/// them. out: [T, F], overwritten; must not overlap.
public func swiGLU(_ out_TF: Matrix, gateUp gateUp_T2F: Matrix) {
    let width = out_TF.columns
    precondition(gateUp_T2F.columns == 2 * width && gateUp_T2F.rows == out_TF.rows, "swiGLU: shapes differ")
    guard out_TF.rows > 0, width > 0 else { return }
    unsafe skein_swiglu(out_TF.rows, width, gateUp_T2F.all.pointer, gateUp_T2F.stride, out_TF.all.pointer,
                        out_TF.stride)
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
    guard rows > 0, width > 0 else { return }
    unsafe skein_swiglu_backward(rows, width, gateUp_T2F.all.pointer, gateUp_T2F.stride, dH_TF.all.pointer,
                                 dH_TF.stride, dGateUp_T2F.all.pointer, dGateUp_T2F.stride, h_TF.all.pointer,
                                 h_TF.stride)
}
