/* joblot/base.h - what every other header needs: version, status codes, the caller's error.
 *
 * ERRORS. A call that can fail returns a joblot_status: 0 is success, a negative value says what kind of
 * failure it was.  The last parameter of such a call is a `joblot_error *err`, which may be NULL.  It is the
 * caller's storage, is written only when the call fails, and then holds the code, the errno behind it (0 when
 * there was none) and a message that says what failed, where, and what to do.  There is no global "last
 * error", no thread-local state, and nothing in the library aborts.
 *
 * NAMES. Pairs tell who owns what: new/free (the library's heap), init/clear (the caller's storage),
 * open/close (operating system objects), borrow/release (segments), lease/release (workers).  free, clear,
 * close and release take NULL.
 */
#ifndef JOBLOT_BASE_H
#define JOBLOT_BASE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of joblot: the one place where it is written down (Meson and Python read it from here). */
#define JOBLOT_VERSION "0.1.0"

#if defined(__GNUC__)
#define JOBLOT_API __attribute__((visibility("default")))
#define JOBLOT_MUST_USE __attribute__((warn_unused_result))
#define JOBLOT_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#else
#define JOBLOT_API
#define JOBLOT_MUST_USE
#define JOBLOT_PRINTF(fmt, first)
#endif

/* X(name, value, text): every status.  Values are pinned: they never change and are never reused. */
#define JOBLOT_STATUS_MAP(X)                                                                                  \
    X(OK, 0, "success")                                                                                       \
    X(INVALID, -1, "invalid argument")                                                                        \
    X(FORMAT, -2, "malformed data")                                                                           \
    X(TRUNCATED, -3, "data ends too early")                                                                   \
    X(UNSUPPORTED, -4, "not supported here")                                                                  \
    X(LIMIT, -5, "a limit was exceeded")                                                                      \
    X(NOMEM, -6, "out of memory")                                                                             \
    X(OS, -7, "the operating system refused")                                                                 \
    X(TIMEOUT, -8, "timed out")                                                                               \
    X(WORKER_DIED, -9, "a worker process died")                                                               \
    X(CANCELLED, -10, "cancelled")

typedef enum joblot_status {
#define JOBLOT_STATUS_ENUM(name, value, text) JOBLOT_##name = value,
    JOBLOT_STATUS_MAP(JOBLOT_STATUS_ENUM)
#undef JOBLOT_STATUS_ENUM
} joblot_status;

/* What went wrong.  Caller's storage; needs no clearing. */
typedef struct joblot_error {
    joblot_status code;  /* what the call returned */
    int os_errno;        /* errno behind it, or 0 */
    char message[500];   /* UTF-8, always terminated: what, where, and what to do */
} joblot_error;

/* joblot_version - the version of the library that is loaded, such as "0.1.0".
 * Returns a static string.  Threads: any.  Fork: safe. */
JOBLOT_API const char *joblot_version(void);

/* joblot_status_name - the name of a status without its prefix ("NOMEM"); "UNKNOWN" for other values.
 * Returns a static string.  Threads: any.  Fork: safe. */
JOBLOT_API const char *joblot_status_name(int status);

/* joblot_status_text - a short description of a status; "unknown status" for other values.
 * Returns a static string.  Threads: any.  Fork: safe. */
JOBLOT_API const char *joblot_status_text(int status);

#ifdef __cplusplus
}
#endif
#endif
