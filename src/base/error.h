/* base/error.h - filling in the caller's error. */
#ifndef JOBLOT_BASE_ERROR_H
#define JOBLOT_BASE_ERROR_H

#include <joblot/base.h>

/* Writes code, os_errno and the formatted message to err (NULL is fine) and returns code, so that a failing
 * call ends with `return joblot__fail(err, JOBLOT_FORMAT, 0, "...")`.  Keeps errno as it was. */
joblot_status joblot__fail(joblot_error *err, joblot_status code, int os_errno, const char *fmt, ...)
    JOBLOT_PRINTF(4, 5);

/* The same for a failed system call: JOBLOT_NOMEM for ENOMEM, JOBLOT_OS otherwise, and the text of os_errno
 * appended to the message. */
joblot_status joblot__fail_os(joblot_error *err, int os_errno, const char *fmt, ...) JOBLOT_PRINTF(3, 4);

/* "out of memory (n bytes for <what>)". */
joblot_status joblot__fail_nomem(joblot_error *err, size_t bytes, const char *what);

#endif
