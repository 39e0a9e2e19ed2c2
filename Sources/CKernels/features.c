// Says which CPU features the compiler was allowed to use. Data only: reading it is safe on any CPU.
#include "CKernels.h"

const uint32_t skein_compiled_features = 0
#ifdef __AVX__
    | 1u << 0
#endif
#ifdef __FMA__
    | 1u << 1
#endif
#ifdef __AVX2__
    | 1u << 2
#endif
#ifdef __BMI2__
    | 1u << 3
#endif
#ifdef __AVX512F__
    | 1u << 4
#endif
#ifdef __AVX512BW__
    | 1u << 5
#endif
#ifdef __AVX512VL__
    | 1u << 6
#endif
#ifdef __AVX512DQ__
    | 1u << 7
#endif
#ifdef __AVX512BF16__
    | 1u << 8
#endif
#ifdef __AVX512VNNI__
    | 1u << 9
#endif
    ;
