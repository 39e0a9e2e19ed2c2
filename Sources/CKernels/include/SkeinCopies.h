#ifndef SKEIN_COPIES_H
#define SKEIN_COPIES_H

// Included at the end of CKernels.h: both copies of kernels, for the tests that hold their bits against each other.
// All others call the names without an ending. (On other architectures than x86-64 there is no wide copy.)
#if !defined(SKEIN_COPY_H)
extern __typeof__(skein_strip_width) skein_strip_width_narrow, skein_strip_width_wide;
extern __typeof__(skein_gemm) skein_gemm_narrow, skein_gemm_wide;
extern __typeof__(skein_pack) skein_pack_narrow, skein_pack_wide;
extern __typeof__(skein_gemm_packed) skein_gemm_packed_narrow, skein_gemm_packed_wide;
extern __typeof__(skein_vector_packed) skein_vector_packed_narrow, skein_vector_packed_wide;
extern __typeof__(skein_transpose) skein_transpose_narrow, skein_transpose_wide;
extern __typeof__(skein_swiglu) skein_swiglu_narrow, skein_swiglu_wide;
extern __typeof__(skein_swiglu_backward) skein_swiglu_backward_narrow, skein_swiglu_backward_wide;
extern __typeof__(skein_maximum) skein_maximum_narrow, skein_maximum_wide;
extern __typeof__(skein_exponentials) skein_exponentials_narrow, skein_exponentials_wide;
extern __typeof__(skein_quantize_row) skein_quantize_row_narrow, skein_quantize_row_wide;
extern __typeof__(skein_dot_gemm) skein_dot_gemm_narrow, skein_dot_gemm_wide;
#endif

#endif
