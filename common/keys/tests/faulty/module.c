/* A PKCS#11 module that passes every call on to the module in FAULTY_TARGET, except where a file in FAULTY_FOLDER tells
 * it to misbehave as real tokens do and SoftHSM does not:
 *   sign-wrong N      the next N signatures have a bit flipped
 *   sign-fails RV N   the next N signatures fail with RV (hexadecimal)
 *   login-fails RV    every login fails with RV
 *   flags HEX         the token reports these flags besides its own
 *   sessions N        no more than N sessions are open at once
 *   sessions-max N    the token reports N as its most sessions
 *   sessions-told N   the token reports that N sessions are open
 *   unwrap-fails RV N the next N keys are not unwrapped but fail with RV (hexadecimal)
 *   create-fails RV N the next N objects are not created but fail with RV (hexadecimal)
 *   create-breaks N   the next N objects are created, and the answer is CKR_DEVICE_ERROR
 *   create-forgets N  the next N objects are not created, and the answer is CKR_OK
 *   curve-wrapped     the peer's point is taken in its OCTET STRING alone
 * Every file named "saw-..." is a count that this module keeps.
 *
 * The types are those of PKCS #11 version 2.40 on a machine where unsigned long is CK_ULONG; the function list is taken
 * as the array of pointers that it is.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long ulong;
typedef unsigned char byte;

struct function_list {
    byte version[2];
    void *functions[68];
};

/* Positions in CK_FUNCTION_LIST. */
enum { GET_TOKEN_INFO = 6, OPEN_SESSION = 12, CLOSE_SESSION = 13, LOGIN = 18, CREATE_OBJECT = 20, SIGN = 43, UNWRAP_KEY = 61, DERIVE_KEY = 62 };

struct mechanism {
    ulong type;
    void *parameter;
    ulong parameter_length;
};

struct ecdh_parameters {
    ulong kdf;
    ulong shared_length;
    byte *shared;
    ulong public_length;
    byte *public_point;
};

static struct function_list *real;
static struct function_list ours;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static ulong open_sessions;

static void path_of(char *path, size_t size, const char *name) {
    snprintf(path, size, "%s/%s", getenv("FAULTY_FOLDER"), name);
}

/* Reads two hexadecimal numbers from an order; 0 if there is no such order. */
static int order(const char *name, ulong *first, ulong *second) {
    char path[4096];
    path_of(path, sizeof path, name);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    *first = 0;
    *second = 0;
    int read = fscanf(file, "%lx %lx", first, second);
    fclose(file);
    return read >= 0;
}

static void set_order(const char *name, ulong first, ulong second) {
    char path[4096];
    path_of(path, sizeof path, name);
    FILE *file = fopen(path, "w");
    if (file) {
        fprintf(file, "%lx %lx", first, second);
        fclose(file);
    }
}

static void count(const char *name) {
    ulong seen = 0, none;
    order(name, &seen, &none);
    set_order(name, seen + 1, 0);
}

static ulong faulty_sign(ulong session, byte *data, ulong length, byte *signature, ulong *signature_length) {
    ulong (*sign)(ulong, byte *, ulong, byte *, ulong *) = real->functions[SIGN];
    if (!signature)
        return sign(session, data, length, signature, signature_length);
    pthread_mutex_lock(&lock);
    ulong first, second;
    int fails = order("sign-fails", &first, &second) && second > 0;
    ulong rv = first;
    if (fails)
        set_order("sign-fails", first, second - 1);
    int wrong = !fails && order("sign-wrong", &first, &second) && first > 0;
    if (wrong)
        set_order("sign-wrong", first - 1, 0);
    pthread_mutex_unlock(&lock);
    if (fails)
        return rv;
    ulong result = sign(session, data, length, signature, signature_length);
    if (wrong && result == 0)
        signature[*signature_length - 1] ^= 1;
    return result;
}

static ulong faulty_login(ulong session, ulong user, byte *pin, ulong length) {
    ulong (*login)(ulong, ulong, byte *, ulong) = real->functions[LOGIN];
    ulong rv, none;
    pthread_mutex_lock(&lock);
    count("saw-login");
    int fails = order("login-fails", &rv, &none);
    pthread_mutex_unlock(&lock);
    return fails ? rv : login(session, user, pin, length);
}

static ulong faulty_token_info(ulong slot, byte *info) {
    ulong (*token_info)(ulong, byte *) = real->functions[GET_TOKEN_INFO];
    ulong result = token_info(slot, info);
    ulong value, none;
    /* label 32, manufacturer 32, model 16, serial 16, then flags and the counts. */
    if (result == 0 && order("flags", &value, &none))
        *(ulong *)(info + 96) |= value;
    if (result == 0 && order("sessions-max", &value, &none)) {
        *(ulong *)(info + 96 + sizeof(ulong)) = value;
        *(ulong *)(info + 96 + 3 * sizeof(ulong)) = value;
    }
    if (result == 0 && order("sessions-told", &value, &none)) {
        *(ulong *)(info + 96 + 2 * sizeof(ulong)) = value;
        *(ulong *)(info + 96 + 4 * sizeof(ulong)) = value;
    }
    return result;
}

static ulong faulty_open(ulong slot, ulong flags, void *application, void *notify, ulong *session) {
    ulong (*open_session)(ulong, ulong, void *, void *, ulong *) = real->functions[OPEN_SESSION];
    ulong most, none, result = 0xb1; /* CKR_SESSION_COUNT */
    pthread_mutex_lock(&lock);
    if (!order("sessions", &most, &none) || open_sessions < most) {
        result = open_session(slot, flags, application, notify, session);
        if (result == 0)
            open_sessions++;
    } else {
        count("saw-session-refused");
    }
    pthread_mutex_unlock(&lock);
    return result;
}

static ulong faulty_close(ulong session) {
    ulong (*close_session)(ulong) = real->functions[CLOSE_SESSION];
    pthread_mutex_lock(&lock);
    ulong result = close_session(session);
    if (result == 0)
        open_sessions--;
    pthread_mutex_unlock(&lock);
    return result;
}

static ulong faulty_derive(ulong session, struct mechanism *mechanism, ulong key, void *template, ulong count_of, ulong *secret) {
    ulong (*derive)(ulong, struct mechanism *, ulong, void *, ulong, ulong *) = real->functions[DERIVE_KEY];
    ulong first, second;
    if (order("curve-wrapped", &first, &second)) {
        struct ecdh_parameters *parameters = mechanism->parameter;
        if (parameters->public_length != 67)
            return 0x71; /* CKR_MECHANISM_PARAM_INVALID */
        count("saw-wrapped");
    }
    return derive(session, mechanism, key, template, count_of, secret);
}

static ulong faulty_unwrap(ulong session, struct mechanism *mechanism, ulong key, byte *wrapped, ulong length, void *template,
                           ulong count_of, ulong *secret) {
    ulong (*unwrap)(ulong, struct mechanism *, ulong, byte *, ulong, void *, ulong, ulong *) = real->functions[UNWRAP_KEY];
    ulong rv, left;
    pthread_mutex_lock(&lock);
    int fails = order("unwrap-fails", &rv, &left) && left > 0;
    if (fails)
        set_order("unwrap-fails", rv, left - 1);
    pthread_mutex_unlock(&lock);
    return fails ? rv : unwrap(session, mechanism, key, wrapped, length, template, count_of, secret);
}

/* Whether an order of which N are left holds for this call too. */
static int countdown(const char *name) {
    ulong left, none;
    if (!order(name, &left, &none) || left == 0)
        return 0;
    set_order(name, left - 1, 0);
    return 1;
}

static ulong faulty_create(ulong session, void *template, ulong count_of, ulong *object) {
    ulong (*create)(ulong, void *, ulong, ulong *) = real->functions[CREATE_OBJECT];
    ulong rv, left;
    pthread_mutex_lock(&lock);
    count("saw-create");
    int fails = order("create-fails", &rv, &left) && left > 0;
    if (fails)
        set_order("create-fails", rv, left - 1);
    int forgets = !fails && countdown("create-forgets");
    int breaks = !fails && !forgets && countdown("create-breaks");
    pthread_mutex_unlock(&lock);
    if (fails)
        return rv;
    if (forgets) {
        *object = 0x7fff;
        return 0;
    }
    ulong result = create(session, template, count_of, object);
    return breaks ? 0x30 : result; /* CKR_DEVICE_ERROR */
}

ulong C_GetFunctionList(struct function_list **list) {
    if (!real) {
        void *target = dlopen(getenv("FAULTY_TARGET"), RTLD_NOW);
        if (!target)
            return 5; /* CKR_GENERAL_ERROR */
        ulong (*get)(struct function_list **) = dlsym(target, "C_GetFunctionList");
        ulong result = get(&real);
        if (result != 0)
            return result;
        ours = *real;
        ours.functions[GET_TOKEN_INFO] = faulty_token_info;
        ours.functions[OPEN_SESSION] = faulty_open;
        ours.functions[CLOSE_SESSION] = faulty_close;
        ours.functions[LOGIN] = faulty_login;
        ours.functions[CREATE_OBJECT] = faulty_create;
        ours.functions[SIGN] = faulty_sign;
        ours.functions[UNWRAP_KEY] = faulty_unwrap;
        ours.functions[DERIVE_KEY] = faulty_derive;
    }
    *list = &ours;
    return 0;
}
