/* p11-kit's client, and ECDH beside it. p11-kit 0.24 passes no CKM_ECDH1_DERIVE on, and what is sent to a vault is opened
 * by it. So this module passes every call to the client in REMOTE but that one: it agrees in SoftHSM itself (DIRECT), and
 * puts the secret into the remote session as an object. A server that is gone or stopped is so for that call too.
 *
 * The types are those of PKCS #11 version 2.40 on a machine where unsigned long is CK_ULONG; the function list is taken
 * as the array of pointers that it is.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

typedef unsigned long ulong;
typedef unsigned char byte;

struct function_list {
    byte version[2];
    void *functions[68];
};

struct attribute {
    ulong type;
    void *value;
    ulong length;
};

/* Positions in CK_FUNCTION_LIST. */
enum {
    INITIALIZE = 0, GET_SLOT_LIST = 4, GET_TOKEN_INFO = 6, OPEN_SESSION = 12, GET_SESSION_INFO = 15, LOGIN = 18,
    CREATE_OBJECT = 20, DESTROY_OBJECT = 22, GET_ATTRIBUTE_VALUE = 24, FIND_OBJECTS_INIT = 26, FIND_OBJECTS = 27,
    FIND_OBJECTS_FINAL = 28, DERIVE_KEY = 62
};
enum { CLASS = 0x0, VALUE = 0x11, ID = 0x102, VALUE_LEN = 0x161, PRIVATE_KEY = 3, GENERAL_ERROR = 5, OS_LOCKING = 2 };
enum { ATTRIBUTES_MAX = 16, TOKEN_INFO_BYTES = 512, SERIAL_AT = 80, SERIAL_BYTES = 16, SLOTS_MAX = 64 };

typedef ulong (*slot_list_fn)(byte, ulong *, ulong *);
typedef ulong (*token_info_fn)(ulong, byte *);
typedef ulong (*session_info_fn)(ulong, ulong *);
typedef ulong (*open_fn)(ulong, ulong, void *, void *, ulong *);
typedef ulong (*login_fn)(ulong, ulong, byte *, ulong);
typedef ulong (*attributes_fn)(ulong, ulong, struct attribute *, ulong);
typedef ulong (*create_fn)(ulong, struct attribute *, ulong, ulong *);
typedef ulong (*destroy_fn)(ulong, ulong);
typedef ulong (*find_init_fn)(ulong, struct attribute *, ulong);
typedef ulong (*find_fn)(ulong, ulong *, ulong, ulong *);
typedef ulong (*find_final_fn)(ulong);
typedef ulong (*derive_fn)(ulong, void *, ulong, struct attribute *, ulong, ulong *);

static struct function_list *remote, *direct, ours;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static byte pin[256];
static ulong pin_length;
static ulong direct_session;

static struct function_list *load(const char *path) {
    struct function_list *list = NULL;
    void *module = dlopen(path, RTLD_NOW);
    ulong (*functions)(struct function_list **) = module ? dlsym(module, "C_GetFunctionList") : NULL;
    return functions && functions(&list) == 0 ? list : NULL;
}

static ulong login(ulong session, ulong user, byte *text, ulong length) {
    if (text && length <= sizeof pin) {
        pthread_mutex_lock(&lock);
        memcpy(pin, text, length);
        pin_length = length;
        pthread_mutex_unlock(&lock);
    }
    return ((login_fn)remote->functions[LOGIN])(session, user, text, length);
}

/* A session of SoftHSM itself with the token of this serial number. */
static ulong connect_directly(const byte *serial) {
    struct { void *create, *destroy, *lock, *unlock; ulong flags; void *reserved; } arguments = { .flags = OS_LOCKING };
    ulong slots[SLOTS_MAX], count = SLOTS_MAX;
    byte info[TOKEN_INFO_BYTES];
    if (direct_session)
        return 0;
    if (!direct && !(direct = load(DIRECT)))
        return GENERAL_ERROR;
    ((ulong (*)(void *))direct->functions[INITIALIZE])(&arguments);
    if (((slot_list_fn)direct->functions[GET_SLOT_LIST])(1, slots, &count))
        return GENERAL_ERROR;
    for (ulong at = 0; at < count; at++) {
        if (((token_info_fn)direct->functions[GET_TOKEN_INFO])(slots[at], info) ||
            memcmp(info + SERIAL_AT, serial, SERIAL_BYTES))
            continue;
        if (((open_fn)direct->functions[OPEN_SESSION])(slots[at], 6, NULL, NULL, &direct_session))
            return GENERAL_ERROR;
        ((login_fn)direct->functions[LOGIN])(direct_session, 1, pin, pin_length);
        return 0;
    }
    return GENERAL_ERROR;
}

/* The agreed secret, by the private key of this CKA_ID. */
static ulong agree(void *mechanism, struct attribute *id, struct attribute *template, ulong count, struct attribute *value) {
    ulong class = PRIVATE_KEY, key, found = 0, secret, result;
    struct attribute wanted[] = { { CLASS, &class, sizeof class }, *id };
    if (((find_init_fn)direct->functions[FIND_OBJECTS_INIT])(direct_session, wanted, 2))
        return GENERAL_ERROR;
    ((find_fn)direct->functions[FIND_OBJECTS])(direct_session, &key, 1, &found);
    ((find_final_fn)direct->functions[FIND_OBJECTS_FINAL])(direct_session);
    if (found != 1)
        return GENERAL_ERROR;
    result = ((derive_fn)direct->functions[DERIVE_KEY])(direct_session, mechanism, key, template, count, &secret);
    if (result)
        return result;
    result = ((attributes_fn)direct->functions[GET_ATTRIBUTE_VALUE])(direct_session, secret, value, 1);
    ((destroy_fn)direct->functions[DESTROY_OBJECT])(direct_session, secret);
    return result;
}

static ulong derive(ulong session, void *mechanism, ulong key, struct attribute *template, ulong count, ulong *secret) {
    byte identifier[256], bytes[256], info[TOKEN_INFO_BYTES];
    ulong session_info[4], result, kept = 0;
    struct attribute id = { ID, identifier, sizeof identifier }, value = { VALUE, bytes, sizeof bytes };
    struct attribute made[ATTRIBUTES_MAX];
    if ((result = ((attributes_fn)remote->functions[GET_ATTRIBUTE_VALUE])(session, key, &id, 1)) ||
        (result = ((session_info_fn)remote->functions[GET_SESSION_INFO])(session, session_info)) ||
        (result = ((token_info_fn)remote->functions[GET_TOKEN_INFO])(session_info[0], info)))
        return result;
    pthread_mutex_lock(&lock);
    result = connect_directly(info + SERIAL_AT);
    if (!result)
        result = agree(mechanism, &id, template, count, &value);
    pthread_mutex_unlock(&lock);
    if (result)
        return result;
    for (ulong at = 0; at < count && kept + 1 < ATTRIBUTES_MAX; at++)
        if (template[at].type != VALUE_LEN)
            made[kept++] = template[at];
    made[kept++] = value;
    return ((create_fn)remote->functions[CREATE_OBJECT])(session, made, kept, secret);
}

ulong C_GetFunctionList(struct function_list **list) {
    if (!remote) {
        if (!(remote = load(REMOTE)))
            return GENERAL_ERROR;
        ours = *remote;
        ours.functions[LOGIN] = login;
        ours.functions[DERIVE_KEY] = derive;
    }
    *list = &ours;
    return 0;
}
