// Every kernel is compiled twice, from the same lines: as the package's flags say (x86-64-v3, so AVX2 and FMA), and
// once more for AVX-512, by the files in wide/. copies.c chooses between the two when the program starts. So one binary
// runs at full speed on both, and since a sum has one order in all of them, with the same bits.
//
// A file of kernels includes this before any declaration: the names below then are those of its copy.
#ifndef SKEIN_COPY_H
#define SKEIN_COPY_H

#ifdef SKEIN_WIDE
#define COPY(name) name##_wide
#else
#define COPY(name) name##_narrow
#endif

#define skein_strip_width COPY(skein_strip_width)
#define skein_tile_gemm COPY(skein_tile_gemm)
#define skein_gemm COPY(skein_gemm)
#define skein_pack COPY(skein_pack)
#define skein_gemm_packed COPY(skein_gemm_packed)
#define skein_vector_packed COPY(skein_vector_packed)
#define skein_transpose COPY(skein_transpose)
#define skein_scale_rows COPY(skein_scale_rows)
#define skein_copy_with_dots COPY(skein_copy_with_dots)
#define skein_prefetch_rows COPY(skein_prefetch_rows)
#define skein_swiglu COPY(skein_swiglu)
#define skein_swiglu_backward COPY(skein_swiglu_backward)
#define skein_maximum COPY(skein_maximum)
#define skein_exponentials COPY(skein_exponentials)
#define skein_quantize_row COPY(skein_quantize_row)
#define skein_random_row COPY(skein_random_row)
#define skein_encode COPY(skein_encode)
#define skein_decode COPY(skein_decode)
#define skein_pack_nibbles COPY(skein_pack_nibbles)
#define skein_unpack_nibbles COPY(skein_unpack_nibbles)
#define skein_largest_magnitude COPY(skein_largest_magnitude)
#define skein_larger_magnitudes COPY(skein_larger_magnitudes)
#define skein_quantize_health COPY(skein_quantize_health)
#define skein_dot_check COPY(skein_dot_check)
#define skein_dot_words COPY(skein_dot_words)
#define skein_dot_left_row COPY(skein_dot_left_row)
#define skein_dot_right_floats COPY(skein_dot_right_floats)
#define skein_dot_pack_left COPY(skein_dot_pack_left)
#define skein_dot_pack_right COPY(skein_dot_pack_right)
#define skein_dot_gemm COPY(skein_dot_gemm)
#define skein_dot_part COPY(skein_dot_part)
#define skein_dot_ceiling COPY(skein_dot_ceiling)
#define skein_dot_ceiling_flops COPY(skein_dot_ceiling_flops)
#define skein_dot_pairs COPY(skein_dot_pairs)
#define skein_flush_denormals COPY(skein_flush_denormals)
#define skein_restore_denormals COPY(skein_restore_denormals)

// Functions that take or return vectors are inlined, so no caller has another idea of how they are passed.
#pragma clang diagnostic ignored "-Wpsabi"

#include "CKernels.h"

#endif
