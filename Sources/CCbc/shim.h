// What Planner uses of C: the simplex of Clp and the branch-and-cut of Cbc, both of Debian's coinor-libcbc-dev.
#include <coin/Clp_C_Interface.h>
#include <coin/Cbc_C_Interface.h>
