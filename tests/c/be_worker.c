/* be_worker.c - a server program whose workers a parent of another byte order drives: see test_big_endian.c. */
#include <joblot/pool.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BE_SUM, BE_ECHO, BE_LARGE, BE_KILL, BE_ORDER };

static uint64_t le64(const void *at)
{
    const unsigned char *p = at;
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

static joblot_status answer(joblot_worker *w, const void *data, size_t size, joblot_error *err)
{
    struct joblot_part part = {.data = data, .size = size};
    return joblot_worker_reply(w, &part, 1, err);
}

/* Sums big-endian 32-bit numbers of a segment, as a machine of that order reads them; answers 8 bytes, big-endian. */
static joblot_status sum(joblot_worker *w, const struct joblot_task *task, void *context, joblot_error *err)
{
    joblot_mapping *m;
    unsigned char out[8];
    (void)context;
    joblot_status status = joblot_worker_map(w, &task->parts[0], JOBLOT_MAP_PRIVATE, &m, err);
    if (status != JOBLOT_OK)
        return status;
    unsigned char *at = joblot_mapping_data(m);
    int64_t total = 0;
    for (uint64_t i = 0; i + 4 <= joblot_mapping_size(m); i += 4)
        total += (int32_t)((uint32_t)at[i] << 24 | (uint32_t)at[i + 1] << 16 | (uint32_t)at[i + 2] << 8 | at[i + 3]);
    at[0] ^= 0xff; /* stays here */
    joblot_mapping_release(m);
    for (int i = 0; i < 8; i++)
        out[i] = (unsigned char)((uint64_t)total >> (56 - 8 * i));
    return answer(w, out, sizeof out, err);
}

static joblot_status echo(joblot_worker *w, const struct joblot_task *task, void *context, joblot_error *err)
{
    (void)context;
    return answer(w, task->parts[0].data, (size_t)task->parts[0].size, err);
}

/* So many bytes (8, little-endian) in two parts. */
static joblot_status large(joblot_worker *w, const struct joblot_task *task, void *context, joblot_error *err)
{
    size_t size = (size_t)le64(task->parts[0].data);
    unsigned char *data = malloc(size);
    (void)context;
    if (data == NULL)
        return JOBLOT_NOMEM;
    for (size_t i = 0; i < size; i++)
        data[i] = (unsigned char)(i % 251);
    struct joblot_part parts[] = {{.data = data, .size = size / 3}, {.data = data + size / 3, .size = size - size / 3}};
    joblot_status status = joblot_worker_reply(w, parts, 2, err);
    free(data);
    return status;
}

/* Kills itself while the file has at most as many bytes as the first part says. */
static joblot_status kill_itself(joblot_worker *w, const struct joblot_task *task, void *context, joblot_error *err)
{
    (void)context;
    FILE *file = fopen(task->parts[1].data, "a");
    if (file == NULL || fputc('x', file) == EOF)
        return JOBLOT_OS;
    long size = ftell(file);
    (void)fclose(file);
    if ((uint64_t)size <= le64(task->parts[0].data))
        (void)raise(SIGKILL);
    return answer(w, "lived", 6, err);
}

/* The first byte of a native 1: 1 on a little-endian machine, 0 on a big-endian one. */
static joblot_status order(joblot_worker *w, const struct joblot_task *task, void *context, joblot_error *err)
{
    uint32_t one = 1;
    (void)task;
    (void)context;
    return answer(w, &one, 1, err);
}

int main(void)
{
    static const joblot_function functions[] = {
        [BE_SUM] = sum, [BE_ECHO] = echo, [BE_LARGE] = large, [BE_KILL] = kill_itself, [BE_ORDER] = order};
    struct joblot_worker_hooks worker = {.functions = functions, .n_functions = 5};
    struct joblot_server_hooks hooks = {.worker = &worker};
    joblot_error err = {.message = ""};
    int role;
    joblot_status status = joblot_server_run(JOBLOT_SERVER_SOCKET, JOBLOT_SERVER_PIDFD, &hooks, &role, &err);
    if (status != JOBLOT_OK)
        (void)fprintf(stderr, "be_worker: %s\n", err.message);
    return status != JOBLOT_OK;
}
