/* A PKCS#11 module that passes every call on to the module in FAULTY_TARGET, until it has made FAULTY_SIGNATURES
 * signatures: from then on C_Sign fails as that of a token which was pulled out does.
 *
 * The types are those of PKCS #11 version 2.40 on a machine where unsigned long is CK_ULONG; the function list is taken
 * as the array of pointers that it is.
 */
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef unsigned long ulong;
typedef unsigned char byte;
typedef ulong (*sign_function)(ulong, byte *, ulong, byte *, ulong *);

struct function_list {
    byte version[2];
    void *functions[68];
};

enum { SIGN = 43, CKR_GENERAL_ERROR = 0x5, CKR_DEVICE_ERROR = 0x30 };

static struct function_list *real;
static struct function_list ours;
static atomic_long signatures_left;

static ulong sign(ulong session, byte *data, ulong data_length, byte *signature, ulong *signature_length) {
    if (signature && atomic_fetch_sub(&signatures_left, 1) <= 0) {
        return CKR_DEVICE_ERROR;
    }
    return ((sign_function)real->functions[SIGN])(session, data, data_length, signature, signature_length);
}

ulong C_GetFunctionList(struct function_list **list) {
    void *module = dlopen(getenv("FAULTY_TARGET"), RTLD_NOW);
    if (!module) {
        return CKR_GENERAL_ERROR;
    }
    ulong (*functions)(struct function_list **) = dlsym(module, "C_GetFunctionList");
    if (!functions || functions(&real)) {
        return CKR_GENERAL_ERROR;
    }
    signatures_left = atol(getenv("FAULTY_SIGNATURES"));
    ours = *real;
    ours.functions[SIGN] = sign;
    *list = &ours;
    return 0;
}
