/* pool/task.c - tasks in the parent: the record, and the queues that they wait in. */
#include "pool_internal.h"

#include "../base/alloc.h"
#include "../base/checked.h"
#include "../base/error.h"

static struct joblot__task *allocate(size_t size, size_t n_segments, joblot_error *err)
{
    size_t record = (size + 7) & ~(size_t)7, whole;
    struct joblot__task *task = NULL;
    if (joblot__mul_size(n_segments, sizeof(joblot_segment *), &whole) && joblot__add_size(whole, record, &whole) &&
        joblot__add_size(whole, sizeof *task, &whole))
        task = joblot__malloc(whole);
    if (task == NULL) {
        (void)joblot__fail_nomem(err, size, "a task");
        return NULL;
    }
    memset(task, 0, sizeof *task);
    task->size = size;
    task->segments = (joblot_segment **)(void *)(task->record + record);
    return task;
}

static void put_header(struct joblot__task *task, uint32_t kind, uint32_t flags)
{
    joblot__store_le64(task->record, 0);
    joblot__store_le32(task->record + 8, kind);
    joblot__store_le32(task->record + 12, flags);
}

static void borrow(struct joblot__task *task, joblot_segment *segment)
{
    for (size_t i = 0; i < task->n_segments; i++)
        if (task->segments[i] == segment)
            return;
    task->segments[task->n_segments++] = joblot_segment_borrow(segment);
}

/* A body that is too large for the ring goes into a segment, and the record says where. */
static joblot_status put_far(struct joblot__task *task, const struct joblot_part *parts, size_t n_parts, size_t body,
                             const struct joblot_segment_options *where, joblot_error *err)
{
    joblot_segment *segment;
    void *data;
    joblot_status status = joblot_segment_new(body, where, &segment, err);
    if (status != JOBLOT_OK)
        return status;
    status = joblot_segment_data(segment, &data, err);
    if (status == JOBLOT_OK) {
        unsigned char *at = task->record + JOBLOT__TASK_HEADER;
        joblot__body_write(data, parts, n_parts);
        joblot__store_le64(at, body);
        joblot__store_le64(at + 8, 0);
        joblot__store_le32(at + 16, joblot_segment_id(segment));
        joblot__store_le32(at + 20, 0);
        borrow(task, segment);
    }
    joblot_segment_release(segment);
    return status;
}

joblot_status joblot__task_new(uint32_t kind, const struct joblot_part *parts, size_t n_parts, size_t ring_size,
                               const struct joblot_segment_options *where, struct joblot__task **out, joblot_error *err)
{
    size_t body, n_segments = 1;
    joblot_status status = joblot__body_size(parts, n_parts, &body, err);
    if (status != JOBLOT_OK)
        return status;
    for (size_t i = 0; i < n_parts; i++) {
        uint64_t whole = parts[i].segment != NULL ? joblot_segment_size(parts[i].segment) : 0;
        if (parts[i].segment != NULL && (parts[i].offset > whole || parts[i].size > whole - parts[i].offset))
            return joblot__fail(err, JOBLOT_INVALID, 0, "part %zu: %llu bytes at %llu lie outside a segment of %llu bytes",
                                i, (unsigned long long)parts[i].size, (unsigned long long)parts[i].offset,
                                (unsigned long long)whole);
        n_segments += parts[i].segment != NULL;
    }
    bool far = body > ring_size / 4;
    struct joblot__task *task = allocate(JOBLOT__TASK_HEADER + (far ? JOBLOT__FAR_SIZE : body), n_segments, err);
    if (task == NULL)
        return JOBLOT_NOMEM;
    put_header(task, kind, far ? JOBLOT__FLAG_FAR : 0);
    for (size_t i = 0; i < n_parts; i++)
        if (parts[i].segment != NULL)
            borrow(task, parts[i].segment);
    if (far)
        status = put_far(task, parts, n_parts, body, where, err);
    else
        joblot__body_write(task->record + JOBLOT__TASK_HEADER, parts, n_parts);
    if (status != JOBLOT_OK) {
        joblot__task_free(task);
        return status;
    }
    *out = task;
    return JOBLOT_OK;
}

void joblot__task_free(struct joblot__task *task)
{
    if (task == NULL)
        return;
    for (size_t i = 0; i < task->n_segments; i++)
        joblot_segment_release(task->segments[i]);
    joblot__free(task);
}

void joblot__queue_push(struct joblot__queue *q, struct joblot__task *task)
{
    task->next = NULL;
    if (q->last != NULL)
        q->last->next = task;
    else
        q->first = task;
    q->last = task;
    q->count++;
}

void joblot__queue_push_front(struct joblot__queue *q, struct joblot__task *task)
{
    task->next = q->first;
    q->first = task;
    if (q->last == NULL)
        q->last = task;
    q->count++;
}

void joblot__queue_prepend(struct joblot__queue *q, struct joblot__queue *rest)
{
    if (rest->first == NULL)
        return;
    rest->last->next = q->first;
    if (q->last == NULL)
        q->last = rest->last;
    q->first = rest->first;
    q->count += rest->count;
    memset(rest, 0, sizeof *rest);
}

struct joblot__task *joblot__queue_pop(struct joblot__queue *q)
{
    struct joblot__task *task = q->first;
    if (task == NULL)
        return NULL;
    q->first = task->next;
    if (q->first == NULL)
        q->last = NULL;
    q->count--;
    task->next = NULL;
    return task;
}

void joblot__queue_clear(struct joblot__queue *q)
{
    while (q->first != NULL)
        joblot__task_free(joblot__queue_pop(q));
}
