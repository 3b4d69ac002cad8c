/* Segments that are kept for the next use, and the state words that a trimmer in another process goes by. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "os/os.h"
#include "segment/segment.h"

#include <pthread.h>

enum { MB = 1 << 20 };

static joblot_segment *take(joblot_segment_cache *cache, uint64_t size)
{
    joblot_segment *segment = NULL;
    joblot_error err;
    assert_int_equal(joblot_segment_cache_take(cache, size, NULL, &segment, &err), JOBLOT_OK);
    assert_true(joblot_segment_size(segment) >= size);
    return segment;
}

static joblot_segment_cache *open_cache(void)
{
    joblot_segment_cache *cache = NULL;
    assert_int_equal(joblot_segment_cache_new(&cache, NULL), JOBLOT_OK);
    return cache;
}

static void a_released_segment_is_taken_again(void **state)
{
    (void)state;
    long live = joblot__alloc_live();
    joblot_segment_cache *cache = open_cache();
    joblot_segment *a = take(cache, 2 * MB), *b = take(cache, 2 * MB);
    uint32_t id_a = joblot_segment_id(a), id_b = joblot_segment_id(b);
    assert_int_not_equal(id_a, id_b);
    assert_true(joblot_segment_is_cached(a));
    joblot_segment_release(a);
    a = take(cache, 2 * MB);
    assert_int_equal(joblot_segment_id(a), id_a);
    joblot_segment_release(a);
    joblot_segment_release(b);
    joblot_segment_cache_free(cache);
    joblot_segment_cache_free(NULL);
    assert_int_equal(joblot__alloc_live(), live);
}

static void only_what_fits_is_taken(void **state)
{
    (void)state;
    joblot_segment_cache *cache = open_cache();
    joblot_segment *big = take(cache, 8 * MB), *middle = take(cache, 3 * MB);
    uint32_t id_big = joblot_segment_id(big), id_middle = joblot_segment_id(middle);
    joblot_segment_release(big);
    joblot_segment_release(middle);
    joblot_segment *other = take(cache, 2 * MB); /* the smallest that is large enough, and not four times too large */
    assert_int_equal(joblot_segment_id(other), id_middle);
    joblot_segment *next = take(cache, 2 * MB);
    assert_int_not_equal(joblot_segment_id(next), id_big);
    joblot_segment *small = take(cache, 4096);
    assert_false(joblot_segment_is_cached(small));
    joblot_segment_release(other);
    joblot_segment_release(next);
    joblot_segment_release(small);
    joblot_segment_cache_free(cache);
}

static void one_that_somebody_borrows_is_not_taken(void **state)
{
    (void)state;
    joblot_segment_cache *cache = open_cache();
    joblot_segment *a = take(cache, MB);
    uint32_t id = joblot_segment_id(a);
    joblot_segment *told = joblot_segment_lend(a); /* a worker knows it: that alone does not hold it */
    joblot_segment *kept = joblot_segment_borrow(a);
    joblot_segment_release(a);
    joblot_segment *b = take(cache, MB);
    assert_int_not_equal(joblot_segment_id(b), id);
    joblot_segment_release(kept);
    joblot_segment *c = take(cache, MB);
    assert_int_equal(joblot_segment_id(c), id);
    joblot_segment_return(told);
    joblot_segment_release(b);
    joblot_segment_release(c);
    joblot_segment_cache_free(cache);
}

static void trim_keeps_what_was_in_use_at_once(void **state)
{
    (void)state;
    joblot_segment_cache *cache = open_cache();
    joblot_segment *a = take(cache, 4 * MB), *b = take(cache, 4 * MB);
    joblot_segment_release(a);
    joblot_segment_release(b);
    assert_int_equal(joblot_segment_cache_trim(cache), 8 * MB);
    a = take(cache, 4 * MB); /* this time one is enough */
    uint32_t id = joblot_segment_id(a);
    joblot_segment_release(a);
    assert_int_equal(joblot_segment_cache_trim(cache), 4 * MB);
    a = take(cache, 4 * MB);
    assert_int_equal(joblot_segment_id(a), id); /* the one that was used last */
    joblot_segment_release(a);
    assert_int_equal(joblot_segment_cache_trim(cache), 4 * MB);
    assert_int_equal(joblot_segment_cache_trim(cache), 0);
    joblot_segment_cache_free(cache);
}

static void the_state_words_say_who_has_it(void **state)
{
    (void)state;
    joblot__shared32 states[JOBLOT__CACHE_SLOTS];
    uint32_t known[JOBLOT__CACHE_SLOTS] = {0};
    memset(states, 0, sizeof states);
    joblot_segment_cache *cache = open_cache();
    joblot__cache_share(cache, states);
    joblot_segment *a = take(cache, MB);
    uint32_t id = joblot_segment_id(a);
    assert_ptr_equal(joblot__cache_slot(cache, 0), a);
    joblot_segment_release(a);
    assert_false(joblot__cache_set_free(cache, known)); /* the trimmer does not know it */
    known[0] = id;
    assert_true(joblot__cache_set_free(cache, known));
    assert_int_equal(joblot__shared32_load(&states[0], memory_order_relaxed), JOBLOT__FREE);
    a = take(cache, MB);
    assert_int_equal(joblot_segment_id(a), id);
    assert_int_equal(joblot__shared32_load(&states[0], memory_order_relaxed), JOBLOT__BUSY);
    joblot_segment_release(a);
    joblot__shared32_store(&states[0], JOBLOT__TRIM, memory_order_relaxed);
    joblot_segment *other = take(cache, MB); /* the trimmer is at the first */
    assert_int_not_equal(joblot_segment_id(other), id);
    joblot__shared32_store(&states[0], JOBLOT__COLD, memory_order_relaxed);
    a = take(cache, MB);
    assert_int_equal(joblot_segment_id(a), id);
    assert_int_equal(joblot__shared32_load(&states[0], memory_order_relaxed), JOBLOT__BUSY);
    joblot_segment_release(a);
    joblot_segment_release(other);
    joblot_segment_cache_free(cache);
}

/* ---- owner and trimmer at once ---- */

struct race {
    joblot__shared32 states[JOBLOT__CACHE_SLOTS];
    joblot__shared32 stop;
    int fd;
    uint64_t size;
    unsigned trimmed;
};

static void *trimmer(void *arg)
{
    struct race *race = arg;
    while (joblot__shared32_load(&race->stop, memory_order_acquire) == 0) {
        if (!joblot__shared32_cas(&race->states[0], JOBLOT__FREE, JOBLOT__TRIM))
            continue;
        (void)joblot__os_punch(race->fd, race->size);
        race->trimmed++;
        joblot__shared32_store(&race->states[0], JOBLOT__COLD, memory_order_release);
    }
    return NULL;
}

static void a_copy_never_meets_the_trimmer(void **state)
{
    (void)state;
    static struct race race;
    static unsigned char pattern[MB];
    uint32_t known[JOBLOT__CACHE_SLOTS] = {0};
    pthread_t thread;
    memset(&race, 0, sizeof race);
    joblot_segment_cache *cache = open_cache();
    joblot__cache_share(cache, race.states);
    joblot_segment *a = take(cache, MB);
    known[0] = joblot_segment_id(a);
    race.fd = joblot_segment_fd(a);
    race.size = joblot_segment_size(a);
    joblot_segment_release(a);
    assert_int_equal(pthread_create(&thread, NULL, trimmer, &race), 0);
    for (int round = 0; round < 300; round++) {
        void *data;
        (void)joblot__cache_set_free(cache, known);
        joblot_segment *segment = take(cache, MB);
        memset(pattern, round + 1, sizeof pattern);
        assert_int_equal(joblot_segment_write(segment, 0, pattern, sizeof pattern, NULL), JOBLOT_OK);
        assert_int_equal(joblot_segment_data(segment, &data, NULL), JOBLOT_OK);
        assert_memory_equal(data, pattern, sizeof pattern);
        joblot_segment_release(segment);
    }
    joblot__shared32_store(&race.stop, 1, memory_order_release);
    assert_int_equal(pthread_join(thread, NULL), 0);
    joblot_segment_cache_free(cache);
}

static void a_failing_allocation_leaves_nothing(void **state)
{
    (void)state;
    long live = joblot__alloc_live();
    for (int for_good = 0; for_good < 2; for_good++) {
        for (unsigned long n = 1;; n++) {
            joblot_segment_cache *cache = NULL;
            joblot_segment *segment = NULL;
            joblot__alloc_fail_at(n, for_good != 0);
            joblot_status status = joblot_segment_cache_new(&cache, NULL);
            if (status == JOBLOT_OK)
                status = joblot_segment_cache_take(cache, MB, NULL, &segment, NULL);
            joblot__alloc_fail_at(0, false);
            joblot_segment_release(segment);
            joblot_segment_cache_free(cache);
            assert_int_equal(joblot__alloc_live(), live);
            if (status == JOBLOT_OK)
                break;
            assert_int_equal(status, JOBLOT_NOMEM);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_released_segment_is_taken_again), cmocka_unit_test(only_what_fits_is_taken),
        cmocka_unit_test(one_that_somebody_borrows_is_not_taken), cmocka_unit_test(trim_keeps_what_was_in_use_at_once),
        cmocka_unit_test(the_state_words_say_who_has_it),         cmocka_unit_test(a_copy_never_meets_the_trimmer),
        cmocka_unit_test(a_failing_allocation_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
