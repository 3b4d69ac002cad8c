/* codec/blocks.h - blocks on their way from the writer, through the threads that compress them, to the sink. */
#ifndef JOBLOT_CODEC_BLOCKS_H
#define JOBLOT_CODEC_BLOCKS_H

#include "codec.h"

/* One place for a block.  Between take and give its content is the owner's; who the owner is, `state` says, which is
 * looked at under the lock of the team. */
struct joblot__slot {
    unsigned char *memory; /* history, then the block */
    struct joblot__block block;
    struct joblot__buffer out;
    joblot_status status;
    char why[200];
    enum { JOBLOT__SLOT_FREE, JOBLOT__SLOT_READY, JOBLOT__SLOT_RUNNING, JOBLOT__SLOT_DONE } state;
};

struct joblot__team;

/* At most n_threads compress, the one that calls joblot__team_result among them. */
joblot_status joblot__team_new(const struct joblot__encoder *encoder, int level, unsigned n_threads,
                               struct joblot__team **out, joblot_error *err);
void joblot__team_free(struct joblot__team *team); /* waits for the blocks that are being compressed; NULL is fine */
size_t joblot__team_slots(const struct joblot__team *team);
struct joblot__slot *joblot__team_slot(struct joblot__team *team, size_t index);

/* Slots are handed over, and their results taken, in the order of their index, round and round. */
void joblot__team_submit(struct joblot__team *team, size_t index, bool alone);
/* Waits until that slot is done, and compresses other slots or itself meanwhile. */
struct joblot__slot *joblot__team_result(struct joblot__team *team, size_t index);
bool joblot__team_is_done(struct joblot__team *team, size_t index);

#endif
