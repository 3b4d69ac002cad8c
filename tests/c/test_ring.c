/* test_ring.c - the byte ring against a plain queue, between two threads, between two processes, and when broken. */
#define _GNU_SOURCE
#include "pool/ring.h"
#include "pool/wire.h"

#include "support/cases.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

struct both {
    struct joblot__ring_words words;
    unsigned char guard_before[64];
    unsigned char data[1 << 16];
    unsigned char guard_after[64];
};

struct model {
    struct both *shared;
    struct joblot__ring w, r;
    size_t size;
    uint64_t random;
};

static void set_up(struct model *m, size_t size, uint64_t seed)
{
    m->shared = mmap(NULL, sizeof *m->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(m->shared != MAP_FAILED);
    m->size = size;
    m->random = seed;
    memset(m->shared->guard_before, 0xa5, sizeof m->shared->guard_before);
    memset(m->shared->data + size, 0xa5, sizeof m->shared->data - size);
    memset(m->shared->guard_after, 0xa5, sizeof m->shared->guard_after);
    joblot__ring_init(&m->w, &m->shared->words, m->shared->data, size);
    joblot__ring_init(&m->r, &m->shared->words, m->shared->data, size);
}

static void tear_down(struct model *m)
{
    for (size_t i = 0; i < 64; i++)
        CHECK(m->shared->guard_before[i] == 0xa5 && m->shared->guard_after[i] == 0xa5);
    for (size_t i = m->size; i < sizeof m->shared->data; i++)
        CHECK_EQUAL(m->shared->data[i], 0xa5);
    CHECK(munmap(m->shared, sizeof *m->shared) == 0);
}

static void fill(unsigned char *at, size_t size, uint64_t number)
{
    for (size_t i = 0; i < size; i++)
        at[i] = (unsigned char)(number * 31 + i * 7 % 251);
}

static void compare(const unsigned char *at, size_t size, uint64_t number)
{
    for (size_t i = 0; i < size; i++)
        if (at[i] != (unsigned char)(number * 31 + i * 7 % 251))
            fail_case(__FILE__, __LINE__, "record %llu differs at byte %zu", (unsigned long long)number, i);
}

/* Sizes as they come in life: mostly small, at times as large as is possible. */
static size_t some_size(uint64_t number, size_t ring)
{
    uint64_t state = number * 77 + 5;
    uint64_t r = next_random(&state);
    size_t most = ring / 2 - JOBLOT__RING_HEADER;
    return r % 16 == 0 ? most - (size_t)(r >> 8) % 32 : (size_t)(r >> 8) % (most / 8);
}

/* ---- one thread, against a queue that is just three numbers ---- */

struct counts {
    uint64_t reserved, committed, read;
};

static void step_writer(struct model *m, struct counts *n)
{
    uint64_t r = next_random(&m->random) % 10;
    if (r < 6) {
        size_t size = some_size(n->reserved, m->size);
        unsigned char *at = joblot__ring_reserve(&m->w, (uint32_t)(n->reserved % 1000) + 1, size);
        if (at == NULL) {
            CHECK(n->reserved > n->read); /* an empty ring takes any record */
            return;
        }
        CHECK(((uintptr_t)at & 7) == 0);
        fill(at, size, n->reserved++);
    } else if (r < 8) {
        joblot__ring_commit(&m->w);
        n->committed = n->reserved;
    } else if (r == 8) {
        joblot__ring_rollback(&m->w);
        n->reserved = n->committed;
    }
}

static void step_reader(struct model *m, struct counts *n)
{
    uint32_t type;
    size_t size;
    bool broken;
    for (uint64_t k = next_random(&m->random) % 4; k > 0; k--) {
        const unsigned char *at = joblot__ring_peek(&m->r, &type, &size, &broken);
        CHECK(!broken);
        if (at == NULL) {
            CHECK_EQUAL(n->read, n->committed);
            CHECK(!joblot__ring_has_more(&m->r));
            return;
        }
        CHECK(n->read < n->committed);
        CHECK_EQUAL(type, n->read % 1000 + 1);
        CHECK_EQUAL(size, some_size(n->read, m->size));
        CHECK(joblot__ring_peek(&m->r, &type, &size, &broken) == at); /* peeking again gives the same */
        compare(at, size, n->read);
        CHECK(joblot__ring_has_more(&m->r) || n->read + 1 == n->committed);
        joblot__ring_consume(&m->r);
        n->read++;
    }
}

static void one_thread_model(void)
{
    static const size_t sizes[] = {4096, 16384, 65536};
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct model m;
        struct counts n = {0, 0, 0};
        set_up(&m, sizes[seed % 3], seed);
        for (size_t i = 0; i < 20000; i++) {
            step_writer(&m, &n);
            step_reader(&m, &n);
        }
        joblot__ring_commit(&m.w);
        CHECK(n.read > 500);
        tear_down(&m);
    }
}

static void any_record_fits_an_empty_ring_at_any_place(void)
{
    for (size_t lead = 0; lead < 4096; lead += 8) {
        struct model m;
        uint32_t type;
        size_t size;
        bool broken;
        set_up(&m, 4096, 1);
        while ((m.w.reserved & 4095) != lead) { /* bring the position there by records of one word */
            CHECK(joblot__ring_reserve(&m.w, 1, 0) != NULL);
            joblot__ring_commit(&m.w);
            CHECK(joblot__ring_peek(&m.r, &type, &size, &broken) != NULL);
            joblot__ring_consume(&m.r);
        }
        size_t most = 0;
        for (size = 1; size <= 4096; size++) {
            unsigned char *at = joblot__ring_reserve(&m.w, 2, size);
            if (at != NULL) {
                most = size;
                memset(at, 0xee, size);
            }
            joblot__ring_rollback(&m.w);
        }
        CHECK_EQUAL(most, 2048 - JOBLOT__RING_HEADER); /* the same wherever the ring stands, so a writer can wait for it */
        tear_down(&m);
    }
}

static void used_counts_what_is_not_consumed(void)
{
    struct model m;
    uint32_t type;
    size_t size;
    bool broken;
    set_up(&m, 4096, 1);
    CHECK_EQUAL(joblot__ring_used(&m.w), 0);
    CHECK(joblot__ring_reserve(&m.w, 1, 10) != NULL);
    joblot__ring_commit(&m.w);
    CHECK_EQUAL(joblot__ring_used(&m.w), 24);
    CHECK(joblot__ring_peek(&m.r, &type, &size, &broken) != NULL);
    CHECK_EQUAL(joblot__ring_used(&m.w), 24);
    joblot__ring_consume(&m.r);
    CHECK_EQUAL(joblot__ring_used(&m.w), 0);
    tear_down(&m);
}

/* ---- two threads, two processes ---- */

enum { MANY = 60000 };

static void write_many(struct model *m)
{
    uint64_t state = 99;
    for (uint64_t i = 0; i < MANY;) {
        size_t size = some_size(i, m->size);
        unsigned char *at = joblot__ring_reserve(&m->w, (uint32_t)(i % 1000) + 1, size);
        if (at != NULL)
            fill(at, size, i++);
        if (at == NULL || next_random(&state) % 3 == 0)
            joblot__ring_commit(&m->w);
        if (at == NULL)
            (void)usleep(1);
    }
    joblot__ring_commit(&m->w);
}

static void read_many(struct model *m)
{
    for (uint64_t i = 0; i < MANY;) {
        uint32_t type;
        size_t size;
        bool broken;
        const unsigned char *at = joblot__ring_peek(&m->r, &type, &size, &broken);
        CHECK(!broken);
        if (at == NULL) {
            (void)usleep(1);
            continue;
        }
        CHECK_EQUAL(type, i % 1000 + 1);
        CHECK_EQUAL(size, some_size(i, m->size));
        compare(at, size, i);
        joblot__ring_consume(&m->r);
        i++;
    }
}

static void *writer_thread(void *context)
{
    write_many(context);
    return NULL;
}

static void two_threads(void)
{
    struct model m;
    pthread_t thread;
    set_up(&m, 16384, 1);
    CHECK(pthread_create(&thread, NULL, writer_thread, &m) == 0);
    read_many(&m);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_EQUAL(joblot__ring_used(&m.w), 0);
    tear_down(&m);
}

static void two_processes(void)
{
    struct model m;
    int status;
    set_up(&m, 4096, 1);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        write_many(&m);
        _exit(0);
    }
    read_many(&m);
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_EQUAL(status, 0);
    tear_down(&m);
}

/* ---- the doorbell's flags, as both sides use them: neither may sleep while the other has left it something ---- */

struct flags {
    joblot__shared32 sleeps;
    joblot__shared64 number;
    int pipe[2];
};

enum { HANDOVERS = 20000 };

static void *bell_writer(void *context)
{
    struct flags *f = context;
    for (uint64_t i = 1; i <= HANDOVERS; i++) {
        joblot__shared64_store(&f->number, i, memory_order_release);
        atomic_thread_fence(memory_order_seq_cst);
        if (joblot__shared32_load(&f->sleeps, memory_order_relaxed) != 0 &&
            joblot__shared32_exchange(&f->sleeps, 0, memory_order_acq_rel) != 0)
            CHECK(write(f->pipe[1], "x", 1) == 1);
        if (i % 64 == 0)
            (void)usleep(1);
    }
    return NULL;
}

static void no_bell_is_missed(void)
{
    struct flags f;
    pthread_t thread;
    uint64_t seen = 0;
    char c;
    memset(&f, 0, sizeof f);
    CHECK(pipe(f.pipe) == 0);
    CHECK(pthread_create(&thread, NULL, bell_writer, &f) == 0);
    while (seen < HANDOVERS) {
        joblot__shared32_store(&f.sleeps, 1, memory_order_relaxed);
        atomic_thread_fence(memory_order_seq_cst);
        uint64_t now = joblot__shared64_load(&f.number, memory_order_acquire);
        if (now == seen) {
            CHECK(read(f.pipe[0], &c, 1) == 1); /* a missed bell hangs here, and the time limit tells */
        } else {
            /* A bell that was rung all the same must not be taken for a later one: it is only a reason to look. */
            joblot__shared32_store(&f.sleeps, 0, memory_order_relaxed);
        }
        CHECK(now >= seen);
        seen = now;
    }
    CHECK(pthread_join(thread, NULL) == 0);
}

static void shared_words_are_little_endian(void)
{
    joblot__shared32 a;
    joblot__shared64 b;
    static const unsigned char a_bytes[] = {4, 3, 2, 1}, b_bytes[] = {8, 7, 6, 5, 4, 3, 2, 1};
    joblot__shared32_store(&a, 0x01020304u, memory_order_relaxed);
    joblot__shared64_store(&b, 0x0102030405060708u, memory_order_relaxed);
    CHECK(memcmp(&a, a_bytes, 4) == 0 && memcmp(&b, b_bytes, 8) == 0);
    CHECK_EQUAL(joblot__shared32_exchange(&a, 7, memory_order_acq_rel), 0x01020304);
    CHECK(!joblot__shared32_cas(&a, 6, 9) && joblot__shared32_cas(&a, 7, 9));
    CHECK_EQUAL(joblot__shared32_load(&a, memory_order_relaxed), 9);
    CHECK_EQUAL(joblot__shared64_load(&b, memory_order_relaxed), 0x0102030405060708);
    CHECK(sizeof(struct joblot__channel) <= JOBLOT__CHANNEL_HEADER);
    CHECK_EQUAL(sizeof(struct joblot__socket_message), 32);
    CHECK_EQUAL(sizeof(struct joblot__server_message), 24);
}

/* ---- the other side wrote garbage ---- */

static void read_garbage(struct model *m)
{
    uint32_t type;
    size_t size, records = 0;
    bool broken = false;
    for (;;) {
        const unsigned char *at = joblot__ring_peek(&m->r, &type, &size, &broken);
        if (at == NULL)
            break;
        CHECK(at >= m->shared->data && size <= m->size && at + size <= m->shared->data + m->size);
        volatile unsigned char touched = 0;
        for (size_t i = 0; i < size; i++)
            touched ^= at[i];
        joblot__ring_consume(&m->r);
        CHECK(++records <= m->size / 8);
    }
}

static void garbage_is_seen_and_never_leaves_the_ring(void)
{
    for (uint64_t seed = 1; seed <= 3000; seed++) {
        struct model m;
        set_up(&m, 4096, seed);
        uint64_t start = seed % 3 == 0 ? 0 : (next_random(&m.random) % 512) * 8;
        m.w.reserved = m.w.tail = m.r.head = m.r.tail = start;
        for (size_t i = 0; i < 4096; i += 8) { /* headers that are near to the truth are the interesting ones */
            uint64_t r = next_random(&m.random);
            joblot__store_le32(m.shared->data + i, (uint32_t)(r % 4 == 0 ? r >> 32 : (r >> 8) % 64));
            joblot__store_le32(m.shared->data + i + 4, (uint32_t)(r >> 16) % 3);
        }
        uint64_t r = next_random(&m.random);
        uint64_t tail = r % 4 == 0 ? next_random(&m.random) : start + (r >> 8) % (r % 4 == 1 ? 8192 : 4097);
        joblot__shared64_store(&m.shared->words.tail, tail, memory_order_release);
        read_garbage(&m);
        tear_down(&m);
    }
}

static void broken_is_told(void)
{
    static const struct {
        uint64_t tail;
        uint32_t size;
    } cases[] = {{4104, 8}, {4, 8}, {20, 4}, {16, 64}, {4096, 5000}, {4096, UINT32_MAX}, {(uint64_t)0 - 8, 8}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct model m;
        uint32_t type;
        size_t size;
        bool broken = false;
        set_up(&m, 4096, 1);
        joblot__store_le32(m.shared->data, cases[i].size);
        joblot__store_le32(m.shared->data + 4, 1);
        joblot__shared64_store(&m.shared->words.tail, cases[i].tail, memory_order_release);
        CHECK(joblot__ring_peek(&m.r, &type, &size, &broken) == NULL);
        if (!broken)
            fail_case(__FILE__, __LINE__, "case %zu is taken for an empty ring", i);
        tear_down(&m);
    }
}

static void a_reader_that_lies_gets_no_writer_out_of_the_ring(void)
{
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        struct model m;
        set_up(&m, 4096, seed);
        for (size_t i = 0; i < 50; i++) {
            uint64_t r = next_random(&m.random);
            joblot__shared64_store(&m.shared->words.head, r % 2 ? next_random(&m.random) : (r >> 8) % 8192,
                                   memory_order_release);
            size_t size = (size_t)(next_random(&m.random) % 2100);
            unsigned char *at = joblot__ring_reserve(&m.w, 1, size);
            if (at != NULL) {
                CHECK(at >= m.shared->data && at + size <= m.shared->data + 4096);
                memset(at, 0x11, size);
            }
            joblot__ring_commit(&m.w);
        }
        tear_down(&m);
    }
}

static const struct test_case cases[] = {
    {"one_thread_model", one_thread_model, 60},
    {"any_record_fits_an_empty_ring_at_any_place", any_record_fits_an_empty_ring_at_any_place, 60},
    {"used_counts_what_is_not_consumed", used_counts_what_is_not_consumed, 10},
    {"two_threads", two_threads, 60},
    {"two_processes", two_processes, 60},
    {"no_bell_is_missed", no_bell_is_missed, 60},
    {"shared_words_are_little_endian", shared_words_are_little_endian, 10},
    {"garbage_is_seen_and_never_leaves_the_ring", garbage_is_seen_and_never_leaves_the_ring, 60},
    {"broken_is_told", broken_is_told, 10},
    {"a_reader_that_lies_gets_no_writer_out_of_the_ring", a_reader_that_lies_gets_no_writer_out_of_the_ring, 60},
};

int main(int argc, char **argv) { return run_cases(cases, sizeof cases / sizeof cases[0], argc, argv); }
