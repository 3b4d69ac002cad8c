/* test_ndarray_dtype.c - src/ndarray: descr text read and printed, dtypes looked at, compared and swapped. */
#include "base/alloc.h"

#include <joblot/ndarray.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define NATIVE ">"
#else
#define NATIVE "<"
#endif

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

static void *get(size_t size)
{
    void *p = malloc(size > 0 ? size : 1);
    if (p == NULL)
        abort();
    return p;
}

static joblot_dtype *parse(const char *text)
{
    joblot_dtype *d = NULL;
    joblot_error err = {.message = ""};
    if (joblot_dtype_parse(text, strlen(text), &d, &err) != JOBLOT_OK)
        fail_msg("%s: %s", text, err.message);
    return d;
}

/* The text as a block of its own size, so that reading past its end is found. */
static joblot_status parse_exactly(const void *text, size_t size, joblot_dtype **d, joblot_error *err)
{
    char *copy = get(size);
    if (size > 0)
        memcpy(copy, text, size);
    joblot_status status = joblot_dtype_parse(copy, size, d, err);
    free(copy);
    return status;
}

/* Printed text; free() it. */
static char *print(const joblot_dtype *d)
{
    size_t needed = 0;
    assert_int_equal(joblot_dtype_format(d, NULL, 0, &needed, NULL), JOBLOT_LIMIT);
    char *text = get(needed);
    assert_int_equal(joblot_dtype_format(d, text, needed, &needed, NULL), JOBLOT_OK);
    assert_int_equal(strlen(text) + 1, needed);
    return text;
}

/* `text` is read as `printed`, which is read as the same again. */
static void check_prints(const char *text, const char *printed)
{
    joblot_dtype *d = parse(text);
    char *out = print(d);
    assert_string_equal(out, printed);
    joblot_dtype *again = parse(out);
    assert_true(joblot_dtype_equal(d, again));
    free(out);
    joblot_dtype_free(again);
    joblot_dtype_free(d);
}

static void check_refused(const char *text, size_t size, joblot_status status, const char *part)
{
    joblot_dtype *d = NULL;
    joblot_error err = {.message = ""};
    joblot_status got = parse_exactly(text, size, &d, &err);
    if (got != status || strstr(err.message, part) == NULL)
        fail_msg("%.80s: %d, \"%s\"; expected %d, \"%s\"", text, got, err.message, status, part);
    assert_null(d);
    assert_int_equal(err.code, status);
}

/* --- what is read ------------------------------------------------------------------------------------------ */

static void every_kind(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        char kind;
        char order;
        uint64_t size;
    } known[] = {
        {"'|b1'", 'b', '|', 1},      {"'|i1'", 'i', '|', 1},      {"'|u1'", 'u', '|', 1},
        {"'<i2'", 'i', '<', 2},      {"'>i2'", 'i', '>', 2},      {"'<i4'", 'i', '<', 4},
        {"'>i4'", 'i', '>', 4},      {"'<i8'", 'i', '<', 8},      {"'>u2'", 'u', '>', 2},
        {"'<u4'", 'u', '<', 4},      {"'>u8'", 'u', '>', 8},      {"'<f2'", 'f', '<', 2},
        {"'>f4'", 'f', '>', 4},      {"'<f8'", 'f', '<', 8},      {"'>f16'", 'f', '>', 16},
        {"'<f12'", 'f', '<', 12},    {"'>c8'", 'c', '>', 8},      {"'<c16'", 'c', '<', 16},
        {"'>c32'", 'c', '>', 32},    {"'<c24'", 'c', '<', 24},    {"'<M8'", 'M', '<', 8},
        {"'>M8[D]'", 'M', '>', 8},   {"'<M8[25s]'", 'M', '<', 8}, {"'>m8[ns]'", 'm', '>', 8},
        {"'<m8[as]'", 'm', '<', 8},  {"'<m8[0Y]'", 'm', '<', 8},  {"'|O'", 'O', '|', sizeof(void *)},
        {"'|S0'", 'S', '|', 0},      {"'|S7'", 'S', '|', 7},      {"'<U0'", 'U', '<', 0},
        {"'>U5'", 'U', '>', 20},     {"'|V0'", 'V', '|', 0},      {"'|V12'", 'V', '|', 12},
        {"'|V9223372036854775807'", 'V', '|', INT64_MAX},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        joblot_dtype *d = parse(known[i].text);
        assert_int_equal(joblot_dtype_kind(d), known[i].kind);
        assert_int_equal(joblot_dtype_byteorder(d), known[i].order);
        assert_int_equal(joblot_dtype_itemsize(d), known[i].size);
        assert_int_equal(joblot_dtype_has_object(d), known[i].kind == 'O');
        assert_int_equal(joblot_dtype_field_count(d), 0);
        assert_int_equal(joblot_dtype_subarray(d, NULL, NULL), 0);
        joblot_dtype_free(d);
        check_prints(known[i].text, known[i].text);
    }
}

static void other_spellings(void **state)
{
    (void)state;
    check_prints("i4", "'" NATIVE "i4'");
    check_prints("\t>f8 \n", "'>f8'");
    check_prints("=u2", "'" NATIVE "u2'");
    check_prints("\"|f4\"", "'" NATIVE "f4'");
    check_prints("u'>u4'", "'>u4'");
    check_prints("u4", "'" NATIVE "u4'");
    check_prints("?", "'|b1'");
    check_prints("b", "'|i1'");
    check_prints("<B", "'|u1'");
    check_prints("b1", "'|b1'");
    check_prints(">a5", "'|S5'");
    check_prints("'S'", "'|S0'");
    check_prints("'>U'", "'>U0'");
    check_prints("V", "'|V0'");
    check_prints("<V3", "'|V3'");
    check_prints("O8", "'|O'");
    check_prints(">O", "'|O'");
    check_prints("<M", "'<M8'");
    check_prints(">M8[generic]", "'>M8'");
    check_prints(">M8[1us]", "'>M8[us]'");
    check_prints("i08", "'" NATIVE "i8'");
    check_prints("'\\x3e\\151\\u0034'", "'>i4'");
}

static void structs(void **state)
{
    (void)state;
    check_prints("[]", "[]");
    check_prints("[('','|V4')]", "[('', '|V4')]");
    check_prints("[('','|V4'),('','|V3')]", "[('', '|V7')]");
    check_prints("[('','V')]", "[]");
    check_prints("[('', '<i2', (2,)), ('b', '>i4')]", "[('', '|V4'), ('b', '>i4')]");
    check_prints("[('', '<i4')]", "[('', '<i4')]");
    check_prints("[('', [('a', '|u1')])]", "[('', [('a', '|u1')])]");
    check_prints("[(('t', ''), '|V4')]", "[(('t', ''), '|V4')]");
    check_prints("[(('', 'n'), '|V4')]", "[(('', 'n'), '|V4')]");
    check_prints(" [ ( 'x' , '>f8' , ) , ( ( 'title' , 'b', ) , '|u1' , ( 2 , 3 , ) , ) , ] ",
                 "[('x', '>f8'), (('title', 'b'), '|u1', (2, 3))]");
    check_prints("[('x',u'<i4',3L),('y','<i4',(3L,))]", "[('x', '<i4', (3,)), ('y', '<i4', (3,))]");
    check_prints("[('x','<i4',1),('y','<i4',()),('z','<i4',(0,5))]",
                 "[('x', '<i4', (1,)), ('y', '<i4'), ('z', '<i4', (0, 5))]");
    check_prints("('>i4',(2,3))", "('>i4', (2, 3))");
    check_prints("('>i4',())", "'>i4'");
    check_prints("(([('a','>i4')],2),(3,))", "(([('a', '>i4')], (2,)), (3,))");
    check_prints("[('x',('<i4',(2,)),(3,))]", "[('x', ('<i4', (2,)), (3,))]");
    check_prints("[('x',('<i4',(2,)))]", "[('x', '<i4', (2,))]");
}

static void names(void **state)
{
    (void)state;
    check_prints("[('it\\'s','|i1')]", "[(\"it's\", '|i1')]");
    check_prints("[('\"\\'','|i1')]", "[('\"\\'', '|i1')]");
    check_prints("[(\"a\\\"\",'|i1')]", "[('a\"', '|i1')]");
    check_prints("[('\\\\\\n\\t\\r\\a\\x7f','|i1')]", "[('\\\\\\n\\t\\r\\x07\\x7f', '|i1')]");
    check_prints("[('\\xe9\\u65e5\\U0001F600','|i1')]", "[('\xc3\xa9\xe6\x97\xa5\xf0\x9f\x98\x80', '|i1')]");
    check_prints("[('\xc2\xa0\xe2\x80\xa8\xee\x80\x80\xf3\xa0\x81\x81','|i1')]",
                 "[('\\xa0\\u2028\\ue000\\U000e0041', '|i1')]");
    check_prints("[('a\\qb\\8','|i1')]", "[('a\\\\qb\\\\8', '|i1')]");
    check_prints("[('a\\\nb','|i1')]", "[('ab', '|i1')]");
    check_prints("[('\\101\\7z','|i1')]", "[('A\\x07z', '|i1')]");
    check_prints("[('(', '|i1'), (')], [', '|i1'), (',', '|i1')]", "[('(', '|i1'), (')], [', '|i1'), (',', '|i1')]");
}

/* --- what is refused --------------------------------------------------------------------------------------- */

static void malformed_text(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        joblot_status status;
        const char *part;
    } bad[] = {
        {"", JOBLOT_TRUNCATED, "at offset 0"},
        {"  ", JOBLOT_TRUNCATED, "at offset 2"},
        {"'", JOBLOT_TRUNCATED, "at offset 1"},
        {"'i4", JOBLOT_TRUNCATED, "does not end at offset 3"},
        {"'i4\\", JOBLOT_TRUNCATED, "offset 4"},
        {"'i4\n'", JOBLOT_FORMAT, "line at offset 3"},
        {"''", JOBLOT_FORMAT, "without a kind at offset 1"},
        {"'<'", JOBLOT_FORMAT, "offset 2"},
        {"'<<i4'", JOBLOT_UNSUPPORTED, "offset 2"},
        {"'i'", JOBLOT_FORMAT, "without its size"},
        {"'f'", JOBLOT_FORMAT, "without its size"},
        {"'i3'", JOBLOT_UNSUPPORTED, "no such size"},
        {"'f1'", JOBLOT_UNSUPPORTED, "no such size"},
        {"'c4'", JOBLOT_UNSUPPORTED, "no such size"},
        {"'M4'", JOBLOT_UNSUPPORTED, "no such size"},
        {"'i4 '", JOBLOT_FORMAT, "behind the type at offset 3"},
        {"'i4L'", JOBLOT_FORMAT, "offset 3"},
        {"'i-4'", JOBLOT_FORMAT, "offset 2"},
        {"'i4'x", JOBLOT_FORMAT, "behind the dtype at offset 4"},
        {"i4,f8", JOBLOT_FORMAT, "offset 2"},
        {"'?1'", JOBLOT_FORMAT, "no size"},
        {"'B1'", JOBLOT_FORMAT, "no size"},
        {"'b2'", JOBLOT_FORMAT, "no size"},
        {"'O2'", JOBLOT_FORMAT, "Python object"},
        {"'T'", JOBLOT_UNSUPPORTED, "no such kind"},
        {"\xc3\xa9", JOBLOT_UNSUPPORTED, "no such kind"},
        {"M8[", JOBLOT_FORMAT, "offset 3"},
        {"M8[]", JOBLOT_FORMAT, "unit at offset 3"},
        {"M8[ns", JOBLOT_FORMAT, "]"},
        {"M8[ s]", JOBLOT_FORMAT, "unit"},
        {"M8[-1s]", JOBLOT_FORMAT, "unit"},
        {"M8[5generic]", JOBLOT_FORMAT, "unit"},
        {"M8[seconds]", JOBLOT_FORMAT, "unit"},
        {"M8[B]", JOBLOT_FORMAT, "unit"},
        {"M8[2147483648s]", JOBLOT_LIMIT, "multiple"},
        {"i4[s]", JOBLOT_FORMAT, "behind"},
        {"{'names': []}", JOBLOT_UNSUPPORTED, "offset 0"},
        {"('<i4', {'m': 1})", JOBLOT_UNSUPPORTED, "metadata"},
        {"('i4')", JOBLOT_FORMAT, "comma"},
        {"('i4',", JOBLOT_TRUNCATED, "offset 6"},
        {"('i4',2", JOBLOT_TRUNCATED, "offset 7"},
        {"('i4',2,3)", JOBLOT_FORMAT, "offset 8"},
        {"('i4',(2 3))", JOBLOT_FORMAT, "offset 9"},
        {"('i4',(,))", JOBLOT_FORMAT, "number"},
        {"('i4',(-1,))", JOBLOT_FORMAT, "negative"},
        {"('i4','2')", JOBLOT_FORMAT, "number"},
        {"[", JOBLOT_TRUNCATED, "offset 1"},
        {"[,]", JOBLOT_FORMAT, "tuple"},
        {"['i4']", JOBLOT_FORMAT, "tuple"},
        {"[('x')]", JOBLOT_FORMAT, "without a dtype"},
        {"[('x',)]", JOBLOT_FORMAT, "dtype is missing"},
        {"[('x','i4',(1,),1)]", JOBLOT_FORMAT, "a field is"},
        {"[('x','i4')('y','i4')]", JOBLOT_FORMAT, "offset 11"},
        {"[('x','i4')", JOBLOT_TRUNCATED, "list"},
        {"[(1,'i4')]", JOBLOT_FORMAT, "name"},
        {"[((1,'x'),'i4')]", JOBLOT_UNSUPPORTED, "title"},
        {"[(('t','x','y'),'i4')]", JOBLOT_FORMAT, "(title, name)"},
        {"[(('t',),'i4')]", JOBLOT_FORMAT, "name"},
        {"[('\\x0','i4')]", JOBLOT_FORMAT, "escape"},
        {"[('\\x00','i4')]", JOBLOT_UNSUPPORTED, "NUL"},
        {"[('\\0','i4')]", JOBLOT_UNSUPPORTED, "NUL"},
        {"[('\\ud83d\\ude00','i4')]", JOBLOT_UNSUPPORTED, "surrogates"},
        {"[('\\U00110000','i4')]", JOBLOT_FORMAT, "character"},
        {"[('\\N{DIGIT ONE}','i4')]", JOBLOT_UNSUPPORTED, "\\N"},
        {"[('\xff','i4')]", JOBLOT_FORMAT, "UTF-8 at offset 3"},
        {"[('\xc3','i4')]", JOBLOT_FORMAT, "UTF-8"},
        {"[('\xc0\xaf','i4')]", JOBLOT_FORMAT, "UTF-8"},
        {"[('\xed\xa0\x80','i4')]", JOBLOT_FORMAT, "UTF-8"},
        {"[('x','i4'),('y','i4'),('x','i4')]", JOBLOT_FORMAT, "'x' is there twice at offset 24"},
        {"[(('a','a'),'i4')]", JOBLOT_FORMAT, "twice"},
        {"[(('a','x'),'i4'),(('a','y'),'i4')]", JOBLOT_FORMAT, "twice"},
        {"[('a','i4'),(('a','y'),'i4')]", JOBLOT_FORMAT, "twice"},
        {"[('','i4'),('','f4')]", JOBLOT_FORMAT, "twice"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        check_refused(bad[i].text, strlen(bad[i].text), bad[i].status, bad[i].part);
    check_refused("i4\0", 3, JOBLOT_FORMAT, "offset 2");
    check_refused("\0", 1, JOBLOT_UNSUPPORTED, "offset 0");
    check_refused("M8[s\0]", 6, JOBLOT_FORMAT, "unit");
}

/* Every beginning of a long descr is refused, and none is read past its end. */
static void every_truncation(void **state)
{
    (void)state;
    const char *text = "[(('t','x'),'>f8'),('b',[('c','<M8[25s]',(2,3))],2L),('','|V4'),(u'\\u00e9',('<U3',(1,)))]";
    for (size_t n = 0; n < strlen(text); n++) {
        joblot_dtype *d = NULL;
        assert_true(parse_exactly(text, n, &d, NULL) < 0);
    }
    check_prints(text, "[(('t', 'x'), '>f8'), ('b', [('c', '<M8[25s]', (2, 3))], (2,)), ('', '|V4'), "
                       "('\xc3\xa9', '<U3', (1,))]");
}

static void sizes_that_overflow(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "V9223372036854775808",
        "S99999999999999999999999999",
        "U2305843009213693952",
        "('i4', 9223372036854775807)",
        "('i4', (9223372036854775808,))",
        "('i4', (4294967296, 4294967296, 4294967296))",
        "('i4', (4294967296, 0, 4294967296, 4294967296))",
        "('V0', (4294967296, 4294967296))",
        "[('x','V9223372036854775807'),('y','i1')]",
        "[('','V9223372036854775807'),('','V1')]",
        "[('x','V4611686018427387904', 2)]",
        "[('x','V4611686018427387904'),('y','V4611686018427387904')]",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        check_refused(bad[i], strlen(bad[i]), JOBLOT_LIMIT, "");
    check_prints("U2305843009213693951", "'" NATIVE "U2305843009213693951'");
}

/* `open` n times, `middle`, `close` n times. */
static char *nest(const char *open, const char *middle, const char *close, int n)
{
    char *text = get((size_t)n * (strlen(open) + strlen(close)) + strlen(middle) + 1), *at = text;
    for (int i = 0; i < n; i++)
        at = (char *)memcpy(at, open, strlen(open)) + strlen(open);
    at = (char *)memcpy(at, middle, strlen(middle)) + strlen(middle);
    for (int i = 0; i < n; i++)
        at = (char *)memcpy(at, close, strlen(close)) + strlen(close);
    *at = 0;
    return text;
}

static void depth_has_a_limit(void **state)
{
    (void)state;
    static const char *const wraps[][2] = {{"[('a', ", ")]"}, {"(", ", (1,))"}, {"[('a', ", ", (2,))]"}};
    for (size_t i = 0; i < sizeof wraps / sizeof wraps[0]; i++) {
        char *deepest = nest(wraps[i][0], "'>i4'", wraps[i][1], JOBLOT_DESCR_MAX_DEPTH);
        char *deeper = nest(wraps[i][0], "'>i4'", wraps[i][1], JOBLOT_DESCR_MAX_DEPTH + 1);
        if (i < 2)
            check_prints(deepest, deepest);
        check_refused(deeper, strlen(deeper), JOBLOT_LIMIT, "deep");
        free(deepest);
        free(deeper);
    }
    char *open = nest("[('a',", "", "", 100000);
    check_refused(open, strlen(open), JOBLOT_LIMIT, "deep");
    free(open);
    open = nest("(", "", "", 1000000);
    check_refused(open, strlen(open), JOBLOT_LIMIT, "deep");
    free(open);
}

/* n fields with names of their own, or all with the same. */
static char *many_fields(int n, const char *name)
{
    char *text = get((size_t)n * 16 + 3), *at = text;
    *at++ = '[';
    for (int i = 0; i < n; i++)
        at += name != NULL ? snprintf(at, 17, "('%s','V'),", name)
                           : snprintf(at, 17, "('%x','V'),", (unsigned)i * 40503 % 65536);
    strcpy(at, "]");
    return text;
}

static void counts_have_limits(void **state)
{
    (void)state;
    char *text = many_fields(50000, NULL);
    joblot_dtype *d = parse(text);
    assert_int_equal(joblot_dtype_field_count(d), 50000);
    joblot_dtype_free(d);
    free(text);
    text = many_fields(JOBLOT_DESCR_MAX_FIELDS, "");
    check_prints(text, "[]");
    free(text);
    text = many_fields(JOBLOT_DESCR_MAX_FIELDS + 1, "");
    check_refused(text, strlen(text), JOBLOT_LIMIT, "fields");
    free(text);
    text = many_fields(50000, "same");
    check_refused(text, strlen(text), JOBLOT_FORMAT, "twice");
    free(text);
    text = nest("1,", "", "", JOBLOT_MAX_NDIM + 1);
    char whole[200];
    snprintf(whole, sizeof whole, "('i1',(%s))", text);
    check_refused(whole, strlen(whole), JOBLOT_LIMIT, "dimensions");
    text[2 * JOBLOT_MAX_NDIM] = 0;
    snprintf(whole, sizeof whole, "('i1',(%s))", text);
    d = parse(whole);
    int64_t shape[JOBLOT_MAX_NDIM];
    assert_int_equal(joblot_dtype_subarray(d, NULL, shape), JOBLOT_MAX_NDIM);
    assert_int_equal(shape[JOBLOT_MAX_NDIM - 1], 1);
    joblot_dtype_free(d);
    free(text);
}

/* Text within the limit that would pass it when printed is refused, as nobody could read it back. */
static void bytes_have_a_limit(void **state)
{
    (void)state;
    size_t size = JOBLOT_DESCR_MAX_BYTES + 1;
    char *text = get(size);
    memset(text, ' ', size);
    memcpy(text, "i4", 2);
    check_refused(text, size, JOBLOT_LIMIT, "bytes");
    joblot_dtype *d = NULL;
    assert_int_equal(parse_exactly(text, size - 1, &d, NULL), JOBLOT_OK);
    joblot_dtype_free(d);
    memset(text, '\1', size);
    memcpy(text, "[('", 3);
    memcpy(text + size / 2, "','i4')]", 8);
    check_refused(text, size / 2 + 8, JOBLOT_LIMIT, "printed");
    memset(text + 3, 'n', size / 2 - 3);
    assert_int_equal(parse_exactly(text, size / 2 + 8, &d, NULL), JOBLOT_OK);
    joblot_dtype_free(d);
    free(text);
}

/* --- looking at a dtype ------------------------------------------------------------------------------------ */

static void fields_are_found(void **state)
{
    (void)state;
    joblot_dtype *d = parse("[('', '|V2'), ('a', '>i4'), (('t', 'b'), '<f8', (2, 3)), ('', '|V1'), ('c', [('d', '|O')])]");
    const char *name = NULL;
    const joblot_dtype *field = NULL, *element = NULL;
    uint64_t offset = 0;
    int64_t shape[JOBLOT_MAX_NDIM];
    joblot_error err;
    assert_int_equal(joblot_dtype_kind(d), 'V');
    assert_int_equal(joblot_dtype_byteorder(d), '|');
    assert_int_equal(joblot_dtype_itemsize(d), 2 + 4 + 48 + 1 + sizeof(void *));
    assert_int_equal(joblot_dtype_field_count(d), 3);
    assert_true(joblot_dtype_has_object(d));
    assert_int_equal(joblot_dtype_field(d, 0, &name, &field, &offset, NULL), JOBLOT_OK);
    assert_string_equal(name, "a");
    assert_int_equal(offset, 2);
    assert_int_equal(joblot_dtype_byteorder(field), '>');
    assert_int_equal(joblot_dtype_field(d, 1, &name, &field, &offset, NULL), JOBLOT_OK);
    assert_string_equal(name, "b");
    assert_int_equal(offset, 6);
    assert_int_equal(joblot_dtype_kind(field), 'V');
    assert_int_equal(joblot_dtype_subarray(field, &element, shape), 2);
    assert_int_equal(shape[0], 2);
    assert_int_equal(shape[1], 3);
    assert_int_equal(joblot_dtype_kind(element), 'f');
    assert_int_equal(joblot_dtype_field(d, 2, NULL, NULL, &offset, NULL), JOBLOT_OK);
    assert_int_equal(offset, 55);
    assert_int_equal(joblot_dtype_field(d, 3, &name, &field, &offset, &err), JOBLOT_INVALID);
    assert_non_null(strstr(err.message, "field 3"));
    joblot_dtype_free(d);
    joblot_dtype_free(NULL);
}

static void equality(void **state)
{
    (void)state;
    static const char *const different[] = {
        "'<i4'", "'>i4'", "'<u4'", "'<f4'", "'<i8'", "'|S4'", "'|V4'", "'<U1'", "'<M8'", "'<m8'", "'<M8[s]'",
        "'<M8[2s]'", "'<M8[ms]'", "[]", "[('', '|V4')]", "[('a', '<i4')]", "[('b', '<i4')]", "[('a', '>i4')]",
        "[(('t', 'a'), '<i4')]", "[(('', 'a'), '<i4')]", "[(('u', 'a'), '<i4')]", "[('a', '<i4'), ('', '|V1')]",
        "[('', '|V1'), ('a', '<i4')]", "[('a', '<i4'), ('b', '<i4')]", "[('a', '<i4', (1,))]", "[('a', [('b', '<i4')])]",
        "('<i4', (2, 3))", "('<i4', (3, 2))", "('<i4', (6,))", "(('<i4', (2,)), (3,))", "('>i4', (6,))",
    };
    size_t n = sizeof different / sizeof different[0];
    for (size_t i = 0; i < n; i++) {
        joblot_dtype *a = parse(different[i]);
        for (size_t k = 0; k < n; k++) {
            joblot_dtype *b = parse(different[k]);
            if (joblot_dtype_equal(a, b) != (i == k))
                fail_msg("%s and %s", different[i], different[k]);
            joblot_dtype_free(b);
        }
        assert_false(joblot_dtype_equal(a, NULL));
        joblot_dtype_free(a);
    }
    assert_true(joblot_dtype_equal(NULL, NULL));
}

static void format_keeps_to_its_room(void **state)
{
    (void)state;
    joblot_dtype *d = parse("[('a', '>i4')]");
    const char *whole = "[('a', '>i4')]";
    size_t needed;
    for (size_t room = 1; room <= strlen(whole) + 1; room++) {
        char out[32];
        memset(out, '#', sizeof out);
        joblot_status status = joblot_dtype_format(d, out, room, &needed, NULL);
        assert_int_equal(status, room <= strlen(whole) ? JOBLOT_LIMIT : JOBLOT_OK);
        assert_int_equal(needed, strlen(whole) + 1);
        assert_int_equal(strlen(out), room - 1);
        assert_memory_equal(out, whole, room - 1);
        assert_int_equal(out[room], '#');
    }
    joblot_dtype_free(d);
}

static void check_swapped(const char *text, char only, const char *printed)
{
    joblot_dtype *d = parse(text), *swapped = NULL, *expected = parse(printed);
    assert_int_equal(joblot_dtype_swapped(d, only, &swapped, NULL), JOBLOT_OK);
    char *out = print(swapped);
    assert_string_equal(out, printed);
    assert_true(joblot_dtype_equal(swapped, expected));
    free(out);
    joblot_dtype_free(d);
    joblot_dtype_free(swapped);
    joblot_dtype_free(expected);
}

static void swapped_dtypes(void **state)
{
    (void)state;
    const char *text = "[(('t', 'a'), '>i4'), ('', '|V3'), ('b', [('c', '<U3', (2,)), ('d', '|S2')]), ('e', '>M8[25s]')]";
    check_swapped("'<i4'", 0, "'>i4'");
    check_swapped("'<U0'", 0, "'>U0'");
    check_swapped("'|O'", 0, "'|O'");
    check_swapped("[]", 0, "[]");
    check_swapped("(('<i4', (2,)), (3,))", '<', "(('>i4', (2,)), (3,))");
    check_swapped(text, 0,
                  "[(('t', 'a'), '<i4'), ('', '|V3'), ('b', [('c', '>U3', (2,)), ('d', '|S2')]), ('e', '<M8[25s]')]");
    check_swapped(text, '>',
                  "[(('t', 'a'), '<i4'), ('', '|V3'), ('b', [('c', '<U3', (2,)), ('d', '|S2')]), ('e', '<M8[25s]')]");
    check_swapped(text, '<',
                  "[(('t', 'a'), '>i4'), ('', '|V3'), ('b', [('c', '>U3', (2,)), ('d', '|S2')]), ('e', '>M8[25s]')]");
    joblot_dtype *d = parse("i4"), *none = NULL;
    assert_int_equal(joblot_dtype_swapped(d, '=', &none, NULL), JOBLOT_INVALID);
    assert_null(none);
    joblot_dtype_free(d);
}

/* --- memory that runs out ---------------------------------------------------------------------------------- */

/* Enough names for a table of keys on the heap, and every kind of node. */
static const char *const large =
    "[(('t1','a'),'>i4'),(('t2','b'),[('c','<U3',(2,)),('d','|S2')],(2,)),('e','>M8[25s]'),('f','b'),('g','b'),"
    "('h','b'),('i','b'),('j','b'),('k','b'),('l','b'),('m','b'),('n','b'),('o','b'),('p','b'),('q','b'),('r','b'),"
    "('s','b'),('t','b'),('','V3'),('u',('<i4',(2,)),(3,)),('\\u00e9\\u00e9 a name of more than sixty-four bytes so "
    "that the buffer that it is read into has to grow once','b')]";

static void parse_without_memory(void **state)
{
    for (int for_good = 0; for_good <= 1; for_good++) {
        unsigned long nth = 1;
        for (;; nth++) {
            joblot_dtype *d = NULL;
            joblot_error err;
            joblot__alloc_fail_at(nth, for_good);
            joblot_status status = joblot_dtype_parse(large, strlen(large), &d, &err);
            joblot__alloc_fail_at(0, false);
            joblot_dtype_free(d);
            assert_int_equal(joblot__alloc_live(), *(long *)*state);
            if (status == JOBLOT_OK)
                break;
            assert_null(d);
            assert_int_equal(status, JOBLOT_NOMEM);
            assert_int_equal(err.code, JOBLOT_NOMEM);
        }
        assert_true(nth > 30);
    }
}

static void swapped_without_memory(void **state)
{
    (void)state;
    joblot_dtype *d = parse(large);
    long before = joblot__alloc_live();
    for (int for_good = 0; for_good <= 1; for_good++) {
        unsigned long nth = 1;
        for (;; nth++) {
            joblot_dtype *copy = NULL;
            joblot__alloc_fail_at(nth, for_good);
            joblot_status status = joblot_dtype_swapped(d, 0, &copy, NULL);
            joblot__alloc_fail_at(0, false);
            joblot_dtype_free(copy);
            assert_int_equal(joblot__alloc_live(), before);
            if (status == JOBLOT_OK)
                break;
            assert_null(copy);
            assert_int_equal(status, JOBLOT_NOMEM);
        }
        assert_true(nth > 25);
    }
    joblot_dtype_free(d);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, remember, no_leak)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(every_kind),
        CASE(other_spellings),
        CASE(structs),
        CASE(names),
        CASE(malformed_text),
        CASE(every_truncation),
        CASE(sizes_that_overflow),
        CASE(depth_has_a_limit),
        CASE(counts_have_limits),
        CASE(bytes_have_a_limit),
        CASE(fields_are_found),
        CASE(equality),
        CASE(format_keeps_to_its_room),
        CASE(swapped_dtypes),
        CASE(parse_without_memory),
        CASE(swapped_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
