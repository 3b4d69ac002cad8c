/* fuzz_message.c - message bodies as a worker or a parent gets them from the other side: parsed, and what is accepted is
 * read in full and written again. */
#include "base/alloc.h"
#include "pool/message.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look_at(const uint8_t *data, size_t size, bool held)
{
    struct joblot__buffer parts = {0};
    size_t n = 0, again;
    volatile unsigned char touched = 0;
    if (joblot__body_parse(data, size, held, &parts, &n, NULL) == JOBLOT_OK && n <= JOBLOT_MAX_PARTS) {
        const struct joblot_arrived *in = (const struct joblot_arrived *)(const void *)parts.data;
        struct joblot_part *out = joblot__calloc(n + 1, sizeof *out);
        for (size_t i = 0; i < n && out != NULL; i++) {
            bool here = in[i].data != NULL;
            if (here == (held || in[i].segment != 0)) /* bytes exactly where they are in the message */
                abort();
            for (uint64_t k = 0; here && k < in[i].size; k++)
                touched ^= ((const unsigned char *)in[i].data)[k];
            out[i] = (struct joblot_part){.data = in[i].data, .size = here && in[i].size < 4096 ? in[i].size : 0};
        }
        if (out != NULL && joblot__body_size(out, n, &again, NULL) == JOBLOT_OK && again < (1u << 24)) {
            unsigned char *copy = joblot__malloc(again);
            if (copy != NULL)
                joblot__body_write(copy, out, n);
            joblot__free(copy);
        }
        joblot__free(out);
    }
    joblot__buffer_clear(&parts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    look_at(data, size, false);
    look_at(data, size, true);
    return 0;
}
