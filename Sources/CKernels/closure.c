// A Swift closure across a thread boundary without a heap allocation: see CKernels.h.
#include "CKernels.h"

#define SWIFT __attribute__((swiftcall))

typedef SWIFT void (*code)(intptr_t tile, intptr_t worker, __attribute__((swift_context)) void *context);

SWIFT void skein_lend_closure(void *body, void *context, skein_closure *lent) {
    lent->code = body;
    lent->context = context;
}

SWIFT void skein_end_loan(void *body, void *context) {
    (void)body;
    (void)context;
}

void skein_call_closure(skein_closure lent, long tile, long worker) {
    ((code)lent.code)(tile, worker, lent.context);
}
