// What Tensor uses of OpenBLAS: cblas_sgemm, the thread switch and the name of the chosen core.
#include <cblas.h>
