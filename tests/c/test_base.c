/* test_base.c - src/base: errors, the allocator's hook, the buffer, the sticky reader, arithmetic, byte order. */
#include "base/alloc.h"
#include "base/buffer.h"
#include "base/checked.h"
#include "base/endian.h"
#include "base/error.h"
#include "base/reader.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Every test leaves as many blocks as it found, and no allocation set to fail. */
static int remember(void **state)
{
    static long before;
    joblot__alloc_fail_at(0, false);
    before = joblot__alloc_live();
    *state = &before;
    return 0;
}

static int no_leak(void **state)
{
    joblot__alloc_fail_at(0, false);
    assert_int_equal(joblot__alloc_live(), *(long *)*state);
    return 0;
}

/* --- errors ---------------------------------------------------------------------------------------------- */

static void version_is_the_header(void **state)
{
    (void)state;
    unsigned major, minor, patch;
    char rest;
    assert_string_equal(joblot_version(), JOBLOT_VERSION);
    assert_int_equal(sscanf(joblot_version(), "%u.%u.%u%c", &major, &minor, &patch, &rest), 3);
}

static void statuses_are_pinned(void **state)
{
    (void)state;
    static const struct {
        joblot_status value;
        int pinned;
        const char *name;
    } known[] = {
        {JOBLOT_OK, 0, "OK"},
        {JOBLOT_INVALID, -1, "INVALID"},
        {JOBLOT_FORMAT, -2, "FORMAT"},
        {JOBLOT_TRUNCATED, -3, "TRUNCATED"},
        {JOBLOT_UNSUPPORTED, -4, "UNSUPPORTED"},
        {JOBLOT_LIMIT, -5, "LIMIT"},
        {JOBLOT_NOMEM, -6, "NOMEM"},
        {JOBLOT_OS, -7, "OS"},
        {JOBLOT_TIMEOUT, -8, "TIMEOUT"},
        {JOBLOT_WORKER_DIED, -9, "WORKER_DIED"},
        {JOBLOT_CANCELLED, -10, "CANCELLED"},
    };
    size_t n = sizeof known / sizeof known[0], i;
    for (i = 0; i < n; i++) {
        assert_int_equal(known[i].value, known[i].pinned);
        assert_string_equal(joblot_status_name(known[i].pinned), known[i].name);
        assert_true(strlen(joblot_status_text(known[i].pinned)) > 0);
        assert_string_not_equal(joblot_status_text(known[i].pinned), "unknown status");
    }
    static const int unknown[] = {1, -1000, INT_MAX, INT_MIN};
    for (i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        assert_string_equal(joblot_status_name(unknown[i]), "UNKNOWN");
        assert_string_equal(joblot_status_text(unknown[i]), "unknown status");
    }
}

static void statuses_have_their_own_names(void **state)
{
    (void)state;
    for (int a = 0; strcmp(joblot_status_name(a), "UNKNOWN") != 0; a--) {
        for (int b = a - 1; strcmp(joblot_status_name(b), "UNKNOWN") != 0; b--) {
            assert_string_not_equal(joblot_status_name(a), joblot_status_name(b));
            assert_string_not_equal(joblot_status_text(a), joblot_status_text(b));
        }
    }
}

static void fail_fills_in_the_error(void **state)
{
    (void)state;
    joblot_error err;
    memset(&err, 0xee, sizeof err);
    assert_int_equal(joblot__fail(&err, JOBLOT_FORMAT, 7, "field %d: '%s'", 3, "x"), JOBLOT_FORMAT);
    assert_int_equal(err.code, JOBLOT_FORMAT);
    assert_int_equal(err.os_errno, 7);
    assert_string_equal(err.message, "field 3: 'x'");
}

static void fail_takes_no_error(void **state)
{
    (void)state;
    assert_int_equal(joblot__fail(NULL, JOBLOT_LIMIT, 0, "%s", "not kept"), JOBLOT_LIMIT);
    assert_int_equal(joblot__fail_os(NULL, EACCES, "open"), JOBLOT_OS);
    assert_int_equal(joblot__fail_os(NULL, ENOMEM, "mmap"), JOBLOT_NOMEM);
    assert_int_equal(joblot__fail_nomem(NULL, 10, "a table"), JOBLOT_NOMEM);
}

static void fail_keeps_errno(void **state)
{
    (void)state;
    joblot_error err;
    errno = EPIPE;
    (void)joblot__fail(&err, JOBLOT_INVALID, 0, "%s", "x");
    assert_int_equal(errno, EPIPE);
    (void)joblot__fail_os(&err, ENOENT, "open");
    assert_int_equal(errno, EPIPE);
}

/* Fills the text with `length` letters and one byte after it, which must stay as it is. */
static void fail_cuts_long_messages(void **state)
{
    (void)state;
    struct {
        joblot_error err;
        unsigned char guard;
    } e;
    size_t room = sizeof e.err.message, length;
    char *text = malloc(2 * room);
    assert_non_null(text);
    for (length = room - 2; length < 2 * room; length += room / 2 + 1) {
        memset(&e, 0x5a, sizeof e);
        memset(text, 'a', length);
        text[length] = '\0';
        assert_int_equal(joblot__fail(&e.err, JOBLOT_OS, 0, "%s", text), JOBLOT_OS);
        assert_int_equal(strlen(e.err.message), length < room ? length : room - 1);
        assert_int_equal(e.guard, 0x5a);
        assert_int_equal(joblot__fail_os(&e.err, EACCES, "%s", text), JOBLOT_OS);
        assert_int_equal(strlen(e.err.message), room - 1);
        assert_int_equal(e.guard, 0x5a);
    }
    free(text);
}

static void fail_os_says_why(void **state)
{
    (void)state;
    joblot_error err;
    assert_int_equal(joblot__fail_os(&err, ENOENT, "cannot open %s", "/no/such"), JOBLOT_OS);
    assert_int_equal(err.code, JOBLOT_OS);
    assert_int_equal(err.os_errno, ENOENT);
    assert_non_null(strstr(err.message, "cannot open /no/such: "));
    assert_non_null(strstr(err.message, strerror(ENOENT)));

    assert_int_equal(joblot__fail_os(&err, ENOMEM, "mmap of %d bytes", 9), JOBLOT_NOMEM);
    assert_int_equal(err.code, JOBLOT_NOMEM);
    assert_int_equal(err.os_errno, ENOMEM);
}

static void fail_nomem_says_how_much(void **state)
{
    (void)state;
    joblot_error err;
    assert_int_equal(joblot__fail_nomem(&err, 12345, "the table of tasks"), JOBLOT_NOMEM);
    assert_int_equal(err.code, JOBLOT_NOMEM);
    assert_int_equal(err.os_errno, 0);
    assert_non_null(strstr(err.message, "12345"));
    assert_non_null(strstr(err.message, "the table of tasks"));
}

/* --- alloc ----------------------------------------------------------------------------------------------- */

static void alloc_counts_blocks(void **state)
{
    (void)state;
    long before = joblot__alloc_live();
    joblot__alloc_fail_at(0, false);
    void *a = joblot__malloc(10), *b = joblot__calloc(3, 4), *c = joblot__realloc(NULL, 5);
    assert_non_null(a);
    assert_non_null(b);
    assert_non_null(c);
    assert_int_equal(joblot__alloc_count(), 3);
    assert_int_equal(joblot__alloc_live(), before + 3);
    c = joblot__realloc(c, 5000); /* moves or grows the block: no new one */
    assert_non_null(c);
    assert_int_equal(joblot__alloc_count(), 4);
    assert_int_equal(joblot__alloc_live(), before + 3);
    joblot__free(a);
    joblot__free(b);
    joblot__free(c);
    joblot__free(NULL);
    assert_int_equal(joblot__alloc_live(), before);
}

static void alloc_of_nothing_is_a_block(void **state)
{
    (void)state;
    void *p[] = {joblot__malloc(0), joblot__malloc(0), joblot__calloc(0, 8), joblot__calloc(8, 0),
                 joblot__realloc(NULL, 0)};
    size_t n = sizeof p / sizeof p[0];
    for (size_t i = 0; i < n; i++) {
        assert_non_null(p[i]);
        for (size_t j = 0; j < i; j++)
            assert_ptr_not_equal(p[i], p[j]);
    }
    p[0] = joblot__realloc(p[0], 0);
    assert_non_null(p[0]);
    for (size_t i = 0; i < n; i++)
        joblot__free(p[i]);
}

static void calloc_zeroes_and_checks(void **state)
{
    (void)state;
    unsigned char *p = joblot__calloc(1000, 3);
    assert_non_null(p);
    for (size_t i = 0; i < 3000; i++)
        assert_int_equal(p[i], 0);
    joblot__free(p);
    volatile size_t half = SIZE_MAX / 2 + 1; /* volatile: compilers warn of sizes that can never be had */
    assert_null(joblot__calloc(half, 2));
    assert_null(joblot__calloc(2, half));
}

static void realloc_keeps_the_bytes(void **state)
{
    (void)state;
    unsigned char *p = joblot__malloc(100);
    assert_non_null(p);
    for (int i = 0; i < 100; i++)
        p[i] = (unsigned char)i;
    p = joblot__realloc(p, 100000);
    assert_non_null(p);
    for (int i = 0; i < 100; i++)
        assert_int_equal(p[i], i);
    joblot__alloc_fail_at(1, false);
    assert_null(joblot__realloc(p, 200000)); /* and the old block is still ours */
    for (int i = 0; i < 100; i++)
        assert_int_equal(p[i], i);
    joblot__free(p);
}

/* Asks for six blocks and writes down which were refused. */
static void ask_six(bool refused[6])
{
    void *p[6] = {joblot__malloc(1),        joblot__calloc(1, 1),     joblot__realloc(NULL, 1),
                  joblot__malloc(2), joblot__calloc(1, 2),     joblot__realloc(NULL, 2)};
    for (int i = 0; i < 6; i++) {
        refused[i] = p[i] == NULL;
        joblot__free(p[i]);
    }
}

static void the_nth_allocation_fails(void **state)
{
    (void)state;
    bool refused[6];
    for (int n = 1; n <= 7; n++) {
        joblot__alloc_fail_at((unsigned long)n, false);
        ask_six(refused);
        for (int i = 0; i < 6; i++)
            assert_int_equal(refused[i], i == n - 1);
        joblot__alloc_fail_at((unsigned long)n, true);
        ask_six(refused);
        for (int i = 0; i < 6; i++)
            assert_int_equal(refused[i], i >= n - 1);
        assert_int_equal(joblot__alloc_count(), 6);
    }
    joblot__alloc_fail_at(0, true); /* 0 is off, whatever the second parameter says */
    ask_six(refused);
    for (int i = 0; i < 6; i++)
        assert_false(refused[i]);
}

/* --- buffer ---------------------------------------------------------------------------------------------- */

static void buffer_writes_little_endian(void **state)
{
    (void)state;
    static const unsigned char expected[] = {0xab, 0x34, 0x12, 0xef, 0xbe, 0xad, 0xde, 0xf0, 0xde, 0xbc,
                                             0x9a, 0x78, 0x56, 0x34, 0x12, 'h',  'i',  0,    0xff};
    struct joblot__buffer b;
    joblot__buffer_init(&b);
    assert_null(b.data);
    assert_int_equal(b.size, 0);
    joblot__buffer_u8(&b, 0xab);
    joblot__buffer_le16(&b, 0x1234);
    joblot__buffer_le32(&b, 0xdeadbeef);
    joblot__buffer_le64(&b, 0x123456789abcdef0);
    joblot__buffer_append_str(&b, "hi");
    joblot__buffer_append(&b, "\0\xff", 2);
    assert_int_equal(b.status, JOBLOT_OK);
    assert_int_equal(b.size, sizeof expected);
    assert_memory_equal(b.data, expected, sizeof expected);
    joblot__buffer_clear(&b);
    assert_null(b.data);
    assert_int_equal(b.size, 0);
    assert_int_equal(b.capacity, 0);
    joblot__buffer_clear(&b);
}

static void buffer_grows(void **state)
{
    (void)state;
    struct joblot__buffer b = {0};
    for (uint32_t i = 0; i < 20000; i++)
        joblot__buffer_le32(&b, i * 2654435761u);
    assert_int_equal(b.status, JOBLOT_OK);
    assert_int_equal(b.size, 80000);
    assert_true(b.capacity >= b.size);
    for (uint32_t i = 0; i < 20000; i++)
        assert_int_equal(joblot__load_le32(b.data + 4 * i), i * 2654435761u);
    joblot__buffer_clear(&b);
}

static void buffer_extends_by_what_is_asked(void **state)
{
    (void)state;
    struct joblot__buffer b = {0};
    unsigned char *at = joblot__buffer_extend(&b, 0); /* no bytes, yet a place: only failure is NULL */
    assert_non_null(at);
    assert_int_equal(b.size, 0);
    joblot__buffer_append(&b, NULL, 0);
    assert_int_equal(b.status, JOBLOT_OK);
    at = joblot__buffer_extend(&b, 1000);
    assert_non_null(at);
    assert_ptr_equal(at, b.data);
    memset(at, 7, 1000);
    at = joblot__buffer_extend(&b, 1);
    assert_ptr_equal(at, b.data + 1000);
    assert_int_equal(b.size, 1001);
    joblot__buffer_clear(&b);
}

static void buffer_refuses_impossible_sizes(void **state)
{
    (void)state;
    struct joblot__buffer b = {0};
    joblot__buffer_u8(&b, 1);
    assert_null(joblot__buffer_extend(&b, SIZE_MAX)); /* 1 + SIZE_MAX overflows */
    assert_int_equal(b.status, JOBLOT_NOMEM);
    joblot__buffer_u8(&b, 2); /* sticky */
    assert_int_equal(b.size, 1);
    assert_int_equal(b.data[0], 1);
    joblot__buffer_clear(&b);
    assert_int_equal(b.status, JOBLOT_OK); /* a cleared buffer can be used again */
}

static void buffer_formats(void **state)
{
    (void)state;
    struct joblot__buffer b = {0};
    char *wide = malloc(4001);
    assert_non_null(wide);
    memset(wide, 'w', 4000);
    wide[4000] = '\0';
    joblot__buffer_printf(&b, "%d-%s", 42, "x");
    assert_int_equal(b.size, 4);
    assert_memory_equal(b.data, "42-x", 4);
    /* around the size of the array that small texts are made in, and far beyond it */
    static const int lengths[] = {0, 254, 255, 256, 257, 4000};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        size_t before = b.size, length = (size_t)lengths[i];
        joblot__buffer_printf(&b, "%.*s", lengths[i], wide);
        assert_int_equal(b.status, JOBLOT_OK);
        assert_int_equal(b.size, before + length);
        if (length > 0)
            assert_memory_equal(b.data + before, wide, length);
    }
    joblot__buffer_u8(&b, '!'); /* the zero that vsnprintf wrote is not kept */
    assert_int_equal(b.data[b.size - 1], '!');
    assert_int_equal(b.data[b.size - 2], 'w');
    joblot__buffer_clear(&b);
    free(wide);
}

static void buffer_aligns_with_zeros(void **state)
{
    (void)state;
    for (size_t to = 1; to <= 64; to *= 2) {
        for (size_t n = 0; n <= 65; n++) {
            struct joblot__buffer b = {0};
            unsigned char *at = joblot__buffer_extend(&b, n);
            assert_non_null(at);
            memset(at, 0xff, n);
            joblot__buffer_align(&b, to);
            assert_int_equal(b.status, JOBLOT_OK);
            assert_int_equal(b.size % to, 0);
            assert_true(b.size - n < to);
            for (size_t i = n; i < b.size; i++)
                assert_int_equal(b.data[i], 0);
            joblot__buffer_clear(&b);
        }
    }
}

static void write_a_lot(struct joblot__buffer *b)
{
    char text[300];
    memset(text, 't', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    joblot__buffer_u8(b, 1);
    joblot__buffer_le16(b, 2);
    joblot__buffer_printf(b, "%s", text);
    joblot__buffer_align(b, 64);
    joblot__buffer_le32(b, 3);
    joblot__buffer_append_str(b, text);
    joblot__buffer_le64(b, 4);
    (void)joblot__buffer_extend(b, 5000);
}

static void buffer_survives_the_nth_failure(void **state)
{
    (void)state;
    struct joblot__buffer whole = {0};
    joblot__alloc_fail_at(0, false);
    write_a_lot(&whole);
    assert_int_equal(whole.status, JOBLOT_OK);
    unsigned long asked = joblot__alloc_count();
    assert_true(asked >= 3);
    for (int for_good = 0; for_good <= 1; for_good++) {
        for (unsigned long n = 1; n <= asked; n++) {
            long before = joblot__alloc_live();
            struct joblot__buffer b = {0};
            joblot__alloc_fail_at(n, for_good != 0);
            write_a_lot(&b);
            assert_int_equal(b.status, JOBLOT_NOMEM);
            assert_int_equal(joblot__alloc_count(), n); /* sticky: it did not ask again */
            assert_true(b.size < whole.size);
            if (b.size > 0)
                assert_memory_equal(b.data, whole.data, b.size); /* what was written before is there */
            joblot__buffer_clear(&b);
            assert_int_equal(joblot__alloc_live(), before);
        }
    }
    joblot__alloc_fail_at(0, false);
    joblot__buffer_clear(&whole);
}

/* --- reader ---------------------------------------------------------------------------------------------- */

static void reader_reads_what_the_buffer_wrote(void **state)
{
    (void)state;
    struct joblot__buffer b = {0};
    joblot__buffer_u8(&b, 0xfe);
    joblot__buffer_le16(&b, 0xfedc);
    joblot__buffer_le32(&b, 0xfedcba98);
    joblot__buffer_le64(&b, 0xfedcba9876543210);
    joblot__buffer_append_str(&b, "tail");
    struct joblot__reader r;
    char tail[4];
    joblot__reader_init(&r, b.data, b.size);
    assert_int_equal(joblot__reader_left(&r), 19);
    assert_int_equal(joblot__reader_peek(&r), 0xfe);
    assert_int_equal(joblot__reader_u8(&r), 0xfe);
    assert_int_equal(joblot__reader_le16(&r), 0xfedc);
    assert_int_equal(joblot__reader_le32(&r), 0xfedcba98);
    assert_true(joblot__reader_le64(&r) == 0xfedcba9876543210);
    joblot__reader_copy(&r, tail, 4);
    assert_memory_equal(tail, "tail", 4);
    assert_int_equal(joblot__reader_left(&r), 0);
    assert_int_equal(joblot__reader_peek(&r), -1);
    joblot_error err;
    assert_int_equal(joblot__reader_finish(&r, "it", &err), JOBLOT_OK);
    joblot__buffer_clear(&b);
}

/* Data of every length from 0 to 14 read as 1 + 2 + 4 + 8 bytes: the error is where the data ends. */
static void reader_sticks_at_the_first_error(void **state)
{
    (void)state;
    unsigned char data[15];
    memset(data, 0x11, sizeof data);
    for (size_t size = 0; size < sizeof data; size++) {
        struct joblot__reader r;
        joblot__reader_init(&r, data, size);
        uint8_t a = joblot__reader_u8(&r);
        uint16_t b = joblot__reader_le16(&r);
        uint32_t c = joblot__reader_le32(&r);
        uint64_t d = joblot__reader_le64(&r);
        assert_int_equal(a, size >= 1 ? 0x11 : 0);
        assert_int_equal(b, size >= 3 ? 0x1111 : 0);
        assert_int_equal(c, size >= 7 ? 0x11111111 : 0);
        assert_true(d == 0);
        size_t where = size < 1 ? 0 : size < 3 ? 1 : size < 7 ? 3 : 7;
        assert_int_equal(r.status, JOBLOT_TRUNCATED);
        assert_int_equal(r.error_pos, where);
        /* nothing more can be had, though bytes are left */
        assert_int_equal(joblot__reader_left(&r), 0);
        assert_int_equal(joblot__reader_peek(&r), -1);
        assert_null(joblot__reader_take(&r, 0));
        assert_int_equal(joblot__reader_u8(&r), 0);
        joblot__reader_fail(&r, JOBLOT_LIMIT, "a later error");
        joblot_error err;
        char text[80];
        (void)snprintf(text, sizeof text, "head: data ends too early at offset %zu", where);
        assert_int_equal(joblot__reader_finish(&r, "head", &err), JOBLOT_TRUNCATED);
        assert_int_equal(err.code, JOBLOT_TRUNCATED);
        assert_string_equal(err.message, text);
        assert_int_equal(joblot__reader_finish(&r, "head", NULL), JOBLOT_TRUNCATED);
    }
}

static void reader_keeps_a_parsers_error(void **state)
{
    (void)state;
    struct joblot__reader r;
    joblot_error err;
    joblot__reader_init(&r, "abcdef", 6);
    (void)joblot__reader_take(&r, 4);
    joblot__reader_fail(&r, JOBLOT_FORMAT, "a letter where a digit belongs");
    joblot__reader_fail(&r, JOBLOT_LIMIT, "something else");
    assert_int_equal(joblot__reader_finish(&r, "number", &err), JOBLOT_FORMAT);
    assert_string_equal(err.message, "number: a letter where a digit belongs at offset 4");
}

static void reader_takes_without_overflow(void **state)
{
    (void)state;
    struct joblot__reader r;
    unsigned char out[4] = {9, 9, 9, 9};
    joblot__reader_init(&r, "abcd", 4);
    const unsigned char *at = joblot__reader_take(&r, 4);
    assert_non_null(at);
    assert_ptr_equal(joblot__reader_take(&r, 0), at + 4); /* no bytes at the end are no error */
    assert_int_equal(r.status, JOBLOT_OK);

    joblot__reader_init(&r, "abcd", 4);
    (void)joblot__reader_take(&r, 1);
    assert_null(joblot__reader_take(&r, SIZE_MAX)); /* pos + size wraps to 0 */
    assert_int_equal(r.status, JOBLOT_TRUNCATED);
    assert_int_equal(r.pos, 1);
    joblot__reader_copy(&r, out, 4);
    assert_memory_equal(out, "\0\0\0\0", 4); /* never what was there before */
}

static void reader_of_nothing(void **state)
{
    (void)state;
    struct joblot__reader r;
    joblot__reader_init(&r, NULL, 0);
    assert_int_equal(joblot__reader_left(&r), 0);
    assert_int_equal(joblot__reader_peek(&r), -1);
    assert_int_equal(joblot__reader_finish(&r, "nothing", NULL), JOBLOT_OK);
    assert_int_equal(joblot__reader_u8(&r), 0);
    assert_int_equal(joblot__reader_finish(&r, "nothing", NULL), JOBLOT_TRUNCATED);
}

/* --- checked arithmetic ---------------------------------------------------------------------------------- */

static void sizes_are_checked(void **state)
{
    (void)state;
    size_t out = 77;
    assert_true(joblot__add_size(SIZE_MAX - 1, 1, &out));
    assert_true(out == SIZE_MAX);
    assert_false(joblot__add_size(SIZE_MAX, 1, &out));
    assert_false(joblot__add_size(SIZE_MAX / 2 + 1, SIZE_MAX / 2 + 1, &out));
    assert_true(joblot__mul_size(SIZE_MAX / 3, 3, &out));
    assert_true(out == SIZE_MAX / 3 * 3);
    assert_false(joblot__mul_size(SIZE_MAX / 2 + 1, 2, &out));
    assert_true(joblot__mul_size(SIZE_MAX, 0, &out));
    assert_true(out == 0);
}

static void signed_numbers_are_checked(void **state)
{
    (void)state;
    int64_t out;
    assert_true(joblot__add_i64(INT64_MAX, -1, &out));
    assert_true(out == INT64_MAX - 1);
    assert_false(joblot__add_i64(INT64_MAX, 1, &out));
    assert_false(joblot__add_i64(INT64_MIN, -1, &out));
    assert_true(joblot__add_i64(INT64_MIN, INT64_MAX, &out));
    assert_true(out == -1);
    assert_true(joblot__mul_i64(INT64_MIN / 2, 2, &out));
    assert_true(out == INT64_MIN);
    assert_false(joblot__mul_i64(INT64_MIN, -1, &out)); /* the one product that has no positive */
    assert_false(joblot__mul_i64(INT64_MAX / 2 + 1, 2, &out));
    assert_true(joblot__mul_i64(-3, 7, &out));
    assert_true(out == -21);
}

static void rounding_up_is_checked(void **state)
{
    (void)state;
    size_t out = 77;
    for (size_t to = 1; to <= 4096; to *= 2) {
        for (size_t n = 0; n < 3 * to && n < 500; n++) {
            assert_true(joblot__round_up(n, to, &out));
            assert_true(out >= n && out - n < to && out % to == 0);
        }
        assert_true(joblot__round_up(SIZE_MAX - to + 1, to, &out));
        assert_true(out == SIZE_MAX - to + 1);
        if (to > 1)
            assert_false(joblot__round_up(SIZE_MAX - to + 2, to, &out));
    }
}

/* --- byte order ------------------------------------------------------------------------------------------ */

static void little_endian_on_every_machine(void **state)
{
    (void)state;
    static const unsigned char bytes[] = {0xff, 1, 2, 3, 4, 5, 6, 7, 0x88};
    unsigned char out[9];
    /* from an odd address too */
    assert_int_equal(joblot__load_le16(bytes + 1), 0x0201);
    assert_int_equal(joblot__load_le32(bytes + 1), 0x04030201);
    assert_true(joblot__load_le64(bytes + 1) == 0x8807060504030201);
    memset(out, 0xff, sizeof out);
    joblot__store_le64(out + 1, 0x8807060504030201);
    assert_memory_equal(out, bytes, 9);
    memset(out, 0, sizeof out);
    joblot__store_le32(out + 1, 0x04030201);
    assert_memory_equal(out, "\0\1\2\3\4\0", 6);
    memset(out, 0, sizeof out);
    joblot__store_le16(out + 1, 0x0201);
    assert_memory_equal(out, "\0\1\2\0", 4);
}

static void byte_order_is_the_machines(void **state)
{
    (void)state;
    uint16_t probe = 1;
    unsigned char first;
    memcpy(&first, &probe, 1);
    assert_int_equal(JOBLOT__BIG_ENDIAN, first == 0);
    assert_int_equal(joblot__le16(0x0102), first ? 0x0102 : 0x0201);
    assert_int_equal(joblot__le32(joblot__le32(0x01020304)), 0x01020304);
    assert_true(joblot__le64(joblot__le64(0x0102030405060708)) == 0x0102030405060708);
}

static void shared_words_are_little_endian(void **state)
{
    (void)state;
    joblot__shared32 w;
    joblot__shared64 d;
    assert_int_equal(sizeof w, 4); /* the layout that two processes of different kinds share */
    assert_int_equal(sizeof d, 8);
    joblot__shared32_store(&w, 0x04030201, memory_order_release);
    assert_memory_equal(&w, "\1\2\3\4", 4);
    assert_int_equal(joblot__shared32_load(&w, memory_order_acquire), 0x04030201);
    joblot__shared64_store(&d, 0x0807060504030201, memory_order_release);
    assert_memory_equal(&d, "\1\2\3\4\5\6\7\x8", 8);
    assert_true(joblot__shared64_load(&d, memory_order_acquire) == 0x0807060504030201);

    assert_int_equal(joblot__shared32_exchange(&w, 7, memory_order_acq_rel), 0x04030201);
    assert_false(joblot__shared32_cas(&w, 8, 9));
    assert_int_equal(joblot__shared32_load(&w, memory_order_relaxed), 7);
    assert_true(joblot__shared32_cas(&w, 7, 0xfffffffe));
    assert_int_equal(joblot__shared32_load(&w, memory_order_relaxed), 0xfffffffe);
    assert_memory_equal(&w, "\xfe\xff\xff\xff", 4);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, remember, no_leak)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(version_is_the_header),
        TEST(statuses_are_pinned),
        TEST(statuses_have_their_own_names),
        TEST(fail_fills_in_the_error),
        TEST(fail_takes_no_error),
        TEST(fail_keeps_errno),
        TEST(fail_cuts_long_messages),
        TEST(fail_os_says_why),
        TEST(fail_nomem_says_how_much),
        TEST(alloc_counts_blocks),
        TEST(alloc_of_nothing_is_a_block),
        TEST(calloc_zeroes_and_checks),
        TEST(realloc_keeps_the_bytes),
        TEST(the_nth_allocation_fails),
        TEST(buffer_writes_little_endian),
        TEST(buffer_grows),
        TEST(buffer_extends_by_what_is_asked),
        TEST(buffer_refuses_impossible_sizes),
        TEST(buffer_formats),
        TEST(buffer_aligns_with_zeros),
        TEST(buffer_survives_the_nth_failure),
        TEST(reader_reads_what_the_buffer_wrote),
        TEST(reader_sticks_at_the_first_error),
        TEST(reader_keeps_a_parsers_error),
        TEST(reader_takes_without_overflow),
        TEST(reader_of_nothing),
        TEST(sizes_are_checked),
        TEST(signed_numbers_are_checked),
        TEST(rounding_up_is_checked),
        TEST(little_endian_on_every_machine),
        TEST(byte_order_is_the_machines),
        TEST(shared_words_are_little_endian),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
