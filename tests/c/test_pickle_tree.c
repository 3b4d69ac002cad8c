/* test_pickle_tree.c - the symbolic tree: golden pickles, hooks, nested pickles, limits and bombs, damaged input. */
#include "support/pickles.h"

/* The tree of a pickle, or the error. */
static joblot_status read_tree(const void *data, size_t size, const struct joblot_pickle_limits *limits,
                               joblot_pickle_tree **out, joblot_error *err)
{
    joblot_pickle_reader *r = open_memory(data, size, limits);
    joblot_status status = joblot_pickle_tree_read(r, limits, NULL, NULL, out, err);
    joblot_pickle_reader_free(r);
    return status;
}

static void shows(const void *data, size_t size, const char *wanted)
{
    joblot_pickle_tree *t = NULL;
    joblot_error err;
    if (read_tree(data, size, NULL, &t, &err) != JOBLOT_OK)
        fail_msg("%s, wanted %s", err.message, wanted);
    char *text = show_tree(t);
    assert_string_equal(text, wanted);
    joblot__free(text);
    joblot_pickle_tree_free(t);
}
#define SHOWS(pickle, wanted) shows(pickle, sizeof(pickle) - 1, wanted)

static void refused(const void *data, size_t size, const struct joblot_pickle_limits *limits, joblot_status status,
                    const char *part)
{
    joblot_pickle_tree *t = NULL;
    joblot_error err = {.message = ""};
    assert_int_equal(read_tree(data, size, limits, &t, &err), status);
    assert_null(t);
    if (strstr(err.message, part) == NULL)
        fail_msg("\"%s\" without \"%s\"", err.message, part);
}
#define REFUSED(pickle, status, part) refused(pickle, sizeof(pickle) - 1, NULL, status, part)

/* --- golden pickles ---------------------------------------------------------------------------------------- */

static void golden_pickles_show_what_they_should(void **state)
{
    (void)state;
    assert_true(N_GOLDENS > 500);
    for (size_t i = 0; i < N_GOLDENS; i++) {
        const struct golden *g = golden(i);
        shows(g->data, g->size, g->shown);
    }
}

/* The same through a callback, a byte and a few bytes at a time, with the size known and not. */
static void golden_pickles_in_pieces(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 7, 100000};
    for (size_t i = 0; i < N_GOLDENS; i++) {
        const struct golden *g = golden(i);
        struct pieces p = {.data = g->data, .size = g->size, .piece = sizes[i % 3]};
        joblot_pickle_reader *r = open_pieces(&p, i % 2 ? g->size : JOBLOT_SIZE_UNKNOWN);
        joblot_pickle_tree *t = NULL;
        joblot_error err;
        assert_int_equal(joblot_pickle_tree_read(r, NULL, NULL, NULL, &t, &err), JOBLOT_OK);
        char *text = show_tree(t);
        assert_string_equal(text, g->shown);
        joblot__free(text);
        joblot_pickle_tree_free(t);
        joblot_pickle_reader_free(r);
    }
}

static void golden_pickles_cut_anywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_GOLDENS; i++) {
        const struct golden *g = golden(i);
        size_t step = g->size > 400 ? g->size / 97 : 1;
        for (size_t size = 0; size < g->size; size += step) {
            joblot_pickle_tree *t = NULL;
            joblot_error err;
            unsigned char *exact = malloc(size ? size : 1); /* so that a sanitizer sees a byte too many */
            assert_non_null(exact);
            memcpy(exact, g->data, size);
            assert_int_equal(read_tree(exact, size, NULL, &t, &err), JOBLOT_TRUNCATED);
            assert_non_null(strstr(err.message, "at offset "));
            free(exact);
        }
    }
}

/* A byte changed gives an error that says something, or another tree; never anything else. */
static void golden_pickles_with_a_byte_flipped(void **state)
{
    (void)state;
    size_t errors = 0, trees = 0;
    for (size_t i = 0; i < N_GOLDENS; i += 3) {
        const struct golden *g = golden(i);
        unsigned char *copy = malloc(g->size);
        assert_non_null(copy);
        memcpy(copy, g->data, g->size);
        for (size_t at = 0; at < g->size; at += g->size > 300 ? 17 : 1) {
            for (unsigned bit = 0; bit < 8; bit++) {
                joblot_pickle_tree *t = NULL;
                joblot_error err = {.message = ""};
                copy[at] ^= (unsigned char)(1u << bit);
                joblot_status status = read_tree(copy, g->size, NULL, &t, &err);
                copy[at] = g->data[at];
                errors += status != JOBLOT_OK;
                trees += status == JOBLOT_OK;
                assert_true(status == JOBLOT_OK ? t != NULL : err.code == status && err.message[0] != '\0');
                joblot_pickle_tree_free(t);
            }
        }
        free(copy);
    }
    assert_true(errors > 1000 && trees > 1000);
}

/* --- what picklers of Python do not write ---------------------------------------------------------------- */

static void opcodes_that_are_rare(void **state)
{
    (void)state;
    SHOWS("(I1\nI2\nl.", "[1,2]");
    SHOWS("(I1\nI2\nd.", "{1:2}");
    SHOWS("(I1\nI2\nt.", "(1,2)");
    SHOWS("K\1K\2" "0.", "1");
    SHOWS("K\1(K\2K\3" "1.", "1");
    SHOWS("K\1(K\2K\3" "000.", "1");
    SHOWS("K\1(0.", "1");
    SHOWS("]2\x86.", "([],[])");
    SHOWS("]K\1a2\x86.", "([1],&)");
    SHOWS("(cm\nC\nK\1o.", "@m.C((1))");
    SHOWS("(K\1K\2im\nC\n.", "@m.C((1,2))");
    SHOWS("\x82\1\x83\1\2\x84\1\0\1\0\x87.", "(X1,X513,X65537)");
    SHOWS("Pid 7\n.", "P(t:69642037)");
    SHOWS("K\7Q.", "P(7)");
    SHOWS("\x97\x98\x97\x86.", "(R0,B1)");
    SHOWS("K\1r\1\1\0\0j\1\1\0\0\x86.", "(1,1)");
    SHOWS("K\1p300\ng300\n\x86.", "(1,1)");
    SHOWS("B\2\0\0\0ab.", "b:6162");
    SHOWS("\x8e\2\0\0\0\0\0\0\0ab.", "b:6162");
    SHOWS("\x8d\2\0\0\0\0\0\0\0ab.", "t:6162");
    SHOWS("\x8b\3\0\0\0\0\0\1.", "65536");
    SHOWS("K\7K\1K\2.", "2"); /* what lies below is dropped */
    SHOWS("]K\1K\2\x86" "b.", "[]!(1,2)");
    SHOWS("cm\nC\n}b.", "@m.C!{}");
    SHOWS("cm\nC\n)\x81K\1a(K\2K\3e(K\4K\5uK\6K\7s.", "@m.C(())[1,2,3]{4:5,6:7}");
    SHOWS("}(K\1K\2K\3K\4u.", "{1:2,3:4}");
    SHOWS("\x8f(K\1K\2\x90(K\3\x90.", "S{1,2,3}");
    SHOWS("(\x91.", "F{}");
    SHOWS("(t.", "()");
    SHOWS("(K\1(K\2tt.", "(1,(2))");
}

static void what_the_stack_refuses(void **state)
{
    (void)state;
    REFUSED(".", JOBLOT_FORMAT, "the stack at offset 0");
    REFUSED("0.", JOBLOT_FORMAT, "the stack");
    REFUSED("1.", JOBLOT_FORMAT, "a mark where there is none");
    REFUSED("(.", JOBLOT_FORMAT, "the stack");
    REFUSED("K\1(\x85.", JOBLOT_FORMAT, "the stack at offset 3");
    REFUSED("K\1\x86.", JOBLOT_FORMAT, "the stack");
    REFUSED("2.", JOBLOT_FORMAT, "the stack");
    REFUSED("t.", JOBLOT_FORMAT, "a mark where there is none");
    REFUSED("(K\1d.", JOBLOT_FORMAT, "a key and no value");
    REFUSED("}(K\1u.", JOBLOT_FORMAT, "a key and no value");
    REFUSED("(K\1e.", JOBLOT_FORMAT, "below its items");
    REFUSED("](" "(K\1e.", JOBLOT_FORMAT, "below its items");
    REFUSED("K\1K\2a.", JOBLOT_FORMAT, "cannot change");
    REFUSED(")K\2a.", JOBLOT_FORMAT, "cannot change");
    REFUSED("(\x91K\2a.", JOBLOT_FORMAT, "cannot change");
    REFUSED("N}b.", JOBLOT_FORMAT, "cannot change");
    REFUSED("K\1h\1.", JOBLOT_FORMAT, "never made");
    REFUSED("K\1r\0\5\0\0j\0\4\0\0.", JOBLOT_FORMAT, "never made");
    REFUSED("q\1.", JOBLOT_FORMAT, "the stack");
    REFUSED("(o.", JOBLOT_FORMAT, "without a class");
    REFUSED("K\1K\2\x93.", JOBLOT_FORMAT, "module or name is no text");
    REFUSED("\x8c\1a\x8c\0\x93.", JOBLOT_FORMAT, "module or name is no text");
    REFUSED("\x8c\2\xc3\x28.", JOBLOT_FORMAT, "not UTF-8");
    REFUSED("c\xff\nx\n.", JOBLOT_FORMAT, "not UTF-8");
    REFUSED("P\xff\n.", JOBLOT_FORMAT, "not UTF-8");
    REFUSED("R.", JOBLOT_FORMAT, "the stack");
    REFUSED("\x98.", JOBLOT_FORMAT, "the stack");
    REFUSED("K\1r\0\0\1\0.", JOBLOT_LIMIT, "memo");
}

static void utf8_is_checked(void **state)
{
    (void)state;
    static const char *const good[] = {"", "a", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\xa0\x80", "\xef\xbf\xbf",
                                       "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "12345678\xc3\xa9" "1234567812345678"};
    static const char *const bad[] = {"\x80", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2\x41", "\xe0\x9f\xbf", "\xe2\x82", "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "1234567812345678\x80", "\xe2\x82\x41"};
    unsigned char pickle[64] = "\x8c";
    for (size_t i = 0; i < sizeof good / sizeof good[0] + sizeof bad / sizeof bad[0]; i++) {
        bool is_good = i < sizeof good / sizeof good[0];
        const char *text = is_good ? good[i] : bad[i - sizeof good / sizeof good[0]];
        size_t n = strlen(text);
        joblot_pickle_tree *t = NULL;
        joblot_error err;
        pickle[1] = (unsigned char)n;
        memcpy(pickle + 2, text, n);
        pickle[2 + n] = '.';
        assert_int_equal(read_tree(pickle, n + 3, NULL, &t, &err), is_good ? JOBLOT_OK : JOBLOT_FORMAT);
        joblot_pickle_tree_free(t);
    }
}

/* --- bombs ------------------------------------------------------------------------------------------------ */

static unsigned char *repeat(const char *start, const char *part, size_t n, const char *end, size_t *size)
{
    size_t a = strlen(start), b = strlen(part), c = strlen(end);
    *size = a + b * n + c;
    unsigned char *p = malloc(*size);
    assert_non_null(p);
    memcpy(p, start, a);
    for (size_t i = 0; i < n; i++)
        memcpy(p + a + i * b, part, b);
    memcpy(p + a + n * b, end, c);
    return p;
}

static void nested_tuples_end_at_the_limit(void **state)
{
    (void)state;
    size_t size;
    unsigned char *p = repeat(")", "\x85", 1000000, ".", &size);
    refused(p, size, NULL, JOBLOT_LIMIT, "max_depth");
    free(p);
    p = repeat("", "(", 1000000, "t.", &size);
    refused(p, size, NULL, JOBLOT_LIMIT, "max_depth");
    free(p);
    p = repeat("cm\nf\n", ")R", 1000000, ".", &size);
    refused(p, size, NULL, JOBLOT_LIMIT, "max_depth");
    free(p);
}

static joblot_status count_visits(void *context, const struct joblot_pickle_visit *v, joblot_error *err)
{
    uint64_t *counts = context;
    (void)err;
    counts[0] += !v->leaving;
    counts[1] += v->again != 0;
    counts[2] += v->cut != 0;
    counts[3] += v->leaving != 0;
    counts[4] = v->depth > counts[4] ? v->depth : counts[4];
    return JOBLOT_OK;
}

/* 20,000 levels of tuples, a million of lists: both are trees, walked without recursion. */
static void deep_objects_are_walked(void **state)
{
    (void)state;
    size_t size;
    joblot_error err;
    for (int lists = 0; lists < 2; lists++) {
        size_t n = lists ? 1000000 : 20000;
        unsigned char *p = repeat("N", "\x85", n, ".", &size), *q = NULL;
        if (lists) {
            q = repeat("", "]", n, "", &size);
            free(p);
            p = malloc(2 * n);
            assert_non_null(p);
            memcpy(p, q, n);
            memset(p + n, 'a', n - 1);
            p[2 * n - 1] = '.';
            size = 2 * n;
            free(q);
        }
        joblot_pickle_tree *t = NULL;
        uint64_t counts[5] = {0}, cut[5] = {0};
        assert_int_equal(read_tree(p, size, NULL, &t, &err), JOBLOT_OK);
        assert_int_equal(joblot_pickle_tree_walk(t, 0, count_visits, counts, &err), JOBLOT_OK);
        assert_int_equal(counts[0], lists ? n : n + 1);
        assert_int_equal(counts[4], lists ? n - 1 : n);
        assert_int_equal(counts[3], lists ? n - 1 : n);
        assert_int_equal(joblot_pickle_tree_walk(t, 100, count_visits, cut, &err), JOBLOT_OK);
        assert_int_equal(cut[0], 101);
        assert_int_equal(cut[2], 1);
        joblot_pickle_tree_free(t);
        free(p);
    }
}

/* DUP TUPLE2 again and again: 2^50000 leaves in a walk that did not know shared nodes. */
static void doubled_keys_stay_small(void **state)
{
    (void)state;
    size_t size;
    joblot_error err;
    unsigned char *p = repeat("}K\1", "2\x86", 50000, "Ns.", &size);
    joblot_pickle_tree *t = NULL;
    uint64_t counts[5] = {0};
    assert_int_equal(read_tree(p, size, NULL, &t, &err), JOBLOT_OK);
    assert_int_equal(joblot_pickle_tree_count(t), 50003);
    assert_int_equal(joblot_pickle_tree_walk(t, 0, count_visits, counts, &err), JOBLOT_OK);
    assert_int_equal(counts[0], 2 + 2 * 50000 + 1);
    assert_int_equal(counts[1], 49999);
    joblot_pickle_tree_free(t);
    free(p);
}

static void sizes_out_of_nowhere(void **state)
{
    (void)state;
    REFUSED("\x8e\0\0\0\0\0\1\0\0.", JOBLOT_TRUNCATED, "offset 0");  /* 1 TiB */
    REFUSED("\x8e\0\0\0\0\0\2\0\0.", JOBLOT_LIMIT, "max_string");
    REFUSED("\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", JOBLOT_LIMIT, "max_string");
    REFUSED("B\xff\xff\xff\xff.", JOBLOT_TRUNCATED, "offset 0");
    REFUSED("\x95\0\0\0\0\0\1\0\0N.", JOBLOT_TRUNCATED, "frame");
    REFUSED("Nr\xff\xff\xff\x7f.", JOBLOT_LIMIT, "memo");
    REFUSED("Nr\xff\xff\xff\xff.", JOBLOT_LIMIT, "memo");
    /* the same where nobody knows how much comes: memory grows with what comes */
    static const unsigned char claims[] = "\x8e\0\0\0\0\0\1\0\0short";
    struct pieces p = {.data = claims, .size = sizeof claims - 1, .piece = 3};
    joblot_pickle_reader *r = open_pieces(&p, JOBLOT_SIZE_UNKNOWN);
    joblot_pickle_tree *t = NULL;
    joblot_error err;
    unsigned long asked = joblot__alloc_count();
    assert_int_equal(joblot_pickle_tree_read(r, NULL, NULL, NULL, &t, &err), JOBLOT_TRUNCATED);
    assert_true(joblot__alloc_count() - asked < 10);
    joblot_pickle_reader_free(r);
}

static void limits_of_the_tree(void **state)
{
    (void)state;
    size_t size;
    struct joblot_pickle_limits few_nodes = {.max_nodes = 100}, little = {.max_alloc = 10000};
    unsigned char *p = repeat("(", "N", 200, "l.", &size);
    refused(p, size, &few_nodes, JOBLOT_LIMIT, "max_nodes");
    refused(p, size, &little, JOBLOT_LIMIT, "max_alloc");
    free(p);
    p = repeat("](N", "2", 300, "e.", &size);
    refused(p, size, &few_nodes, JOBLOT_LIMIT, "max_nodes"); /* entries count as nodes do */
    free(p);
    p = repeat("C\xff", "x", 255, ".", &size);
    struct joblot_pickle_limits short_strings = {.max_string = 254}, tiny = {.max_alloc = 200};
    refused(p, size, &short_strings, JOBLOT_LIMIT, "max_string");
    refused(p, size, &tiny, JOBLOT_LIMIT, "max_alloc");
    free(p);
}

/* What is long is kept as its beginning, from memory and in pieces, and says how long it was. */
static void long_strings_are_cut(void **state)
{
    (void)state;
    enum { LONG = 300000 };
    struct joblot_pickle_limits limits = {.max_kept = 1, .max_alloc = 20000}; /* 1,024 are kept */
    unsigned char *data = malloc(2 * LONG + 40);
    assert_non_null(data);
    size_t n = 0;
    for (int text = 0; text < 2; text++) {
        data[n++] = text ? 'X' : 'B';
        for (int i = 0; i < 4; i++)
            data[n++] = (unsigned char)(LONG >> (8 * i));
        for (int i = 0; i < LONG; i++)
            data[n++] = text ? (unsigned char)"\xe2\x82\xac"[i % 3] : (unsigned char)i;
    }
    memcpy(data + n, "K\7\x87.", 4);
    n += 4;
    for (int how = 0; how < 3; how++) {
        struct pieces p = {.data = data, .size = n, .piece = 1000};
        joblot_pickle_reader *r = how == 0 ? open_memory(data, n, NULL) : open_pieces(&p, how == 1 ? n : JOBLOT_SIZE_UNKNOWN);
        joblot_pickle_tree *t = NULL;
        joblot_error err;
        assert_int_equal(joblot_pickle_tree_read(r, &limits, NULL, NULL, &t, &err), JOBLOT_OK);
        joblot_pickle_node **part = joblot_pickle_tree_root(t)->as.items.at;
        assert_true(part[0]->cut && part[1]->cut && !part[2]->cut);
        assert_int_equal(joblot_pickle_node_length(part[0]), LONG);
        assert_int_equal(joblot_pickle_node_length(part[1]), LONG);
        assert_int_equal(part[0]->as.bytes.size, 1024);
        assert_memory_equal(part[0]->as.bytes.data, data + 5, 1024);
        assert_int_equal(part[1]->as.bytes.size, 1023); /* 341 whole characters */
        assert_int_equal(part[1]->as.bytes.data[1023], 0);
        assert_int_equal(part[2]->as.integer, 7);
        assert_int_equal(joblot_pickle_node_length(part[2]), 0);
        joblot_pickle_tree_free(t);
        joblot_pickle_reader_free(r);
    }
    free(data);
}

/* --- hooks ------------------------------------------------------------------------------------------------- */

struct hooked {
    int calls, nested;
    bool refuse;
};

/* An object of m.Raw takes as many bytes as its state's "n" says, one of m.Inner a whole pickle. */
static joblot_status raw_hook(void *context, joblot_pickle_tree *tree, joblot_pickle_reader *reader,
                              joblot_pickle_node *object, joblot_pickle_node **instead, joblot_error *err)
{
    struct hooked *h = context;
    const joblot_pickle_node *class = object->as.items.at[0];
    const joblot_pickle_node *n = joblot_pickle_node_value(object->extra->states.at[0], "n");
    h->calls++;
    if (h->refuse) {
        err->code = JOBLOT_UNSUPPORTED;
        strcpy(err->message, "not this one");
        return JOBLOT_UNSUPPORTED;
    }
    if (joblot_pickle_node_is_global(class, "m", "Inner")) {
        h->nested++;
        return joblot_pickle_tree_nested(tree, instead, err);
    }
    if (!joblot_pickle_node_is_global(class, "m", "Raw"))
        return JOBLOT_OK;
    assert_non_null(n);
    joblot_status status = joblot_pickle_tree_foreign(tree, (size_t)n->as.integer + 1, instead, err);
    if (status == JOBLOT_OK)
        status = joblot_pickle_take(reader, (*instead)->as.foreign, (uint64_t)n->as.integer, err);
    return status;
}

static joblot_status read_hooked(const char *data, size_t size, struct hooked *h, char **text, joblot_error *err)
{
    joblot_pickle_reader *r = open_memory(data, size, NULL);
    joblot_pickle_tree *t = NULL;
    joblot_status status = joblot_pickle_tree_read(r, NULL, raw_hook, h, &t, err);
    joblot_pickle_reader_free(r);
    *text = status == JOBLOT_OK ? show_tree(t) : NULL;
    joblot_pickle_tree_free(t);
    return status;
}

#define RAW(n) "cm\nRaw\n)\x81}U\1nK" n "sb"

static void hooks_take_raw_bytes(void **state)
{
    (void)state;
    static const char data[] = "\x80\2](cm\nO\n)\x81}b" RAW("\5") "hello" "K\7" RAW("\0") "K\10" RAW("\3") "N.)" "e.";
    struct hooked h = {0};
    joblot_error err;
    char *text;
    assert_int_equal(read_hooked(data, sizeof data - 1, &h, &text, &err), JOBLOT_OK);
    assert_string_equal(text, "[@m.O(())!{},<hello>,7,<>,8,<N.)>]");
    assert_int_equal(h.calls, 4);
    joblot__free(text);
    assert_int_equal(read_hooked(data, sizeof data - 6, &h, &text, &err), JOBLOT_TRUNCATED);
    h.refuse = true;
    assert_int_equal(read_hooked(data, sizeof data - 1, &h, &text, &err), JOBLOT_UNSUPPORTED);
    assert_non_null(strstr(err.message, "not this one at offset 12"));
}

static void hooks_read_nested_pickles(void **state)
{
    (void)state;
    static const char data[] = "\x80\4N\x94](cm\nInner\n)\x81}b" "\x80\5\x95\4\0\0\0\0\0\0\0K\1\x94." "h\0e.";
    struct hooked h = {0};
    joblot_error err;
    char *text;
    assert_int_equal(read_hooked(data, sizeof data - 1, &h, &text, &err), JOBLOT_OK);
    assert_string_equal(text, "[1,None]"); /* each has its own memo */
    assert_int_equal(h.nested, 1);
    joblot__free(text);
    static const char part[] = "cm\nInner\n)\x81}b";
    size_t n = sizeof part - 1;
    char *many = malloc(40 * n + 42);
    assert_non_null(many);
    for (int i = 0; i < 40; i++)
        memcpy(many + (size_t)i * n, part, n);
    memset(many + 40 * n, 'N', 1);
    memset(many + 40 * n + 1, '.', 41);
    assert_int_equal(read_hooked(many, 40 * n + 42, &h, &text, &err), JOBLOT_LIMIT);
    assert_non_null(strstr(err.message, "max_nested"));
    free(many);
}

/* Raw bytes inside a frame: the frame must end first. */
static void raw_bytes_and_frames(void **state)
{
    (void)state;
    static const char good[] = "\x80\4\x95\x11\0\0\0\0\0\0\0" RAW("\2") "ab" ".";
    static const char open[] = "\x80\4\x95\x14\0\0\0\0\0\0\0" RAW("\2") "ab" ".";
    struct hooked h = {0};
    joblot_error err;
    char *text;
    assert_int_equal(read_hooked(good, sizeof good - 1, &h, &text, &err), JOBLOT_OK);
    assert_string_equal(text, "<ab>");
    joblot__free(text);
    assert_int_equal(read_hooked(open, sizeof open - 1, &h, &text, &err), JOBLOT_FORMAT);
    assert_non_null(strstr(err.message, "raw bytes inside a frame"));
}

/* --- the walk ---------------------------------------------------------------------------------------------- */

static joblot_status note_visit(void *context, const struct joblot_pickle_visit *v, joblot_error *err)
{
    static const char *const roles[] = {"root", "item", "key", "value", "callable", "arguments", "keywords", "state"};
    struct joblot__buffer *text = context;
    (void)err;
    if (v->leaving)
        joblot__buffer_printf(text, "%*s/\n", (int)v->depth, "");
    else
        joblot__buffer_printf(text, "%*s%s %d%s%s%s\n", (int)v->depth, "", roles[v->role], (int)v->index,
                              v->again ? " again" : "", v->cut ? " cut" : "", v->key != NULL ? " keyed" : "");
    return JOBLOT_OK;
}

static void the_walk_has_an_order(void **state)
{
    (void)state;
    joblot_pickle_tree *t = NULL;
    joblot_error err;
    struct joblot__buffer text = {0};
    static const char pickle[] = "\x80\4cm\nC\n(K\1t}\x92q\0K\2a(K\3K\4u}U\1aK\5sb(h\0h\0t.";
    assert_int_equal(read_tree(pickle, sizeof pickle - 1, NULL, &t, &err), JOBLOT_OK);
    assert_int_equal(joblot_pickle_tree_walk(t, 0, note_visit, &text, &err), JOBLOT_OK);
    joblot__buffer_u8(&text, 0);
    assert_string_equal((char *)text.data,
                        "root 0\n item 0\n  callable 0\n  arguments 0\n   item 0\n  /\n  keywords 0\n  item 0\n  key 0\n"
                        "  value 0 keyed\n  state 0\n   key 0\n   value 0 keyed\n  /\n /\n item 1 again\n/\n");
    text.size = 0;
    assert_int_equal(joblot_pickle_tree_walk(t, 1, note_visit, &text, &err), JOBLOT_OK);
    joblot__buffer_u8(&text, 0);
    assert_string_equal((char *)text.data, "root 0\n item 0 cut\n item 1 cut\n/\n");
    joblot__buffer_clear(&text);
    joblot_pickle_tree_free(t);
}

static joblot_status stop_at_once(void *context, const struct joblot_pickle_visit *v, joblot_error *err)
{
    (void)context;
    (void)v;
    (void)err;
    return JOBLOT_CANCELLED;
}

static void a_visit_can_end_the_walk(void **state)
{
    (void)state;
    joblot_pickle_tree *t = NULL;
    joblot_error err;
    assert_int_equal(read_tree("].", 2, NULL, &t, &err), JOBLOT_OK);
    assert_int_equal(joblot_pickle_tree_walk(t, 0, stop_at_once, NULL, &err), JOBLOT_CANCELLED);
    joblot_pickle_tree_free(t);
}

/* --- several pickles, questions, faults ------------------------------------------------------------------- */

static void several_pickles_in_a_row(void **state)
{
    (void)state;
    static const char data[] = "\x80\2K\1.\x80\4\x95\4\0\0\0\0\0\0\0K\2\x94.I3\n.";
    joblot_pickle_reader *r = open_memory(data, sizeof data - 1, NULL);
    joblot_error err;
    for (int i = 1; i <= 3; i++) {
        joblot_pickle_tree *t = NULL;
        assert_int_equal(joblot_pickle_tree_read(r, NULL, NULL, NULL, &t, &err), JOBLOT_OK);
        assert_int_equal(joblot_pickle_tree_root(t)->as.integer, i);
        joblot_pickle_tree_free(t);
        joblot_pickle_resume(r);
    }
    assert_int_equal(joblot_pickle_left(r), 0);
    joblot_pickle_reader_free(r);
}

static void the_last_value_of_a_key_counts(void **state)
{
    (void)state;
    static const char data[] = "}(U\1aK\1\x8c\1bK\2\x8c\1aK\3u.";
    joblot_pickle_tree *t = NULL;
    joblot_error err;
    assert_int_equal(read_tree(data, sizeof data - 1, NULL, &t, &err), JOBLOT_OK);
    const joblot_pickle_node *root = joblot_pickle_tree_root(t);
    assert_int_equal(joblot_pickle_node_value(root, "a")->as.integer, 3);
    assert_int_equal(joblot_pickle_node_value(root, "b")->as.integer, 2);
    assert_null(joblot_pickle_node_value(root, "c"));
    assert_null(joblot_pickle_node_value(joblot_pickle_node_value(root, "a"), "x"));
    joblot_pickle_tree_free(t);
}

static joblot_status read_and_walk(joblot_error *err)
{
    static const char data[] = "\x80\2](cm\nO\n)\x81}b" RAW("\5") "hello" "I12345678901234567890\nS'a'\nU\3abc(K\1tq\1h\1" "e.";
    struct pieces p = {.data = (const unsigned char *)data, .size = sizeof data - 1, .piece = 5};
    struct joblot_pickle_source source = {.size = JOBLOT_SIZE_UNKNOWN, .read = give_piece, .context = &p};
    struct hooked h = {0};
    joblot_pickle_reader *r = NULL;
    joblot_pickle_tree *t = NULL;
    uint64_t counts[5] = {0};
    joblot_status status = joblot_pickle_reader_new(&source, NULL, &r, err);
    if (status == JOBLOT_OK)
        status = joblot_pickle_tree_read(r, NULL, raw_hook, &h, &t, err);
    if (status == JOBLOT_OK)
        status = joblot_pickle_tree_walk(t, 0, count_visits, counts, err);
    joblot_pickle_tree_free(t);
    joblot_pickle_reader_free(r);
    return status;
}

static void every_allocation_fails_once(void **state)
{
    (void)state;
    fail_each_allocation(read_and_walk, 7);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, remember, no_leak)
    const struct CMUnitTest tests[] = {
        TEST(golden_pickles_show_what_they_should),
        TEST(golden_pickles_in_pieces),
        TEST(golden_pickles_cut_anywhere),
        TEST(golden_pickles_with_a_byte_flipped),
        TEST(opcodes_that_are_rare),
        TEST(what_the_stack_refuses),
        TEST(utf8_is_checked),
        TEST(nested_tuples_end_at_the_limit),
        TEST(deep_objects_are_walked),
        TEST(doubled_keys_stay_small),
        TEST(sizes_out_of_nowhere),
        TEST(limits_of_the_tree),
        TEST(long_strings_are_cut),
        TEST(hooks_take_raw_bytes),
        TEST(hooks_read_nested_pickles),
        TEST(raw_bytes_and_frames),
        TEST(the_walk_has_an_order),
        TEST(a_visit_can_end_the_walk),
        TEST(several_pickles_in_a_row),
        TEST(the_last_value_of_a_key_counts),
        TEST(every_allocation_fails_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
