/* pool/view.c - a worker's mappings of ranges of a segment.
 *
 * To map is cheap, but every page that is touched costs a fault: a mapping that a task is done with stays for the next
 * one that wants the same range in the same mode, until the parent forgets the segment.  One task has it at a time, so
 * that what it writes to a private mapping is seen by no other. */
#include "worker_internal.h"

#include "../base/alloc.h"
#include "../os/os.h"

#include <errno.h>

struct joblot__view {
    struct joblot__view *next;
    unsigned char *base;
    uint64_t offset; /* in the segment; a multiple of the page size */
    size_t size;
    int mode;
    bool used;
};

/* Mappings of a segment that are kept while nobody uses them. */
enum { MOST_IDLE = 8 };

int joblot__view_take(struct joblot__known *known, uint64_t offset, size_t size, int mode, struct joblot__view **out)
{
    joblot__lock_take(&known->lock);
    struct joblot__view *view = known->views;
    while (view != NULL && (view->used || view->mode != mode || view->offset != offset || view->size != size))
        view = view->next;
    if (view != NULL)
        view->used = true;
    joblot__lock_give(&known->lock);
    *out = view;
    if (view != NULL)
        return 0;
    void *base;
    view = joblot__malloc(sizeof *view);
    if (view == NULL)
        return -ENOMEM;
    int rc = joblot__os_map(known->fd, offset, size, mode, &base);
    if (rc < 0) {
        joblot__free(view);
        return rc;
    }
    *view = (struct joblot__view){.base = base, .offset = offset, .size = size, .mode = mode, .used = true};
    joblot__lock_take(&known->lock);
    view->next = known->views;
    known->views = view;
    joblot__lock_give(&known->lock);
    *out = view;
    return 0;
}

unsigned char *joblot__view_base(const struct joblot__view *view)
{
    return view->base;
}

static void unmap(struct joblot__view *view)
{
    (void)joblot__os_unmap(view->base, view->size);
    joblot__free(view);
}

static bool is_idle_enough(const struct joblot__known *known)
{
    size_t idle = 0;
    for (const struct joblot__view *view = known->views; view != NULL; view = view->next)
        idle += !view->used;
    return idle >= MOST_IDLE;
}

void joblot__view_give(struct joblot__known *known, struct joblot__view *view)
{
    joblot__lock_take(&known->lock);
    bool keep = !known->over && !is_idle_enough(known);
    if (keep && view->mode == JOBLOT__MAP_PRIVATE)
        keep = joblot__os_reset_private(known->fd, view->offset, view->base, view->size) == 0;
    if (keep) {
        view->used = false;
    } else {
        struct joblot__view **link = &known->views;
        while (*link != view)
            link = &(*link)->next;
        *link = view->next;
    }
    joblot__lock_give(&known->lock);
    if (!keep)
        unmap(view);
}

void joblot__view_end(struct joblot__known *known)
{
    joblot__lock_take(&known->lock);
    known->over = true;
    struct joblot__view **link = &known->views;
    while (*link != NULL) {
        struct joblot__view *view = *link;
        if (view->used) {
            link = &view->next;
            continue;
        }
        *link = view->next;
        unmap(view);
    }
    joblot__lock_give(&known->lock);
}
