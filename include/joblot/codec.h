/* joblot/codec.h - compressed streams, both ways: zlib, gzip, bz2, lzma, xz, lz4 (frame) and zstd.
 *
 * WRITING takes bytes as they come, cuts them into blocks, compresses the blocks on several threads and hands the
 * result to a sink, in order.  What comes out is read by every reader of the format, joblib's included:
 *
 *   zlib, gzip   one stream, one member: blocks that end on a byte (a sync flush), one checksum over all
 *   bz2, xz, lzma, lz4   one stream (frame) a block, one behind the other
 *   zstd         one frame a block, and at the end a seek table in a frame that readers skip (joblot_codec_seekable_*)
 *
 * The same bytes give the same output, however they are cut into writes and whatever the number of threads; other
 * versions of the libraries may give another output.
 *
 * READING takes any file of the format, from memory or from a callback, and gives the decoded bytes.  Input may be
 * hostile: nothing is allocated by what it claims beyond max_memory, and max_output ends a bomb at once.  An error is
 * kept: every later read gives it again.  Its message names the offset in the compressed input.
 *
 * A codec whose library was not there when joblot was built is known by name and recognised, and UNSUPPORTED when
 * it is to be used; the message says how to get it.
 *
 * Threads: readers, writers and seekables belong to one thread at a time; different ones are independent.  Callbacks
 * run on the calling thread, those of joblot_codec_random on others as well.
 * Fork: none of these objects can be used in a forked child.
 */
#ifndef JOBLOT_CODEC_H
#define JOBLOT_CODEC_H

#include <joblot/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct joblot_codec joblot_codec; /* static; never freed */

/* Bytes of a file's beginning that are enough for joblot_codec_detect. */
#define JOBLOT_CODEC_MAGIC_SIZE 5

/* ---- which codec ---- */

/* joblot_codec_find - the codec of a name: "zlib", "gzip", "bz2", "lzma", "xz", "lz4", "zstd"; NULL: no such codec. */
JOBLOT_API const joblot_codec *joblot_codec_find(const char *name);

/* joblot_codec_find_extension - the codec by the end of a file's name (".z", ".gz", ".bz2", ".lzma", ".xz", ".lz4",
 * ".zst"), letter for letter; NULL: none. */
JOBLOT_API const joblot_codec *joblot_codec_find_extension(const char *path);

/* joblot_codec_detect - the codec by the first bytes of a file, as joblib tells them (a leading 'x' is zlib); NULL: not
 * compressed, or not known. */
JOBLOT_API const joblot_codec *joblot_codec_detect(const void *data, size_t size);

/* joblot_codec_at - the codecs, counted from 0; NULL behind the last. */
JOBLOT_API const joblot_codec *joblot_codec_at(size_t index);

JOBLOT_API const char *joblot_codec_name(const joblot_codec *codec);
JOBLOT_API const char *joblot_codec_extension(const joblot_codec *codec); /* with its dot */

/* joblot_codec_levels - the levels that the codec has, and what level 0 stands for.  Each pointer may be NULL. */
JOBLOT_API void joblot_codec_levels(const joblot_codec *codec, int *lowest, int *highest, int *standard);

/* joblot_codec_check - can it be used here?  Returns JOBLOT_OK, or UNSUPPORTED with a message that says how to get it. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_codec_check(const joblot_codec *codec, joblot_error *err);

/* ---- reading ---- */

/* Where compressed bytes come from: memory (borrowed until close), or a callback. */
struct joblot_codec_source {
    const void *data; /* with size: all of the input; NULL: read() is asked */
    size_t size;
    /* At most `capacity` (> 0) bytes into out; *got is how many, 0 only at the end. */
    joblot_status (*read)(void *user, void *out, size_t capacity, size_t *got, joblot_error *err);
    void *user;
};

/* Zero-initialise it for the defaults. */
struct joblot_codec_read_options {
    uint64_t max_output; /* more decoded bytes than this are LIMIT; 0: no limit */
    uint64_t max_memory; /* what the input may ask for as its window or dictionary; 0: 256 MiB */
    int strict_end;      /* 1: bytes behind the last stream are FORMAT where the default is to ignore them */
};

typedef struct joblot_codec_reader joblot_codec_reader;

/* joblot_codec_reader_open - a reader at the beginning of a compressed input.
 *
 *   codec    see joblot_codec_detect
 *   options  may be NULL
 *   out      set on JOBLOT_OK; joblot_codec_reader_close() it
 * Nothing is read yet.  Returns JOBLOT_OK, or INVALID | UNSUPPORTED | NOMEM.
 *
 * STREAMS ONE BEHIND THE OTHER are read as one, for all but zlib.  What else may follow: gzip: zeros; xz: zeros, four at
 * a time; bz2, lzma, xz, zlib: anything that does not look like another stream is ignored, as Python's modules do,
 * unless strict_end.  gzip, lz4, zstd: anything else is FORMAT. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_codec_reader_open(const joblot_codec *codec,
                                                                  const struct joblot_codec_source *source,
                                                                  const struct joblot_codec_read_options *options,
                                                                  joblot_codec_reader **out, joblot_error *err);

/* joblot_codec_reader_read - the next decoded bytes.
 *
 *   out, size   caller's storage; it is filled, unless the end of the data comes first
 *   got         always set: how many bytes are there, also when the call fails: what was decoded before the error
 * *got < size with JOBLOT_OK is the end, and only then the last checksum is known to be right: who knows the size
 * beforehand reads one byte more.  Reads below 64 KiB are served from what is decoded ahead; larger ones are decoded in
 * place.
 * Returns JOBLOT_OK, or FORMAT | TRUNCATED | LIMIT | UNSUPPORTED | NOMEM, or what the source returned.
 * Trust: input may be hostile. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_codec_reader_read(joblot_codec_reader *r, void *out, size_t size,
                                                                  size_t *got, joblot_error *err);

/* Where a reader is. */
struct joblot_codec_position {
    uint64_t in;       /* compressed bytes decoded, also ahead; after an error about where it is */
    uint64_t out;      /* decoded bytes given */
    uint64_t streams;  /* streams, members or frames begun */
    int ignored_bytes; /* 1 when, at the end, bytes that are no stream were left */
};
JOBLOT_API void joblot_codec_reader_position(const joblot_codec_reader *r, struct joblot_codec_position *out);

/* joblot_codec_reader_close - free it.  NULL is fine. */
JOBLOT_API void joblot_codec_reader_close(joblot_codec_reader *r);

/* ---- writing ---- */

/* Where compressed bytes go.  Called in order, with everything that it is given to be taken. */
struct joblot_codec_sink {
    joblot_status (*write)(void *user, const void *data, size_t size, joblot_error *err);
    void *user;
};

/* Zero-initialise it for the defaults. */
struct joblot_codec_write_options {
    int level;           /* 0: the codec's own (joblot_codec_levels) */
    unsigned n_threads;  /* threads that compress, the calling one among them; 0: as many as there are cores */
    uint32_t block_size; /* bytes; 0: what suits codec and level (about 1 MiB; xz and lzma 4 MiB).  At most 1 GiB */
};

typedef struct joblot_codec_writer joblot_codec_writer;

/* joblot_codec_writer_open - a writer with nothing written.
 *
 *   options  may be NULL
 *   sink     copied
 *   out      set on JOBLOT_OK; joblot_codec_writer_close() it
 * Memory: at most n_threads + 2 blocks at a time, each with its compressed form, and what the library needs per thread.
 * Threads are started when there is a second block; where one cannot be, the others do its work.
 * Returns JOBLOT_OK, or INVALID (no such level) | UNSUPPORTED | NOMEM. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_codec_writer_open(const joblot_codec *codec,
                                                                  const struct joblot_codec_write_options *options,
                                                                  const struct joblot_codec_sink *sink,
                                                                  joblot_codec_writer **out, joblot_error *err);

/* joblot_codec_writer_write - more bytes.  They are copied; some are compressed and handed on before it returns.
 * Returns JOBLOT_OK, or NOMEM | UNSUPPORTED, or what the sink returned; an error is kept. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_codec_writer_write(joblot_codec_writer *w, const void *data, size_t size,
                                                                   joblot_error *err);

/* joblot_codec_writer_finish - compresses what is left and ends the stream.  Without it the output is not complete.
 * Nothing can be written afterwards.  Returns as _write. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_codec_writer_finish(joblot_codec_writer *w, joblot_error *err);

/* joblot_codec_writer_close - end its threads and free it, finished or not.  NULL is fine. */
JOBLOT_API void joblot_codec_writer_close(joblot_codec_writer *w);

/* ---- zstd: any part, without what stands before it ---- */

/* An input of known size that can be read anywhere: memory (borrowed until close), or a callback. */
struct joblot_codec_random {
    const void *data; /* NULL: read_at() is asked */
    uint64_t size;
    /* All of `size` bytes.  May be called by several threads at once. */
    joblot_status (*read_at)(void *user, uint64_t offset, void *out, size_t size, joblot_error *err);
    void *user;
};

typedef struct joblot_codec_seekable joblot_codec_seekable;

/* joblot_codec_seekable_open - read the seek table of a zstd file (format: docs/formats/codecs.md).
 *
 *   max_memory  as in joblot_codec_read_options
 *   out         set on JOBLOT_OK; joblot_codec_seekable_close() it
 * The table must describe the input from its first byte to its last: of files that were put one behind the other, or
 * that another program wrote, it is not there or does not fit, and they are read by joblot_codec_reader.
 * Returns JOBLOT_OK, or INVALID | UNSUPPORTED (no seek table, or no libzstd) | FORMAT (a table that does not fit) |
 * NOMEM, or what the callback returned.  Trust: input may be hostile. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_codec_seekable_open(const struct joblot_codec_random *source,
                                                                    uint64_t max_memory, joblot_codec_seekable **out,
                                                                    joblot_error *err);

/* joblot_codec_seekable_size - decoded bytes in all; _frames - how many frames hold them. */
JOBLOT_API uint64_t joblot_codec_seekable_size(const joblot_codec_seekable *s);
JOBLOT_API size_t joblot_codec_seekable_frames(const joblot_codec_seekable *s);

/* joblot_codec_seekable_read - `size` decoded bytes from `offset` on, decoding only the frames that hold them.
 *
 *   n_threads  frames are decoded side by side, each straight into its place; 0: as many as there are cores
 * The checksum of a frame is looked at when the frame is read to its end.
 * Returns JOBLOT_OK, or INVALID (beyond the end) | FORMAT | TRUNCATED | LIMIT | NOMEM, or what the callback returned.
 * An error is not kept: other parts can be read. */
JOBLOT_API JOBLOT_MUST_USE joblot_status joblot_codec_seekable_read(joblot_codec_seekable *s, uint64_t offset, void *out,
                                                                    size_t size, unsigned n_threads, joblot_error *err);

/* joblot_codec_seekable_close - free it.  NULL is fine. */
JOBLOT_API void joblot_codec_seekable_close(joblot_codec_seekable *s);

#ifdef __cplusplus
}
#endif
#endif
