/* support/codecs.h - data for the codecs, joblot's way there and back, and the libraries' own. */
#ifndef JOBLOT_TESTS_SUPPORT_CODECS_H
#define JOBLOT_TESTS_SUPPORT_CODECS_H

#include "cases.h"

#include <joblot/codec.h>

#include <string.h>

struct bytes {
    unsigned char *data; /* free() it */
    size_t size;
};

enum kind { ZEROS, TEXT, RANDOM, N_KINDS };
struct bytes make_bytes(enum kind kind, size_t size);
struct bytes join_bytes(struct bytes a, struct bytes b); /* a new one; the others stay */
struct bytes copy_bytes(const void *data, size_t size);
#define FREE(...) free_bytes((struct bytes[]){__VA_ARGS__}, sizeof((struct bytes[]){__VA_ARGS__}) / sizeof(struct bytes))
void free_bytes(struct bytes *list, size_t n);
void check_bytes(const char *file, int line, struct bytes seen, struct bytes wanted);
#define CHECK_BYTES(seen, wanted) check_bytes(__FILE__, __LINE__, (seen), (wanted))

uint32_t plain_crc32(const void *data, size_t size); /* the one of gzip and xz */

/* The codecs that this build has; the others are checked to say that they are not there, and left out. */
size_t usable_codecs(const joblot_codec **out); /* room for 16 */
void use_codecs(const char *first, const char *second); /* from now on: these two alone */
bool is_greedy(const joblot_codec *codec); /* bz2, lzma, xz: megabytes for each stream, so fewer of them */
const joblot_codec *need_codec(const char *name); /* skips the case where it is not there */

/* Writes in parts of `part` bytes (0: at once). */
struct bytes pack(const joblot_codec *codec, const struct joblot_codec_write_options *options, struct bytes data,
                  size_t part);
/* Reads all, from memory; what was read before an error is in *out as well. */
joblot_status unpack(const joblot_codec *codec, struct bytes packed, const struct joblot_codec_read_options *options,
                     struct bytes *out, struct joblot_codec_position *position, joblot_error *err);
/* The same from a callback that gives at most `part` bytes at a time, read in parts of `room` bytes. */
joblot_status unpack_in_parts(const joblot_codec *codec, struct bytes packed, size_t part, size_t room, struct bytes *out,
                              joblot_error *err);

/* By the library alone: one call of it.  What it reads must be all of the input. */
struct bytes library_pack(const joblot_codec *codec, int level, struct bytes data);
struct bytes library_unpack(const joblot_codec *codec, struct bytes packed, size_t size);

/* Where the sink was called: what one stream of the output, or its head or tail, is. */
struct marks {
    size_t n, at[64];
};
struct bytes pack_with_marks(const joblot_codec *codec, const struct joblot_codec_write_options *options,
                             struct bytes data, struct marks *marks);

#endif
