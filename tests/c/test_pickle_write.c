/* test_pickle_write.c - the writer: the bytes of Python's pickler, frames, containers, misuse, sinks that fail. */
#include "support/pickles.h"

/* What a sink gets, with how many calls; fails from a size on. */
struct kept {
    struct joblot__buffer bytes;
    size_t calls, largest, fail_at;
};

static joblot_status keep(void *context, const void *data, size_t size, joblot_error *err)
{
    struct kept *k = context;
    k->calls++;
    k->largest = size > k->largest ? size : k->largest;
    if (k->fail_at != 0 && k->bytes.size + size >= k->fail_at) {
        err->code = JOBLOT_OS;
        strcpy(err->message, "the disk is full");
        return JOBLOT_OS;
    }
    joblot__buffer_append(&k->bytes, data, size);
    return k->bytes.status;
}

static joblot_pickle_writer *writer(struct kept *k, int protocol)
{
    struct joblot_pickle_sink sink = {.write = keep, .context = k};
    joblot_pickle_writer *w = NULL;
    joblot_error err;
    memset(k, 0, sizeof *k);
    assert_int_equal(joblot_pickle_writer_new(&sink, protocol, &w, &err), JOBLOT_OK);
    return w;
}

static void finish(joblot_pickle_writer *w)
{
    joblot_error err;
    if (joblot_pickle_finish(w, &err) != JOBLOT_OK)
        fail_msg("%s", err.message);
    joblot_pickle_writer_free(w);
}

/* --- the goldens again -------------------------------------------------------------------------------------- */

/* Writes a tree of plain data as Python's pickler would, with a memo for all that it memoises. */
struct rewriter {
    joblot_pickle_writer *w;
    uint32_t *memo; /* index + 1 by node number */
    uint32_t next;
    int protocol;
};

static void memoise(struct rewriter *r, const joblot_pickle_node *n)
{
    r->memo[n->number] = r->next + 1;
    joblot_pickle_write_memo(r->w, r->next++);
}

static bool rewrite(struct rewriter *r, const joblot_pickle_node *n);

static bool rewrite_all(struct rewriter *r, const joblot_pickle_node *n, int kind, uint64_t count, bool early)
{
    joblot_pickle_write_begin(r->w, (enum joblot_pickle_container)kind, count);
    if (early)
        memoise(r, n);
    for (uint64_t i = 0; i < n->as.items.count; i++)
        if (!rewrite(r, n->as.items.at[i]))
            return false;
    joblot_pickle_write_end(r->w);
    if (!early && n->as.items.count > 0)
        memoise(r, n);
    return true;
}

static bool rewrite_container(struct rewriter *r, const joblot_pickle_node *n)
{
    uint64_t count = n->as.items.count;
    switch (n->kind) {
    case JOBLOT_NODE_LIST:
        return rewrite_all(r, n, JOBLOT_CONTAINER_LIST, count, true);
    case JOBLOT_NODE_TUPLE:
        return rewrite_all(r, n, JOBLOT_CONTAINER_TUPLE, count, false);
    case JOBLOT_NODE_DICT:
        return rewrite_all(r, n, JOBLOT_CONTAINER_DICT, count / 2, true);
    case JOBLOT_NODE_SET:
        return rewrite_all(r, n, JOBLOT_CONTAINER_SET, count, true);
    case JOBLOT_NODE_FROZENSET:
        if (!rewrite_all(r, n, JOBLOT_CONTAINER_FROZENSET, count, false))
            return false;
        if (count == 0)
            memoise(r, n);
        return true;
    default:
        return false; /* objects: how their parts are memoised is the caller's affair */
    }
}

static bool rewrite(struct rewriter *r, const joblot_pickle_node *n)
{
    if (r->memo[n->number] != 0) {
        joblot_pickle_write_get(r->w, r->memo[n->number] - 1);
        return true;
    }
    switch (n->kind) {
    case JOBLOT_NODE_NONE:
        joblot_pickle_write_none(r->w);
        return true;
    case JOBLOT_NODE_BOOL:
        joblot_pickle_write_bool(r->w, (int)n->as.integer);
        return true;
    case JOBLOT_NODE_INT:
        joblot_pickle_write_int(r->w, n->as.integer);
        return true;
    case JOBLOT_NODE_BIG:
        joblot_pickle_write_big(r->w, n->as.bytes.data, n->as.bytes.size);
        return true;
    case JOBLOT_NODE_REAL:
        joblot_pickle_write_real(r->w, n->as.real);
        return true;
    case JOBLOT_NODE_TEXT:
        joblot_pickle_write_text(r->w, (const char *)n->as.bytes.data, n->as.bytes.size);
        break;
    case JOBLOT_NODE_BYTES:
        joblot_pickle_write_bytes(r->w, n->as.bytes.data, n->as.bytes.size);
        break;
    case JOBLOT_NODE_BYTEARRAY:
        joblot_pickle_write_bytearray(r->w, n->as.bytes.data, n->as.bytes.size);
        break;
    default:
        return rewrite_container(r, n);
    }
    memoise(r, n);
    return true;
}

static void goldens_are_written_again_byte_for_byte(void **state)
{
    (void)state;
    int written = 0;
    for (size_t i = 0; i < N_GOLDENS_OF_3; i++) {
        const struct golden *g = golden(i);
        if (g->protocol < 2)
            continue;
        joblot_pickle_reader *reader = open_memory(g->data, g->size, NULL);
        joblot_pickle_tree *t = NULL;
        joblot_error err;
        struct kept k;
        assert_int_equal(joblot_pickle_tree_read(reader, NULL, NULL, NULL, &t, &err), JOBLOT_OK);
        joblot_pickle_reader_free(reader);
        struct rewriter r = {.w = writer(&k, g->protocol), .protocol = g->protocol};
        r.memo = calloc((size_t)joblot_pickle_tree_count(t) + 1, sizeof *r.memo);
        assert_non_null(r.memo);
        joblot_pickle_write_start(r.w);
        bool plain = rewrite(&r, joblot_pickle_tree_root(t));
        if (plain) {
            joblot_pickle_write_stop(r.w);
            finish(r.w);
            if (k.bytes.size != g->size || memcmp(k.bytes.data, g->data, g->size) != 0)
                fail_msg("%s, protocol %d: other bytes", g->name, g->protocol);
            written++;
        } else {
            joblot_pickle_writer_free(r.w);
        }
        joblot__buffer_clear(&k.bytes);
        joblot_pickle_tree_free(t);
        free(r.memo);
    }
    assert_true(written > 200);
}

/* --- forms --------------------------------------------------------------------------------------------------- */

static void expect_bytes(struct kept *k, const char *bytes, size_t size)
{
    assert_int_equal(k->bytes.size, size);
    assert_memory_equal(k->bytes.data, bytes, size);
    joblot__buffer_clear(&k->bytes);
}
#define EXPECT(k, bytes) expect_bytes(k, bytes, sizeof(bytes) - 1)

static void values_without_a_frame(void **state)
{
    (void)state;
    struct kept k;
    joblot_pickle_writer *w = writer(&k, 2);
    joblot_pickle_write_start(w);
    joblot_pickle_write_bytes(w, "", 0);
    joblot_pickle_write_bytes(w, "a\xe9", 2);
    joblot_pickle_write_bytearray(w, "b", 1);
    joblot_pickle_write_bytearray(w, "", 0);
    joblot_pickle_write_global(w, "m.n", "C");
    joblot_pickle_write_ext(w, 1);
    joblot_pickle_write_ext(w, 256);
    joblot_pickle_write_ext(w, 65536);
    joblot_pickle_write_memo(w, 255);
    joblot_pickle_write_memo(w, 256);
    joblot_pickle_write_get(w, 255);
    joblot_pickle_write_get(w, 256);
    joblot_pickle_write_stop(w);
    assert_int_equal(joblot_pickle_written(w), 177);
    finish(w);
    EXPECT(&k, "\x80\2c__builtin__\nbytes\n)R"
               "c_codecs\nencode\nX\3\0\0\0a\xc3\xa9X\6\0\0\0latin1\x86R"
               "c__builtin__\nbytearray\nc_codecs\nencode\nX\1\0\0\0" "bX\6\0\0\0latin1\x86R\x85R"
               "c__builtin__\nbytearray\n)R"
               "cm.n\nC\n\x82\1\x83\0\1\x84\0\0\1\0q\xffr\0\1\0\0h\xffj\0\1\0\0.");
}

static void objects_of_protocol_4(void **state)
{
    (void)state;
    struct kept k;
    joblot_pickle_writer *w = writer(&k, 4);
    joblot_pickle_write_start(w);
    joblot_pickle_write_global(w, "m", "C");
    joblot_pickle_write_op(w, JOBLOT_OP_EMPTY_TUPLE);
    joblot_pickle_write_op(w, JOBLOT_OP_NEWOBJ);
    joblot_pickle_write_memo(w, 0);
    joblot_pickle_write_bytearray(w, "b", 1);
    joblot_pickle_write_op(w, JOBLOT_OP_BUILD);
    joblot_pickle_write_stop(w);
    finish(w);
    EXPECT(&k, "\x80\4\x95\x27\0\0\0\0\0\0\0\x8c\1m\x8c\1C\x93)\x81\x94\x8c\x8" "builtins\x8c\x9" "bytearray\x93" "C\1b\x85Rb.");
}

static void integers_are_short(void **state)
{
    (void)state;
    struct kept k;
    joblot_pickle_writer *w = writer(&k, 3);
    unsigned char big[300];
    memset(big, 0, sizeof big);
    big[1] = 1;
    joblot_pickle_write_big(w, big, sizeof big); /* 256 */
    joblot_pickle_write_big(w, big, 0);
    memset(big, 0xff, sizeof big);
    joblot_pickle_write_big(w, big, sizeof big); /* -1 */
    big[8] = 0;
    big[9] = 0;
    joblot_pickle_write_big(w, big, 10); /* 2^64 - 1 */
    joblot_pickle_write_int(w, INT64_MIN);
    big[299] = 1;
    joblot_pickle_write_big(w, big, sizeof big);
    finish(w);
    assert_int_equal(k.bytes.size, 3 + 2 + 5 + 11 + 10 + 5 + 300);
    assert_memory_equal(k.bytes.data + 31, "\x8b\x2c\1\0\0\xff", 6);
    assert_memory_equal(k.bytes.data, "M\0\1" "K\0" "J\xff\xff\xff\xff" "\x8a\x9\xff\xff\xff\xff\xff\xff\xff\xff\0"
                        "\x8a\x8\0\0\0\0\0\0\0\x80", 31);
    joblot__buffer_clear(&k.bytes);
}

static void sets_of_old_protocols_are_calls(void **state)
{
    (void)state;
    struct kept k;
    joblot_pickle_writer *w = writer(&k, 3);
    joblot_pickle_write_begin(w, JOBLOT_CONTAINER_SET, 1);
    joblot_pickle_write_int(w, 5);
    joblot_pickle_write_end(w);
    joblot_pickle_write_begin(w, JOBLOT_CONTAINER_FROZENSET, 2);
    joblot_pickle_write_int(w, 5);
    joblot_pickle_write_int(w, 6);
    joblot_pickle_write_end(w);
    joblot_pickle_write_begin(w, JOBLOT_CONTAINER_SET, 0);
    joblot_pickle_write_end(w);
    finish(w);
    EXPECT(&k, "cbuiltins\nset\n]K\5a\x85R" "cbuiltins\nfrozenset\n](K\5K\6e\x85R" "cbuiltins\nset\n]\x85R");
}

/* --- frames -------------------------------------------------------------------------------------------------- */

/* Reads all that was written, which checks the frames; the longest of them, and how many there are. */
static size_t read_back(const struct kept *k, size_t *frames)
{
    joblot_pickle_reader *r = open_memory(k->bytes.data, k->bytes.size, NULL);
    struct joblot_pickle_event e = {.op = 0};
    joblot_error err;
    int64_t longest = 0;
    *frames = 0;
    while (e.op != JOBLOT_OP_STOP) {
        if (joblot_pickle_next(r, &e, &err) != JOBLOT_OK)
            fail_msg("%s", err.message);
        *frames += e.op == JOBLOT_OP_FRAME;
        if (e.op == JOBLOT_OP_FRAME && e.integer > longest)
            longest = e.integer;
    }
    assert_int_equal(joblot_pickle_left(r), 0);
    joblot_pickle_reader_free(r);
    return (size_t)longest;
}

static void frames_end_near_64_kib(void **state)
{
    (void)state;
    struct kept k;
    size_t frames;
    joblot_pickle_writer *w = writer(&k, 4);
    joblot_pickle_write_start(w);
    joblot_pickle_write_begin(w, JOBLOT_CONTAINER_LIST, 100000);
    for (int i = 0; i < 100000; i++)
        joblot_pickle_write_int(w, 1000);
    joblot_pickle_write_end(w);
    joblot_pickle_write_stop(w);
    finish(w);
    size_t longest = read_back(&k, &frames);
    assert_int_equal(frames, 5);
    assert_true(longest >= 65536 && longest < 65536 + 16);
    assert_true(k.largest < 70000); /* the sink gets it as it comes */
    joblot__buffer_clear(&k.bytes);
}

static void long_strings_lie_outside_of_frames(void **state)
{
    (void)state;
    enum { LONG = 65536 };
    char *text = malloc(LONG);
    assert_non_null(text);
    memset(text, 'x', LONG);
    for (int protocol = 2; protocol <= 5; protocol++) {
        struct kept k;
        size_t frames;
        joblot_pickle_writer *w = writer(&k, protocol);
        joblot_pickle_write_start(w);
        joblot_pickle_write_begin(w, JOBLOT_CONTAINER_TUPLE, 3);
        joblot_pickle_write_text(w, text, LONG);
        joblot_pickle_write_memo(w, 0);
        joblot_pickle_write_text(w, text, LONG - 1);
        joblot_pickle_write_bytearray(w, text, LONG);
        joblot_pickle_write_end(w);
        joblot_pickle_write_stop(w);
        finish(w);
        (void)read_back(&k, &frames);
        assert_int_equal(frames, protocol == 5 ? 1 : (protocol == 4 ? 3 : 0));
        if (protocol == 5) {
            /* PROTO; the first text bare; MEMOIZE and the second in a frame; the bytearray bare; TUPLE3 STOP: no FRAME */
            assert_memory_equal(k.bytes.data, "\x80\5X\0\0\1\0x", 8);
            assert_memory_equal(k.bytes.data + 7 + LONG, "\x95\5\0\1\0\0\0\0\0\x94X\xff\xff\0\0", 15);
            assert_memory_equal(k.bytes.data + k.bytes.size - 2, "\x87.", 2);
        }
        joblot__buffer_clear(&k.bytes);
    }
    free(text);
}

static void raw_bytes_end_the_frame(void **state)
{
    (void)state;
    struct kept k;
    joblot_pickle_writer *w = writer(&k, 4);
    joblot_pickle_write_start(w);
    joblot_pickle_write_text(w, "abc", 3);
    joblot_pickle_write_flush(w);
    assert_int_equal(joblot_pickle_written(w), 2 + 9 + 5);
    joblot_pickle_write_raw(w, "raw bytes", 9);
    assert_int_equal(joblot_pickle_written(w), 25);
    joblot_pickle_write_memo(w, 0);
    joblot_pickle_write_raw(w, "B\1\0\0\0x0.", 8); /* as the index of a joblib file */
    finish(w);
    EXPECT(&k, "\x80\4\x95\5\0\0\0\0\0\0\0\x8c\3abcraw bytes\x94" "B\1\0\0\0x0.");
}

static void several_pickles(void **state)
{
    (void)state;
    struct kept k;
    joblot_pickle_writer *w = writer(&k, 5);
    for (int i = 0; i < 2; i++) {
        joblot_pickle_write_start(w);
        joblot_pickle_write_none(w);
        joblot_pickle_write_stop(w);
    }
    finish(w);
    EXPECT(&k, "\x80\5N.\x80\5N.");
}

/* --- misuse and faults -------------------------------------------------------------------------------------- */

static void refused(void (*write)(joblot_pickle_writer *w), int protocol, joblot_status status, const char *part)
{
    struct kept k;
    joblot_error err = {.message = ""};
    joblot_pickle_writer *w = writer(&k, protocol);
    write(w);
    joblot_pickle_write_none(w); /* does nothing, as every later call */
    assert_int_equal(joblot_pickle_finish(w, &err), status);
    if (strstr(err.message, part) == NULL)
        fail_msg("\"%s\" without \"%s\"", err.message, part);
    assert_int_equal(k.bytes.size, 0);
    joblot_pickle_writer_free(w);
}

static void one_too_few(joblot_pickle_writer *w)
{
    joblot_pickle_write_begin(w, JOBLOT_CONTAINER_LIST, 2);
    joblot_pickle_write_none(w);
    joblot_pickle_write_end(w);
}

static void one_too_many(joblot_pickle_writer *w)
{
    joblot_pickle_write_begin(w, JOBLOT_CONTAINER_DICT, 1);
    for (int i = 0; i < 3; i++)
        joblot_pickle_write_none(w);
}

static void not_ended(joblot_pickle_writer *w)
{
    joblot_pickle_write_begin(w, JOBLOT_CONTAINER_LIST, 1);
    joblot_pickle_write_stop(w);
}

static void not_begun(joblot_pickle_writer *w)
{
    joblot_pickle_write_end(w);
}

static void line_break(joblot_pickle_writer *w)
{
    joblot_pickle_write_global(w, "m\nx", "C");
}

static void no_code(joblot_pickle_writer *w)
{
    joblot_pickle_write_ext(w, 0);
}

static void misuse_is_said(void **state)
{
    (void)state;
    refused(one_too_few, 4, JOBLOT_INVALID, "fewer values");
    refused(one_too_many, 4, JOBLOT_INVALID, "more values");
    refused(not_ended, 4, JOBLOT_INVALID, "inside a container");
    refused(not_begun, 4, JOBLOT_INVALID, "not begun");
    refused(line_break, 3, JOBLOT_INVALID, "line break");
    refused(no_code, 3, JOBLOT_INVALID, "extension code");
    struct joblot_pickle_sink sink = {.write = keep}, none = {.write = NULL};
    joblot_pickle_writer *w = NULL;
    joblot_error err;
    assert_int_equal(joblot_pickle_writer_new(&sink, 1, &w, &err), JOBLOT_UNSUPPORTED);
    assert_int_equal(joblot_pickle_writer_new(&sink, 6, &w, &err), JOBLOT_UNSUPPORTED);
    assert_int_equal(joblot_pickle_writer_new(&none, 4, &w, &err), JOBLOT_INVALID);
    joblot_pickle_writer_free(NULL);
}

static void the_failure_of_a_sink_is_passed_on(void **state)
{
    (void)state;
    struct kept k;
    joblot_error err = {.message = ""};
    joblot_pickle_writer *w = writer(&k, 4);
    k.fail_at = 100000;
    joblot_pickle_write_start(w);
    for (int i = 0; i < 100000; i++)
        joblot_pickle_write_int(w, i);
    assert_true(k.calls < 4); /* and then nothing more */
    assert_int_equal(joblot_pickle_finish(w, &err), JOBLOT_OS);
    assert_string_equal(err.message, "the disk is full");
    joblot_pickle_writer_free(w);
    joblot__buffer_clear(&k.bytes);
}

static joblot_status discard(void *context, const void *data, size_t size, joblot_error *err)
{
    (void)context;
    (void)data;
    (void)size;
    (void)err;
    return JOBLOT_OK;
}

static joblot_status write_some(joblot_error *err)
{
    struct joblot_pickle_sink sink = {.write = discard};
    joblot_pickle_writer *w = NULL;
    joblot_status status = joblot_pickle_writer_new(&sink, 2, &w, err);
    if (status != JOBLOT_OK)
        return status;
    joblot_pickle_write_start(w);
    for (int i = 0; i < 20; i++)
        joblot_pickle_write_begin(w, JOBLOT_CONTAINER_LIST, 1);
    joblot_pickle_write_bytes(w, "some bytes, which are text in this protocol", 43);
    for (int i = 0; i < 20; i++)
        joblot_pickle_write_end(w);
    joblot_pickle_write_stop(w);
    status = joblot_pickle_finish(w, err);
    joblot_pickle_writer_free(w);
    return status;
}

static void every_allocation_fails_once(void **state)
{
    (void)state;
    fail_each_allocation(write_some, 5);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, remember, no_leak)
    const struct CMUnitTest tests[] = {
        TEST(goldens_are_written_again_byte_for_byte),
        TEST(values_without_a_frame),
        TEST(objects_of_protocol_4),
        TEST(integers_are_short),
        TEST(sets_of_old_protocols_are_calls),
        TEST(frames_end_near_64_kib),
        TEST(long_strings_lie_outside_of_frames),
        TEST(raw_bytes_end_the_frame),
        TEST(several_pickles),
        TEST(misuse_is_said),
        TEST(the_failure_of_a_sink_is_passed_on),
        TEST(every_allocation_fails_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
