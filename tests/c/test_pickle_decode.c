/* test_pickle_decode.c - the pull decoder: each opcode, text forms, frames, limits, sources, raw bytes, errors. */
#include "support/pickles.h"

#include <locale.h>
#include <math.h>

typedef struct joblot_pickle_event event;

/* Reads one opcode in memory, and again byte by byte; both must agree. */
static joblot_status first_event(const char *data, size_t size, event *e, char *bytes, joblot_error *err)
{
    joblot_pickle_reader *r = open_memory(data, size, NULL);
    joblot_status status = joblot_pickle_next(r, e, err);
    if (status == JOBLOT_OK && bytes != NULL && e->size > 0)
        memcpy(bytes, e->data, (size_t)e->size);
    uint64_t offset = joblot_pickle_offset(r);
    joblot_pickle_reader_free(r);

    struct pieces p = {.data = (const unsigned char *)data, .size = size, .piece = 1};
    event again;
    joblot_error why = {.code = JOBLOT_OK};
    r = open_pieces(&p, JOBLOT_SIZE_UNKNOWN);
    assert_int_equal(joblot_pickle_next(r, &again, &why), status);
    if (status == JOBLOT_OK) {
        assert_int_equal(again.op, e->op);
        assert_int_equal(again.arg, e->arg);
        assert_int_equal(again.integer, e->integer);
        assert_int_equal(again.size, e->size);
        assert_int_equal(again.size2, e->size2);
        assert_int_equal(joblot_pickle_offset(r), offset);
        if (bytes != NULL && e->size > 0)
            assert_memory_equal(again.data, bytes, (size_t)e->size);
    } else if (status != JOBLOT_TRUNCATED) {
        assert_string_equal(why.message, err->message);
    }
    joblot_pickle_reader_free(r);
    return status;
}

static void gives_integer(const char *data, size_t size, int arg, int64_t integer)
{
    event e;
    joblot_error err = {.message = ""};
    if (first_event(data, size, &e, NULL, &err) != JOBLOT_OK)
        fail_msg("%s", err.message);
    assert_int_equal(e.op, (unsigned char)data[0]);
    assert_int_equal(e.arg, arg);
    assert_int_equal(e.integer, integer);
    assert_int_equal(e.offset, 0);
}
#define GIVES(data, arg, integer) gives_integer(data, sizeof(data) - 1, JOBLOT_ARG_##arg, integer)

static void gives_bytes(const char *data, size_t size, int arg, const char *bytes, size_t n)
{
    event e;
    joblot_error err = {.message = ""};
    char seen[512];
    if (first_event(data, size, &e, seen, &err) != JOBLOT_OK)
        fail_msg("%s", err.message);
    assert_int_equal(e.arg, arg);
    assert_int_equal(e.size, n);
    assert_memory_equal(seen, bytes, n);
}
#define GIVES_BYTES(data, arg, bytes) gives_bytes(data, sizeof(data) - 1, JOBLOT_ARG_##arg, bytes, sizeof(bytes) - 1)

static void refuses(const char *data, size_t size, joblot_status status, const char *part)
{
    event e;
    joblot_error err = {.message = ""};
    assert_int_equal(first_event(data, size, &e, NULL, &err), status);
    assert_int_equal(err.code, status);
    if (strstr(err.message, part) == NULL || strstr(err.message, "at offset 0") == NULL)
        fail_msg("\"%s\" without \"%s\" or the offset", err.message, part);
}
#define REFUSES(data, status, part) refuses(data, sizeof(data) - 1, JOBLOT_##status, part)

/* --- opcodes ------------------------------------------------------------------------------------------------ */

static void opcodes_have_names(void **state)
{
    (void)state;
    int known = 0;
    for (int op = -1; op <= 256; op++) {
        event e;
        joblot_error err;
        char byte = (char)op;
        const char *name = joblot_pickle_op_name(op);
        known += name != NULL;
        if (op < 0 || op > 255)
            assert_null(name);
        else if (name == NULL)
            assert_int_equal(first_event(&byte, 1, &e, NULL, &err), JOBLOT_FORMAT);
    }
    assert_int_equal(known, 68);
    assert_string_equal(joblot_pickle_op_name(JOBLOT_OP_MARK), "MARK");
    assert_string_equal(joblot_pickle_op_name(JOBLOT_OP_READONLY_BUFFER), "READONLY_BUFFER");
}

static void opcodes_without_an_argument(void **state)
{
    (void)state;
    static const char ops[] = "(.012NQRab]l)}osetud\x81\x85\x86\x87\x8f\x90\x91\x92\x93\x94\x97\x98";
    for (size_t i = 0; i < sizeof ops - 1; i++)
        gives_integer(ops + i, 1, JOBLOT_ARG_NONE, 0);
}

static void integers(void **state)
{
    (void)state;
    GIVES("\x88", BOOL, 1);
    GIVES("\x89", BOOL, 0);
    GIVES("K\xff", INT, 255);
    GIVES("M\1\xff", INT, 0xff01);
    GIVES("J\xff\xff\xff\xff", INT, -1);
    GIVES("J\1\2\3\4", INT, 0x04030201);
    GIVES("\x8a\0", INT, 0);
    GIVES("\x8a\1\x80", INT, -128);
    GIVES("\x8a\2\xff\0", INT, 255);
    GIVES("\x8a\x8\0\0\0\0\0\0\0\x80", INT, INT64_MIN);
    GIVES("\x8a\x9\xff\xff\xff\xff\xff\xff\xff\x7f\0", INT, INT64_MAX); /* longer than it need be */
    GIVES_BYTES("\x8a\x9\0\0\0\0\0\0\0\x80\0", BIG, "\0\0\0\0\0\0\0\x80\0");
    GIVES_BYTES("\x8a\xb\0\0\0\0\0\0\0\x80\0\0\0", BIG, "\0\0\0\0\0\0\0\x80\0");
    GIVES_BYTES("\x8b\xa\0\0\0\1\2\3\4\5\6\7\x8\xff\xff", BIG, "\1\2\3\4\5\6\7\x8\xff");
    GIVES("\x8b\0\0\0\0", INT, 0);
    REFUSES("\x8b\0\0\0\x80", FORMAT, "negative length");
    GIVES("\x82\1", INT, 1);
    GIVES("\x83\0\1", INT, 256);
    GIVES("\x84\0\0\0\1", INT, 1 << 24);
    REFUSES("\x82\0", FORMAT, "extension code");
    REFUSES("\x83\0\0", FORMAT, "extension code");
    REFUSES("\x84\0\0\0\x80", FORMAT, "extension code");
}

static void integers_as_text(void **state)
{
    (void)state;
    GIVES("I00\n", BOOL, 0);
    GIVES("I01\n", BOOL, 1);
    GIVES("I0\n", INT, 0);
    GIVES("I1\n", INT, 1);
    GIVES("I-7\n", INT, -7);
    GIVES("I+7\n", INT, 7);
    GIVES("I-0\n", INT, 0);
    GIVES("I999999999999999999\n", INT, INT64_C(999999999999999999));
    GIVES("I1000000000000000000\n", INT, INT64_C(1000000000000000000));
    GIVES("L9223372036854775807L\n", INT, INT64_MAX);
    GIVES("L-9223372036854775808L\n", INT, INT64_MIN);
    GIVES("L5\n", INT, 5);
    GIVES_BYTES("L9223372036854775808L\n", BIG, "\0\0\0\0\0\0\0\x80\0");
    GIVES_BYTES("L-9223372036854775809L\n", BIG, "\xff\xff\xff\xff\xff\xff\xff\x7f\xff");
    GIVES_BYTES("I18446744073709551616\n", BIG, "\0\0\0\0\0\0\0\0\1");
    GIVES_BYTES("I-18446744073709551616\n", BIG, "\0\0\0\0\0\0\0\0\xff");
    static const char *const bad[] = {"I\n", "I-\n", "I1L\n", "I02\n", "I000\n", "I1 \n", "I 1\n", "I0x1\n", "I1_0\n", "L\n", "LL\n",
                                      "L01L\n", "L1LL\n", "I1.0\n", "I\xd9\xa1\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        refuses(bad[i], strlen(bad[i]), JOBLOT_FORMAT, "an integer ");
    char digits[5000] = "L";
    memset(digits + 1, '9', sizeof digits - 1);
    digits[4301] = '\n';
    event e;
    joblot_error err;
    assert_int_equal(first_event(digits, 4302, &e, NULL, &err), JOBLOT_OK);
    assert_int_equal(e.size, 1786); /* ceil(4300 log2(10)) + 1 bits */
    digits[4301] = '9';
    digits[4302] = '\n';
    refuses(digits, 4303, JOBLOT_LIMIT, "max_digits");
}

static void gives_real(const char *data, size_t size, double real)
{
    event e;
    joblot_error err = {.message = ""};
    if (first_event(data, size, &e, NULL, &err) != JOBLOT_OK)
        fail_msg("%s", err.message);
    assert_int_equal(e.arg, JOBLOT_ARG_REAL);
    if (isnan(real))
        assert_true(isnan(e.real));
    else
        assert_memory_equal(&e.real, &real, sizeof real);
}

static void floats(void **state)
{
    (void)state;
    gives_real("G\x3f\xf0\0\0\0\0\0\0", 9, 1.0);
    gives_real("G\xc0\x09\x21\xfb\x54\x44\x2d\x18", 9, -3.141592653589793);
    static const struct {
        const char *line;
        double value;
    } good[] = {{"F1\n", 1}, {"F1.5\n", 1.5}, {"F-1.5e-3\n", -1.5e-3}, {"F+.5\n", .5}, {"F5.\n", 5}, {"F1E5\n", 1e5},
                {"F0.1\n", 0.1}, {"F-0.0\n", -0.0}, {"F4.9406564584124654e-324\n", 4.9406564584124654e-324},
                {"F1.7976931348623157e+308\n", 1.7976931348623157e+308}, {"Finf\n", INFINITY}, {"F-Infinity\n", -INFINITY},
                {"FNaN\n", NAN}, {"F123456789012345678901234567890\n", 123456789012345678901234567890.0}};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        gives_real(good[i].line, strlen(good[i].line), good[i].value);
    static const char *const bad[] = {"F\n", "F.\n", "F-\n", "F1e\n", "F1e+\n", "F1.2.3\n", "F0x1p3\n", "F1 \n", "F1_0\n", "Fin\n",
                                      "Fnano\n", "F1e999\n", "F1,5\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        refuses(bad[i], strlen(bad[i]), JOBLOT_FORMAT, "a float ");
}

/* A program may have set a locale whose decimal point is a comma. */
static void floats_in_another_locale(void **state)
{
    (void)state;
    static const char *const names[] = {"de_DE.UTF-8", "de_DE", "fr_FR.UTF-8", "it_IT.UTF-8"};
    size_t i = 0;
    while (i < 4 && setlocale(LC_NUMERIC, names[i]) == NULL)
        i++;
    if (i == 4) {
        print_message("skipped: no locale with a decimal comma is installed here\n");
        skip();
    }
    gives_real("F1.5\n", 5, 1.5);
    refuses("F1,5\n", 5, JOBLOT_FORMAT, "a float ");
    assert_non_null(setlocale(LC_NUMERIC, "C"));
}

static void strings(void **state)
{
    (void)state;
    GIVES_BYTES("C\3a\0b", BYTES, "a\0b");
    GIVES_BYTES("C\0", BYTES, "");
    GIVES_BYTES("U\2ab", BYTES, "ab");
    GIVES_BYTES("B\2\0\0\0ab", BYTES, "ab");
    GIVES_BYTES("T\2\0\0\0ab", BYTES, "ab");
    GIVES_BYTES("X\2\0\0\0ab", TEXT, "ab");
    GIVES_BYTES("\x8c\2\xc3\xa9", TEXT, "\xc3\xa9");
    GIVES_BYTES("\x8d\2\0\0\0\0\0\0\0ab", TEXT, "ab");
    GIVES_BYTES("\x8e\2\0\0\0\0\0\0\0ab", BYTES, "ab");
    GIVES_BYTES("\x96\2\0\0\0\0\0\0\0ab", BYTES, "ab");
    GIVES_BYTES("Pan id\n", BYTES, "an id");
    GIVES_BYTES("P\n", BYTES, "");
    REFUSES("T\0\0\0\x80", FORMAT, "negative length");
}

static void strings_as_text(void **state)
{
    (void)state;
    GIVES_BYTES("S'ab'\n", BYTES, "ab");
    GIVES_BYTES("S\"a'b\"\n", BYTES, "a'b");
    GIVES_BYTES("S''\n", BYTES, "");
    GIVES_BYTES("S'a'b'\n", BYTES, "a'b");
    GIVES_BYTES("S'\\\\\\'\\\"\\a\\b\\f\\n\\r\\t\\v'\n", BYTES, "\\'\"\a\b\f\n\r\t\v");
    GIVES_BYTES("S'\\x00\\xfF\\7\\101\\1234\\477'\n", BYTES, "\0\xff\7AS4\x3f"); /* octal goes modulo 256 */
    GIVES_BYTES("S'\\q\\8\xe9'\n", BYTES, "\\q\\8\xe9");
    REFUSES("S'ab\n", FORMAT, "without its quotes");
    REFUSES("Sab\n", FORMAT, "without its quotes");
    REFUSES("S'\n", FORMAT, "without its quotes");
    REFUSES("S'ab\"\n", FORMAT, "without its quotes");
    REFUSES("S'\\'\n", FORMAT, "ends in a backslash");
    REFUSES("S'\\x1'\n", FORMAT, "two hex digits");
    REFUSES("S'\\xg1'\n", FORMAT, "two hex digits");
}

static void unicode_as_text(void **state)
{
    (void)state;
    GIVES_BYTES("Vab\n", TEXT, "ab");
    GIVES_BYTES("V\n", TEXT, "");
    GIVES_BYTES("V\xe9\n", TEXT, "\xc3\xa9");
    GIVES_BYTES("V\\u20ac\\u000a\\u0000\n", TEXT, "\xe2\x82\xac\n\0");
    GIVES_BYTES("V\\U0001F600\\U0010ffff\n", TEXT, "\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf");
    GIVES_BYTES("V\\ud83d\\ude00\n", TEXT, "\xed\xa0\xbd\xed\xb8\x80");
    GIVES_BYTES("V\\\\u0041\\n\\\n", TEXT, "\\\\u0041\\n\\");
    GIVES_BYTES("V\\u005cu0041\n", TEXT, "\\u0041");
    REFUSES("V\\u12\n", FORMAT, "hex digits");
    REFUSES("V\\u12g4\n", FORMAT, "hex digits");
    REFUSES("V\\U0011ffff\n", FORMAT, "10ffff");
}

static void globals_and_the_memo(void **state)
{
    (void)state;
    event e;
    joblot_error err;
    static const char global[] = "cos.path\njoin\n", inst[] = "im\nC\n";
    for (int piece = 1; piece < 100; piece += 49) {
        struct pieces p = {.data = (const unsigned char *)global, .size = sizeof global - 1, .piece = (size_t)piece};
        joblot_pickle_reader *r = open_pieces(&p, sizeof global - 1);
        assert_int_equal(joblot_pickle_next(r, &e, &err), JOBLOT_OK);
        assert_int_equal(e.arg, JOBLOT_ARG_PAIR);
        assert_int_equal(e.size, 7);
        assert_memory_equal(e.data, "os.path", 7);
        assert_int_equal(e.size2, 4);
        assert_memory_equal(e.data2, "join", 4);
        joblot_pickle_reader_free(r);
    }
    gives_bytes(inst, sizeof inst - 1, JOBLOT_ARG_PAIR, "m", 1);
    REFUSES("c\nx\n", FORMAT, "without module or name");
    REFUSES("cm\n\n", FORMAT, "without module or name");
    GIVES("g12\n", MEMO, 12);
    GIVES("h\xff", MEMO, 255);
    GIVES("j\xff\xff\xff\xff", MEMO, UINT32_MAX);
    GIVES("p12\n", MEMO, 12);
    GIVES("q\xff", MEMO, 255);
    GIVES("r\0\x10\0\0", MEMO, 4096);
    REFUSES("r\1\x10\0\0", LIMIT, "memo index");
    REFUSES("r\0\0\0\x80", LIMIT, "max_memo");
    REFUSES("p5000\n", LIMIT, "memo index");
    REFUSES("p\n", FORMAT, "memo index");
    REFUSES("p-1\n", FORMAT, "memo index");
    REFUSES("g4294967296\n", FORMAT, "32 bits");
    REFUSES("g99999999999\n", FORMAT, "memo index");
}

static void protocols(void **state)
{
    (void)state;
    for (int p = 0; p <= 255; p++) {
        char data[] = {'\x80', (char)p};
        if (p <= 5)
            gives_integer(data, 2, JOBLOT_ARG_SIZE, p);
        else
            refuses(data, 2, JOBLOT_UNSUPPORTED, "protocol");
    }
}

/* --- frames ------------------------------------------------------------------------------------------------ */

/* Reads all; how it ends. */
static joblot_status read_all(const char *data, size_t size, size_t piece, uint64_t known, char *message)
{
    struct pieces p = {.data = (const unsigned char *)data, .size = size, .piece = piece};
    joblot_pickle_reader *r = piece != 0 ? open_pieces(&p, known) : open_memory(data, size, NULL);
    joblot_error err = {.message = ""};
    event e = {.op = 0};
    joblot_status status = JOBLOT_OK;
    while (status == JOBLOT_OK && e.op != JOBLOT_OP_STOP)
        status = joblot_pickle_next(r, &e, &err);
    strcpy(message, err.message);
    joblot_pickle_reader_free(r);
    return status;
}

static void ends(const char *data, size_t size, joblot_status status, const char *part)
{
    char message[500];
    for (size_t piece = 0; piece < 4; piece++) {
        assert_int_equal(read_all(data, size, piece, piece % 2 ? size : JOBLOT_SIZE_UNKNOWN, message), status);
        if (strstr(message, part) == NULL)
            fail_msg("\"%s\" without \"%s\"", message, part);
    }
}
#define ENDS(data, status, part) ends(data, sizeof(data) - 1, JOBLOT_##status, part)
#define FRAME(n) "\x95" n "\0\0\0\0\0\0\0"

static void frames_are_checked(void **state)
{
    (void)state;
    ENDS("\x80\4" FRAME("\2") "N.", OK, "");
    ENDS(FRAME("\1") "N" FRAME("\1") ".", OK, "");
    ENDS(FRAME("\1") "N.", OK, "");
    ENDS(FRAME("\0") "N" FRAME("\0") FRAME("\1") ".", OK, "");
    ENDS(FRAME("\3") "K\1.", OK, "");
    ENDS(FRAME("\1") "K\1.", FORMAT, "crosses the end of its frame at offset 9");
    ENDS(FRAME("\3") "J\1\1\1\1.", FORMAT, "crosses");
    ENDS(FRAME("\5") "\x8c\x6" "abcdef.", FORMAT, "crosses");
    ENDS(FRAME("\3") "Iab12\n.", FORMAT, "crosses");
    ENDS(FRAME("\x5") "cm\nab\n.", FORMAT, "crosses");
    ENDS(FRAME("\xb") "N" FRAME("\1") ".", FORMAT, "begins before the end");
    ENDS(FRAME("\3") "N.N", FORMAT, "STOP before the end of its frame at offset 10");
    ENDS(FRAME("\1") "N\x95\1\0\0", TRUNCATED, "offset 10");
}

static void frames_longer_than_the_data(void **state)
{
    (void)state;
    char message[500];
    static const char data[] = FRAME("\3") "N.";
    assert_int_equal(read_all(data, sizeof data - 1, 0, 0, message), JOBLOT_TRUNCATED);
    assert_non_null(strstr(message, "a frame that is longer"));
    assert_int_equal(read_all(data, sizeof data - 1, 1, sizeof data - 1, message), JOBLOT_TRUNCATED);
    assert_non_null(strstr(message, "a frame that is longer"));
    /* where nobody knows the size it shows at the STOP */
    assert_int_equal(read_all(data, sizeof data - 1, 1, JOBLOT_SIZE_UNKNOWN, message), JOBLOT_FORMAT);
    assert_int_equal(read_all("\x95\0\0\0\0\0\0\0\x80N.", 11, 1, JOBLOT_SIZE_UNKNOWN, message), JOBLOT_TRUNCATED);
}

static void data_that_ends_too_early(void **state)
{
    (void)state;
    ENDS("", TRUNCATED, "before STOP at offset 0");
    ENDS("N", TRUNCATED, "before STOP at offset 1");
    ENDS("NK", TRUNCATED, "offset 1");
    ENDS("I12", TRUNCATED, "offset 0");
    ENDS("cab\nc", TRUNCATED, "offset 0");
    ENDS("\x8c\5abc", TRUNCATED, "offset 0");
    ENDS("\x8e\5\0", TRUNCATED, "offset 0");
}

/* --- sources and raw bytes ---------------------------------------------------------------------------------- */

static void long_strings_are_taken_from_the_source(void **state)
{
    (void)state;
    enum { LONG = 200000 };
    unsigned char *data = malloc(LONG + 20), *out = malloc(LONG);
    assert_non_null(data);
    assert_non_null(out);
    memcpy(data, "\x80\4B", 3);
    for (int i = 0; i < 4; i++)
        data[3 + i] = (unsigned char)(LONG >> (8 * i));
    for (int i = 0; i < LONG; i++)
        data[7 + i] = (unsigned char)(i % 251);
    memcpy(data + 7 + LONG, "K\7.", 3);
    for (int how = 0; how < 4; how++) {
        struct pieces p = {.data = data, .size = LONG + 10, .piece = 1000};
        struct joblot_pickle_source source = {.size = how % 2 ? JOBLOT_SIZE_UNKNOWN : LONG + 10, .read = give_piece,
                                              .skip = how >= 2 ? pass_over : NULL, .context = &p};
        joblot_pickle_reader *r = NULL;
        joblot_error err;
        event e;
        assert_int_equal(joblot_pickle_reader_new(&source, NULL, &r, &err), JOBLOT_OK);
        assert_int_equal(joblot_pickle_next(r, &e, &err), JOBLOT_OK);
        assert_int_equal(joblot_pickle_next(r, &e, &err), JOBLOT_OK);
        assert_null(e.data);
        assert_int_equal(e.size, LONG);
        assert_int_equal(joblot_pickle_take(r, out, 100, &err), JOBLOT_OK);
        assert_memory_equal(out, data + 7, 100);
        const unsigned char *view = NULL;
        assert_int_equal(joblot_pickle_view(r, 50000, &view, &err), JOBLOT_OK);
        assert_memory_equal(view, data + 107, 50000);
        assert_int_equal(joblot_pickle_view(r, 70000, &view, &err), JOBLOT_LIMIT);
        assert_int_equal(joblot_pickle_take(r, out, 100000, &err), JOBLOT_OK);
        assert_memory_equal(out, data + 50107, 100000);
        assert_int_equal(joblot_pickle_take(r, out, LONG, &err), JOBLOT_INVALID); /* more than there is of it */
        assert_int_equal(joblot_pickle_next(r, &e, &err), JOBLOT_OK);              /* the rest is passed over */
        assert_int_equal(e.integer, 7);
        assert_int_equal(e.offset, 7 + LONG);
        assert_int_equal(joblot_pickle_next(r, &e, &err), JOBLOT_OK);
        assert_int_equal(p.skipped > 0, how >= 2);
        joblot_pickle_reader_free(r);
    }
    free(data);
    free(out);
}

static void raw_bytes_between_opcodes(void **state)
{
    (void)state;
    static const char data[] = "\x80\4" FRAME("\1") "N" "raw" "K\5.";
    for (size_t piece = 0; piece < 5; piece++) {
        struct pieces p = {.data = (const unsigned char *)data, .size = sizeof data - 1, .piece = piece};
        joblot_pickle_reader *r = piece ? open_pieces(&p, JOBLOT_SIZE_UNKNOWN) : open_memory(data, sizeof data - 1, NULL);
        char out[4] = "";
        const unsigned char *view;
        joblot_error err;
        event e;
        for (int i = 0; i < 3; i++)
            assert_int_equal(joblot_pickle_next(r, &e, &err), JOBLOT_OK);
        assert_int_equal(joblot_pickle_offset(r), 12);
        assert_int_equal(joblot_pickle_take(r, out, 2, &err), JOBLOT_OK);
        assert_string_equal(out, "ra");
        assert_int_equal(joblot_pickle_view(r, 1, &view, &err), JOBLOT_OK);
        assert_int_equal(*view, 'w');
        assert_int_equal(joblot_pickle_next(r, &e, &err), JOBLOT_OK);
        assert_int_equal(e.integer, 5);
        assert_int_equal(e.offset, 15);
        assert_int_equal(joblot_pickle_next(r, &e, &err), JOBLOT_OK);
        assert_int_equal(joblot_pickle_next(r, &e, &err), JOBLOT_INVALID);
        joblot_pickle_resume(r);
        assert_int_equal(joblot_pickle_take(r, out, 1, &err), JOBLOT_TRUNCATED);
        assert_non_null(strstr(err.message, "offset 18"));
        assert_int_equal(joblot_pickle_view(r, 1, &view, &err), JOBLOT_TRUNCATED);
        joblot_pickle_reader_free(r);
    }
}

static void errors_are_kept(void **state)
{
    (void)state;
    joblot_pickle_reader *r = open_memory("N\xff.", 3, NULL);
    joblot_error err, again;
    char out[1];
    event e;
    assert_int_equal(joblot_pickle_next(r, &e, &err), JOBLOT_OK);
    assert_int_equal(joblot_pickle_next(r, &e, &err), JOBLOT_FORMAT);
    assert_string_equal(err.message, "pickle: a byte that is no opcode (the data is damaged, or no pickle) at offset 1");
    assert_int_equal(joblot_pickle_next(r, &e, &again), JOBLOT_FORMAT);
    assert_string_equal(again.message, err.message);
    assert_int_equal(joblot_pickle_take(r, out, 1, &again), JOBLOT_FORMAT);
    assert_int_equal(joblot_pickle_fail(r, JOBLOT_LIMIT, "something else", NULL), JOBLOT_FORMAT);
    assert_int_equal(joblot_pickle_next(r, &e, NULL), JOBLOT_FORMAT);
    joblot_pickle_reader_free(r);
    r = open_memory("NN.", 3, NULL);
    assert_int_equal(joblot_pickle_next(r, &e, &err), JOBLOT_OK);
    assert_int_equal(joblot_pickle_next(r, &e, &err), JOBLOT_OK);
    assert_int_equal(joblot_pickle_fail(r, JOBLOT_UNSUPPORTED, "no builder for this", &err), JOBLOT_UNSUPPORTED);
    assert_string_equal(err.message, "pickle: no builder for this at offset 1");
    assert_int_equal(joblot_pickle_next(r, &e, &err), JOBLOT_UNSUPPORTED);
    joblot_pickle_reader_free(r);
}

static void sources_that_fail(void **state)
{
    (void)state;
    struct pieces p = {.data = (const unsigned char *)"NNNNN.", .size = 6, .piece = 1, .fail_at = 3};
    joblot_pickle_reader *r = open_pieces(&p, 6);
    joblot_error err;
    event e;
    for (int i = 0; i < 3; i++)
        assert_int_equal(joblot_pickle_next(r, &e, &err), JOBLOT_OK);
    assert_int_equal(joblot_pickle_next(r, &e, &err), JOBLOT_OS);
    assert_string_equal(err.message, "the disk is gone");
    p.fail_at = 0;
    assert_int_equal(joblot_pickle_next(r, &e, &err), JOBLOT_OS);
    joblot_pickle_reader_free(r);
    struct joblot_pickle_source none = {.size = 5};
    assert_int_equal(joblot_pickle_reader_new(&none, NULL, &r, &err), JOBLOT_INVALID);
    assert_int_equal(joblot_pickle_reader_new(NULL, NULL, &r, &err), JOBLOT_INVALID);
    joblot_pickle_reader_free(NULL);
}

static joblot_status give_too_much(void *context, void *out, size_t capacity, size_t *n, joblot_error *err)
{
    (void)context;
    (void)err;
    memset(out, 'N', capacity);
    *n = capacity + 1;
    return JOBLOT_OK;
}

static joblot_status cannot_skip(void *context, uint64_t n, joblot_error *err)
{
    (void)context;
    (void)n;
    (void)err; /* says nothing: the decoder does */
    return JOBLOT_OS;
}

static void sources_that_misbehave(void **state)
{
    (void)state;
    struct pieces p = {.data = (const unsigned char *)"N", .size = 1, .piece = 1};
    struct joblot_pickle_source source = {.size = JOBLOT_SIZE_UNKNOWN, .read = give_too_much};
    joblot_pickle_reader *r = NULL;
    joblot_error err = {.message = ""};
    event e;
    assert_int_equal(joblot_pickle_reader_new(&source, NULL, &r, &err), JOBLOT_OK);
    assert_int_equal(joblot_pickle_next(r, &e, &err), JOBLOT_INVALID);
    assert_non_null(strstr(err.message, "more than it was asked for"));
    joblot_pickle_reader_free(r);
    source = (struct joblot_pickle_source){.size = 1000, .read = give_piece, .skip = cannot_skip, .context = &p};
    assert_int_equal(joblot_pickle_reader_new(&source, NULL, &r, &err), JOBLOT_OK);
    assert_int_equal(joblot_pickle_next(r, &e, &err), JOBLOT_OK);
    assert_int_equal(joblot_pickle_take(r, NULL, 500, &err), JOBLOT_OS);
    assert_non_null(strstr(err.message, "could not be read at offset 0"));
    joblot_pickle_reader_free(r);
    /* a source that ends before the size that it was said to have */
    p.at = 0;
    r = open_pieces(&p, 1000);
    assert_int_equal(joblot_pickle_next(r, &e, &err), JOBLOT_OK);
    assert_int_equal(joblot_pickle_left(r), 999);
    assert_int_equal(joblot_pickle_take(r, NULL, 500, &err), JOBLOT_TRUNCATED);
    joblot_pickle_reader_free(r);
}

static void limits_of_lines(void **state)
{
    (void)state;
    enum { LONG = 300000 };
    char *data = malloc(LONG + 4);
    assert_non_null(data);
    memset(data, 'a', LONG + 4);
    data[0] = 'V';
    data[LONG + 1] = '\n';
    data[LONG + 2] = '.';
    struct joblot_pickle_limits limits = {.max_line = LONG - 1};
    joblot_error err;
    event e;
    for (int how = 0; how < 4; how++) { /* fits or not, memory or pieces */
        struct pieces p = {.data = (const unsigned char *)data, .size = LONG + 3, .piece = 777};
        struct joblot_pickle_source source = {.data = how % 2 ? data : NULL, .size = LONG + 3, .read = give_piece, .context = &p};
        joblot_pickle_reader *r = NULL;
        assert_int_equal(joblot_pickle_reader_new(&source, how < 2 ? &limits : NULL, &r, &err), JOBLOT_OK);
        assert_int_equal(joblot_pickle_next(r, &e, &err), how < 2 ? JOBLOT_LIMIT : JOBLOT_OK);
        if (how >= 2) {
            assert_int_equal(e.size, LONG);
            assert_int_equal(joblot_pickle_next(r, &e, &err), JOBLOT_OK);
            assert_int_equal(e.op, JOBLOT_OP_STOP);
        }
        joblot_pickle_reader_free(r);
    }
    free(data);
}

/* --- golden pickles ----------------------------------------------------------------------------------------- */

/* Everything that Python wrote is read to its last byte, in pieces as in one, cut anywhere it is TRUNCATED. */
static void golden_pickles_are_decoded(void **state)
{
    (void)state;
    bool seen[256] = {false};
    int kinds = 0;
    for (size_t i = 0; i < N_GOLDENS; i++) {
        const struct golden *g = golden(i);
        joblot_pickle_reader *r = open_memory(g->data, g->size, NULL);
        joblot_error err;
        event e = {.op = 0};
        while (e.op != JOBLOT_OP_STOP) {
            assert_int_equal(joblot_pickle_next(r, &e, &err), JOBLOT_OK);
            seen[e.op] = true;
        }
        assert_int_equal(joblot_pickle_left(r), 0);
        joblot_pickle_reader_free(r);
        for (size_t size = 0; size < g->size; size += g->size / 50 + 1) {
            char message[500];
            assert_int_equal(read_all((const char *)g->data, size, i % 4, i % 3 ? size : JOBLOT_SIZE_UNKNOWN, message),
                             JOBLOT_TRUNCATED);
        }
    }
    for (int op = 0; op < 256; op++)
        kinds += seen[op];
    assert_true(kinds >= 50);
}

static joblot_status decode_text(joblot_error *err)
{
    static const char data[] = "S'a\\n'\nVabc\nI123456789012345678901\nF1.5\ncm\nn\n.";
    struct pieces p = {.data = (const unsigned char *)data, .size = sizeof data - 1, .piece = 3};
    struct joblot_pickle_source source = {.size = JOBLOT_SIZE_UNKNOWN, .read = give_piece, .context = &p};
    joblot_pickle_reader *r = NULL;
    event e = {.op = 0};
    joblot_status status = joblot_pickle_reader_new(&source, NULL, &r, err);
    while (status == JOBLOT_OK && e.op != JOBLOT_OP_STOP)
        status = joblot_pickle_next(r, &e, err);
    joblot_pickle_reader_free(r);
    return status;
}

static void every_allocation_fails_once(void **state)
{
    (void)state;
    fail_each_allocation(decode_text, 3);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, remember, no_leak)
    const struct CMUnitTest tests[] = {
        TEST(opcodes_have_names),
        TEST(opcodes_without_an_argument),
        TEST(integers),
        TEST(integers_as_text),
        TEST(floats),
        TEST(floats_in_another_locale),
        TEST(strings),
        TEST(strings_as_text),
        TEST(unicode_as_text),
        TEST(globals_and_the_memo),
        TEST(protocols),
        TEST(frames_are_checked),
        TEST(frames_longer_than_the_data),
        TEST(data_that_ends_too_early),
        TEST(long_strings_are_taken_from_the_source),
        TEST(raw_bytes_between_opcodes),
        TEST(errors_are_kept),
        TEST(sources_that_fail),
        TEST(sources_that_misbehave),
        TEST(limits_of_lines),
        TEST(golden_pickles_are_decoded),
        TEST(every_allocation_fails_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
