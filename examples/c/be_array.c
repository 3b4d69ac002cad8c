/* be_array.c - a big-endian table of 200,000 rows, summed by worker processes of which one is killed on the way.
 *
 * The table lies in a segment, as a file of another machine would hold it.  A task is one column of a slice of rows: its
 * description (joblot_array_encode) and its place in the segment.  Nothing is copied; a worker maps the bytes privately,
 * turns them round into the byte order of this machine where it must, and answers with the sum.  One task kills its
 * worker with SIGKILL, once.  At the end the sums stand beside those of a plain loop. */
#define _POSIX_C_SOURCE 200809L
#include <joblot/joblot.h>

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { ROWS = 200000, ROW_SIZE = 16, COLUMNS = 3, SLICES = 8, TASKS = COLUMNS * SLICES, DEADLY = 10, FORM_MAX = 512 };

/* What a column is: a big-endian int32, float64 or int32, 16 bytes from one row to the next. */
static const char *const names[COLUMNS] = {"x", "y", "z"}, *const dtypes[COLUMNS] = {">i4", ">f8", ">i4"};
static const uint64_t offsets[COLUMNS] = {0, 4, 12};

static int is_little_endian(void)
{
    const uint16_t one = 1;
    return *(const unsigned char *)&one == 1;
}

/* ---- in the workers ---- */

static double sum_of(const struct joblot_array *a)
{
    double sum = 0;
    for (int64_t i = 0; i < a->shape[0]; i++) {
        const unsigned char *at = a->data + i * a->strides[0];
        int32_t whole = 0;
        double real = 0;
        memcpy(a->itemsize == sizeof whole ? (void *)&whole : (void *)&real, at, (size_t)a->itemsize);
        sum += whole + real;
    }
    return sum;
}

/* Parts of a task: description of the column; bytes of it; a word of shared memory, where the first one that is to die
 * leaves its pid. */
static joblot_status sum_column(joblot_worker *worker, const struct joblot_task *task, void *context, joblot_error *err)
{
    joblot_mapping *bytes = NULL, *word = NULL;
    joblot_dtype *dtype = NULL;
    struct joblot_array column;
    (void)context; /* of the hooks: not used here */
    joblot_status status = joblot_worker_map(worker, &task->parts[1], JOBLOT_MAP_PRIVATE, &bytes, err);
    if (status == JOBLOT_OK)
        status = joblot_array_decode(task->parts[0].data, task->parts[0].size, joblot_mapping_data(bytes),
                                     joblot_mapping_size(bytes), &column, &dtype, NULL, err);
    if (status == JOBLOT_OK) /* the parts whose byte order is not this machine's */
        status = joblot_array_swap(&column, is_little_endian() ? '>' : '<', err);
    if (status == JOBLOT_OK && task->n_parts == 3) {
        status = joblot_worker_map(worker, &task->parts[2], JOBLOT_MAP_SHARED, &word, err);
        int32_t *victim = status == JOBLOT_OK ? joblot_mapping_data(word) : NULL;
        if (victim != NULL && *victim == 0) {
            *victim = (int32_t)getpid();
            (void)kill(getpid(), SIGKILL); /* in the middle of a task */
        }
    }
    if (status == JOBLOT_OK) {
        double sum = sum_of(&column);
        status = joblot_worker_reply(worker, &(struct joblot_part){.data = &sum, .size = sizeof sum}, 1, err);
    }
    joblot_mapping_release(word);
    joblot_mapping_release(bytes);
    joblot_dtype_free(dtype);
    return status;
}

/* ---- in the parent ---- */

static void put_be(unsigned char *at, uint64_t bits, int bytes)
{
    for (int i = 0; i < bytes; i++)
        at[i] = (unsigned char)(bits >> (8 * (bytes - 1 - i)));
}

/* Writes the table big-endian, byte by byte, and adds up what it writes: the plain loop. */
static void fill_table(unsigned char *table, double sums[COLUMNS])
{
    for (int32_t i = 0; i < ROWS; i++, table += ROW_SIZE) {
        int32_t x = i * 7 - 300000, z = 1000000 - i;
        double y = i * 0.25 - 1000; /* quarters: sums are exact in every order */
        uint64_t bits;
        memcpy(&bits, &y, sizeof bits);
        put_be(table, (uint32_t)x, 4);
        put_be(table + 4, bits, 8);
        put_be(table + 12, (uint32_t)z, 4);
        sums[0] += x;
        sums[1] += y;
        sums[2] += z;
    }
}

static joblot_status submit_slice(joblot_call *call, joblot_segment *table, joblot_segment *word, int number,
                                  joblot_error *err)
{
    unsigned char form[FORM_MAX];
    size_t form_size = 0;
    const int c = number % COLUMNS, slice = number / COLUMNS;
    const uint64_t slice_size = (uint64_t)ROW_SIZE * ROWS / SLICES;
    joblot_dtype *dtype = NULL;
    joblot_status status = joblot_dtype_parse(dtypes[c], strlen(dtypes[c]), &dtype, err);
    if (status != JOBLOT_OK)
        return status;
    struct joblot_array column = {.dtype = dtype, .itemsize = joblot_dtype_itemsize(dtype), .ndim = 1,
                                  .shape = {ROWS / SLICES}, .strides = {ROW_SIZE}};
    status = joblot_array_encode(&column, offsets[c], form, sizeof form, &form_size, err);
    struct joblot_part parts[3] = {{.data = form, .size = form_size},
                                   {.segment = table, .size = slice_size, .offset = (uint64_t)slice * slice_size},
                                   {.segment = word, .size = sizeof(int32_t)}};
    if (status == JOBLOT_OK)
        status = joblot_call_submit(call, 0, parts, number == DEADLY ? 3 : 2, err);
    joblot_dtype_free(dtype);
    return status;
}

static joblot_status collect(joblot_call *call, double sums[COLUMNS], joblot_error *err)
{
    for (int done = 0; done < TASKS; done++) {
        struct joblot_event event;
        double sum = 0;
        do { /* a signal ends the wait early */
            joblot_status status = joblot_call_next(call, -1, &event, err);
            if (status != JOBLOT_OK)
                return status;
        } while (event.kind == JOBLOT_EVENT_NONE);
        if (event.kind != JOBLOT_EVENT_RESULT || event.status != JOBLOT_OK) {
            (void)snprintf(err->message, sizeof err->message, "task %" PRIu64 ": %s", event.number,
                           event.message ? event.message : joblot_status_text(event.status));
            joblot_event_done(call, &event);
            return event.status;
        }
        joblot_status status = joblot_event_read(call, &event, 0, &sum, err);
        joblot_event_done(call, &event);
        if (status != JOBLOT_OK)
            return status;
        sums[event.number % COLUMNS] += sum;
    }
    return JOBLOT_OK;
}

static int report(const double plain[COLUMNS], const double parallel[COLUMNS], int victim)
{
    int same = victim != 0;
    printf("column  dtype  sum by workers   sum by a plain loop\n");
    for (int c = 0; c < COLUMNS; c++) {
        int equal = plain[c] == parallel[c];
        printf("%-6s  %-5s  %15.2f  %15.2f  %s\n", names[c], dtypes[c], parallel[c], plain[c], equal ? "equal" : "DIFFERENT");
        same = same && equal;
    }
    printf("worker %d was killed with SIGKILL while it ran task %d; the task was run again by another worker\n", victim,
           DEADLY);
    return same;
}

int main(void)
{
    static const joblot_function functions[] = {sum_column};
    static const struct joblot_worker_hooks hooks = {.functions = functions, .n_functions = 1};
    const struct joblot_pool_options pool_options = {.hooks = &hooks};
    const struct joblot_call_options call_options = {.n_workers = 2, .retries = 1};
    joblot_segment *table = NULL, *word = NULL;
    joblot_pool *pool = NULL;
    joblot_call *call = NULL;
    void *bytes = NULL, *victim = NULL;
    double plain[COLUMNS] = {0}, parallel[COLUMNS] = {0};
    joblot_error err = {.message = ""};
    int good = 0;
    joblot_status status = joblot_pool_open(&pool_options, &pool, &err);
    if (status != JOBLOT_OK || (status = joblot_segment_new(ROWS * ROW_SIZE, NULL, &table, &err)) != JOBLOT_OK ||
        (status = joblot_segment_data(table, &bytes, &err)) != JOBLOT_OK ||
        (status = joblot_segment_new(sizeof(int32_t), NULL, &word, &err)) != JOBLOT_OK ||
        (status = joblot_segment_data(word, &victim, &err)) != JOBLOT_OK ||
        (status = joblot_call_open(pool, &call_options, &call, &err)) != JOBLOT_OK)
        goto end;
    fill_table(bytes, plain);
    for (int i = 0; i < TASKS && status == JOBLOT_OK; i++)
        status = submit_slice(call, table, word, i, &err);
    if (status == JOBLOT_OK)
        status = collect(call, parallel, &err);
    if (status == JOBLOT_OK)
        good = report(plain, parallel, *(int32_t *)victim);
end:
    if (status != JOBLOT_OK)
        (void)fprintf(stderr, "be_array: %s: %s\n", joblot_status_name(status), err.message);
    joblot_call_close(call);
    joblot_pool_close(pool, 1000000000);
    joblot_segment_release(word);
    joblot_segment_release(table);
    return good ? 0 : 1;
}
