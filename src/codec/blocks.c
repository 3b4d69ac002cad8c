/* codec/blocks.c - the threads that compress blocks.
 *
 * The writer's own thread is one of them: it compresses when it would have to wait.  The others are started one by one,
 * each when a block is handed over and all that there are may be busy. */
#include "blocks.h"

#include "../base/alloc.h"
#include "../base/error.h"
#include "../os/thread.h"

#include <string.h>

struct member {
    struct joblot__team *team;
    joblot__thread thread;
    void *encoder; /* made by the thread itself, at its first block */
};

struct joblot__team {
    const struct joblot__encoder *encoder;
    int level;
    joblot__lock lock;
    joblot__condition work, done;
    bool stop;
    bool cannot_grow; /* a thread could not be started */
    size_t n_slots, next; /* next: the oldest slot that can be READY */
    struct joblot__slot *slots;
    unsigned n_threads, n_started; /* members[0] is the writer's thread */
    struct member members[];
};

joblot_status joblot__team_new(const struct joblot__encoder *encoder, int level, unsigned n_threads,
                               struct joblot__team **out, joblot_error *err)
{
    size_t size = sizeof(struct joblot__team) + n_threads * sizeof(struct member);
    struct joblot__team *team = joblot__calloc(1, size);
    if (team == NULL)
        return joblot__fail_nomem(err, size, "the threads that compress");
    team->encoder = encoder;
    team->level = level;
    team->n_threads = n_threads;
    team->n_slots = n_threads == 1 ? 1 : n_threads + 2;
    team->slots = joblot__calloc(team->n_slots, sizeof *team->slots);
    if (team->slots == NULL) {
        joblot__free(team);
        return joblot__fail_nomem(err, size, "the blocks of a writer");
    }
    int rc = joblot__lock_init(&team->lock);
    int rc_work = joblot__condition_init(&team->work);
    int rc_done = joblot__condition_init(&team->done);
    if (rc < 0 || rc_work < 0 || rc_done < 0) {
        if (rc == 0)
            joblot__lock_clear(&team->lock);
        if (rc_work == 0)
            joblot__condition_clear(&team->work);
        if (rc_done == 0)
            joblot__condition_clear(&team->done);
        joblot__free(team->slots);
        joblot__free(team);
        return joblot__fail_os(err, -(rc < 0 ? rc : (rc_work < 0 ? rc_work : rc_done)), "cannot make a lock");
    }
    *out = team;
    return JOBLOT_OK;
}

void joblot__team_free(struct joblot__team *team)
{
    if (team == NULL)
        return;
    joblot__lock_take(&team->lock);
    team->stop = true;
    joblot__condition_tell_all(&team->work);
    joblot__lock_give(&team->lock);
    for (unsigned i = 1; i <= team->n_started; i++)
        joblot__thread_join(&team->members[i].thread);
    for (unsigned i = 0; i <= team->n_started; i++)
        if (team->members[i].encoder != NULL)
            team->encoder->close(team->members[i].encoder);
    for (size_t i = 0; i < team->n_slots; i++) {
        joblot__free(team->slots[i].memory);
        joblot__buffer_clear(&team->slots[i].out);
    }
    joblot__condition_clear(&team->done);
    joblot__condition_clear(&team->work);
    joblot__lock_clear(&team->lock);
    joblot__free(team->slots);
    joblot__free(team);
}

size_t joblot__team_slots(const struct joblot__team *team)
{
    return team->n_slots;
}

struct joblot__slot *joblot__team_slot(struct joblot__team *team, size_t index)
{
    return &team->slots[index];
}

/* A RUNNING slot, without the lock. */
static void compress(struct member *m, struct joblot__slot *slot)
{
    const struct joblot__encoder *encoder = m->team->encoder;
    slot->out.size = 0;
    slot->status = JOBLOT_OK;
    slot->why[0] = '\0';
    if (m->encoder == NULL)
        m->encoder = encoder->open(m->team->level);
    if (m->encoder == NULL) {
        slot->status = JOBLOT_NOMEM;
        memcpy(slot->why, "out of memory (an encoder)", sizeof "out of memory (an encoder)");
        return;
    }
    slot->status = encoder->encode(m->encoder, &slot->block, &slot->out, slot->why);
}

/* With the lock: compresses the oldest READY slot, if there is one. */
static bool work_once(struct member *m)
{
    struct joblot__team *team = m->team;
    struct joblot__slot *slot = &team->slots[team->next];
    if (slot->state != JOBLOT__SLOT_READY)
        return false;
    team->next = (team->next + 1) % team->n_slots;
    slot->state = JOBLOT__SLOT_RUNNING;
    joblot__lock_give(&team->lock);
    compress(m, slot);
    joblot__lock_take(&team->lock);
    slot->state = JOBLOT__SLOT_DONE;
    joblot__condition_tell(&team->done);
    return true;
}

static void run_member(void *argument)
{
    struct member *m = argument;
    struct joblot__team *team = m->team;
    joblot__lock_take(&team->lock);
    while (!team->stop)
        if (!work_once(m))
            joblot__condition_wait(&team->work, &team->lock);
    joblot__lock_give(&team->lock);
}

void joblot__team_submit(struct joblot__team *team, size_t index, bool alone)
{
    joblot__lock_take(&team->lock);
    team->slots[index].state = JOBLOT__SLOT_READY;
    joblot__condition_tell(&team->work);
    joblot__lock_give(&team->lock);
    if (alone || team->cannot_grow || team->n_started + 1 >= team->n_threads)
        return;
    struct member *m = &team->members[team->n_started + 1];
    m->team = team;
    team->cannot_grow = joblot__thread_start(&m->thread, run_member, m) < 0;
    team->n_started += !team->cannot_grow;
}

struct joblot__slot *joblot__team_result(struct joblot__team *team, size_t index)
{
    struct member *own = &team->members[0];
    struct joblot__slot *slot = &team->slots[index];
    own->team = team;
    joblot__lock_take(&team->lock);
    while (slot->state != JOBLOT__SLOT_DONE)
        if (!work_once(own))
            joblot__condition_wait(&team->done, &team->lock);
    slot->state = JOBLOT__SLOT_FREE;
    joblot__lock_give(&team->lock);
    return slot;
}

bool joblot__team_is_done(struct joblot__team *team, size_t index)
{
    joblot__lock_take(&team->lock);
    bool done = team->slots[index].state == JOBLOT__SLOT_DONE;
    joblot__lock_give(&team->lock);
    return done;
}
