/* base/error.c - status names and the caller's error. */
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *joblot_version(void)
{
    return JOBLOT_VERSION;
}

const char *joblot_status_name(int status)
{
    switch (status) {
#define NAME(name, value, text) \
    case value:                 \
        return #name;
        JOBLOT_STATUS_MAP(NAME)
#undef NAME
    default:
        return "UNKNOWN";
    }
}

const char *joblot_status_text(int status)
{
    switch (status) {
#define TEXT(name, value, text) \
    case value:                 \
        return text;
        JOBLOT_STATUS_MAP(TEXT)
#undef TEXT
    default:
        return "unknown status";
    }
}

static joblot_status fail_va(joblot_error *err, joblot_status code, int os_errno, const char *fmt, va_list args)
{
    int kept = errno;
    if (err != NULL) {
        err->code = code;
        err->os_errno = os_errno;
        if (vsnprintf(err->message, sizeof err->message, fmt, args) < 0)
            err->message[0] = '\0';
    }
    errno = kept;
    return code;
}

joblot_status joblot__fail(joblot_error *err, joblot_status code, int os_errno, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    code = fail_va(err, code, os_errno, fmt, args);
    va_end(args);
    return code;
}

/* What the user can do about limits of the process. */
static const char *remedy(int os_errno)
{
    switch (os_errno) {
    case EMFILE:
        return " (raise ulimit -n)";
    case EFBIG:
        return " (raise ulimit -f)";
    default:
        return "";
    }
}

joblot_status joblot__fail_os(joblot_error *err, int os_errno, const char *fmt, ...)
{
    joblot_status code = os_errno == ENOMEM ? JOBLOT_NOMEM : JOBLOT_OS;
    va_list args;
    va_start(args, fmt);
    (void)fail_va(err, code, os_errno, fmt, args);
    va_end(args);
    if (err != NULL) {
        size_t used = strlen(err->message);
        (void)snprintf(err->message + used, sizeof err->message - used, ": %s%s", strerror(os_errno), remedy(os_errno));
    }
    return code;
}

joblot_status joblot__fail_nomem(joblot_error *err, size_t bytes, const char *what)
{
    return joblot__fail(err, JOBLOT_NOMEM, 0, "out of memory: %zu bytes for %s", bytes, what);
}
