/* codec.c - speed and size of the codecs beside their libraries: codec [-r ROUNDS] [-t THREADS] [-m MB] [-a] [FILE...]
 *
 * Without a FILE three kinds of data are made: a random walk of int64, normal float64, and text of small records.  -a
 * also runs every level of every codec once.  Rows alternate within a round; the median of the rounds is printed. */
#define _POSIX_C_SOURCE 200809L
#include <joblot/codec.h>

#include <lz4frame.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

static unsigned char *packed, *unpacked;
static size_t packed_room, packed_size;

struct row {
    const char *what;
    const char *codec; /* NULL: the library itself */
    int level;
    unsigned threads;
    double write[32], read[32];
    size_t size;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void die(const char *what)
{
    fprintf(stderr, "codec: %s\n", what);
    exit(1);
}

static joblot_status keep(void *user, const void *data, size_t size, joblot_error *err)
{
    (void)user;
    (void)err;
    if (packed_size + size > packed_room)
        die("what is compressed has no room");
    memcpy(packed + packed_size, data, size);
    packed_size += size;
    return JOBLOT_OK;
}

static void by_joblot(struct row *row, int round, const unsigned char *data, size_t size)
{
    joblot_error err;
    const joblot_codec *codec = joblot_codec_find(row->codec);
    struct joblot_codec_write_options options = {.level = row->level, .n_threads = row->threads};
    struct joblot_codec_sink sink = {.write = keep};
    joblot_codec_writer *w = NULL;
    joblot_codec_reader *r = NULL;
    packed_size = 0;
    double begin = now();
    if (joblot_codec_writer_open(codec, &options, &sink, &w, &err) != JOBLOT_OK ||
        joblot_codec_writer_write(w, data, size, &err) != JOBLOT_OK || joblot_codec_writer_finish(w, &err) != JOBLOT_OK)
        die(err.message);
    joblot_codec_writer_close(w);
    row->write[round] = now() - begin;
    row->size = packed_size;
    struct joblot_codec_source source = {.data = packed, .size = packed_size};
    size_t got = 0;
    begin = now();
    if (joblot_codec_reader_open(codec, &source, NULL, &r, &err) != JOBLOT_OK ||
        joblot_codec_reader_read(r, unpacked, size + 1, &got, &err) != JOBLOT_OK)
        die(err.message);
    joblot_codec_reader_close(r);
    row->read[round] = now() - begin;
    if (got != size || memcmp(unpacked, data, size) != 0)
        die("what came back is not what was written");
}

static void zstd_parts(struct row *row, int round, const unsigned char *data, size_t size)
{
    joblot_error err;
    joblot_codec_seekable *s = NULL;
    by_joblot(row, round, data, size);
    struct joblot_codec_random source = {.data = packed, .size = packed_size};
    double begin = now();
    if (joblot_codec_seekable_open(&source, 0, &s, &err) != JOBLOT_OK ||
        joblot_codec_seekable_read(s, 0, unpacked, size, row->threads, &err) != JOBLOT_OK)
        die(err.message);
    joblot_codec_seekable_close(s);
    row->read[round] = now() - begin;
    if (memcmp(unpacked, data, size) != 0)
        die("what came back is not what was written");
}

static void by_library(struct row *row, int round, const unsigned char *data, size_t size)
{
    double begin = now();
    if (row->what[0] == 'z' && row->what[1] == 'l') {
        uLongf n = packed_room, back = size;
        if (compress2(packed, &n, data, size, row->level) != Z_OK)
            die("zlib");
        row->write[round] = now() - begin;
        row->size = n;
        begin = now();
        if (uncompress(unpacked, &back, packed, n) != Z_OK)
            die("zlib");
    } else if (row->what[0] == 'l') {
        LZ4F_preferences_t how = {.frameInfo.blockSizeID = LZ4F_max4MB, .compressionLevel = row->level};
        size_t n = LZ4F_compressFrame(packed, packed_room, data, size, &how), back = size;
        if (LZ4F_isError(n))
            die("lz4");
        row->write[round] = now() - begin;
        row->size = n;
        LZ4F_dctx *context;
        LZ4F_createDecompressionContext(&context, LZ4F_VERSION);
        begin = now();
        if (LZ4F_isError(LZ4F_decompress(context, unpacked, &back, packed, &n, NULL)))
            die("lz4");
        LZ4F_freeDecompressionContext(context);
    } else {
        size_t n = ZSTD_compress(packed, packed_room, data, size, row->level);
        if (ZSTD_isError(n))
            die("zstd");
        row->write[round] = now() - begin;
        row->size = n;
        begin = now();
        if (ZSTD_isError(ZSTD_decompress(unpacked, size, packed, n)))
            die("zstd");
    }
    row->read[round] = now() - begin;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_rows(struct row *rows, size_t n, int rounds, size_t size, size_t base)
{
    for (size_t i = 0; i < n; i++) {
        qsort(rows[i].write, (size_t)rounds, sizeof(double), compare);
        qsort(rows[i].read, (size_t)rounds, sizeof(double), compare);
        printf("  %-22s write %8.1f MB/s   read %8.1f MB/s   size %.4f, %.3f of zlib 3\n", rows[i].what,
               (double)size / 1e6 / rows[i].write[rounds / 2], (double)size / 1e6 / rows[i].read[rounds / 2],
               (double)rows[i].size / (double)size, (double)rows[i].size / (double)(base > 0 ? base : rows[0].size));
    }
}

static size_t run_rows(const char *name, const unsigned char *data, size_t size, int rounds, unsigned threads)
{
    struct row rows[] = {
        {.what = "zlib 3 itself", .level = 3},
        {.what = "zlib 3, 1 thread", .codec = "zlib", .level = 3, .threads = 1},
        {.what = "zlib 3, threads", .codec = "zlib", .level = 3, .threads = threads},
        {.what = "gzip 6, threads", .codec = "gzip", .level = 6, .threads = threads},
        {.what = "lz4 itself", .level = 0},
        {.what = "lz4, threads", .codec = "lz4", .threads = threads},
        {.what = "zstd 3 itself", .level = 3},
        {.what = "zstd 3, 1 thread", .codec = "zstd", .level = 3, .threads = 1},
        {.what = "zstd 3, threads", .codec = "zstd", .level = 3, .threads = threads},
        {.what = "zstd 3, read by parts", .codec = "zstd", .level = 3, .threads = threads},
    };
    size_t n = sizeof rows / sizeof rows[0];
    for (int round = 0; round < rounds; round++)
        for (size_t i = 0; i < n; i++)
            (rows[i].codec == NULL ? by_library : (i == n - 1 ? zstd_parts : by_joblot))(&rows[i], round, data, size);
    printf("%s, %.1f MB, %u threads, median of %d\n", name, (double)size / 1e6, threads, rounds);
    print_rows(rows, n, rounds, size, 0);
    return rows[0].size;
}

static void run_all_levels(const unsigned char *data, size_t size, unsigned threads, size_t base)
{
    const joblot_codec *codec;
    for (size_t i = 0; (codec = joblot_codec_at(i)) != NULL; i++) {
        int low, high;
        joblot_codec_levels(codec, &low, &high, NULL);
        for (int level = low; level <= high; level++) {
            char what[32];
            snprintf(what, sizeof what, "%s %d", joblot_codec_name(codec), level);
            if (level == 0)
                continue;
            struct row row = {.what = what, .codec = joblot_codec_name(codec), .level = level, .threads = threads};
            by_joblot(&row, 0, data, size);
            print_rows(&row, 1, 1, size, base);
            fflush(stdout);
        }
    }
}

static void make_data(int kind, unsigned char *data, size_t size)
{
    static const char *const names[] = {"alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"};
    uint64_t state = 88172645463325252u;
    int64_t place = 0;
    size_t at = 0;
    while (at + 128 < size) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        double u = (double)(state >> 11) / 9007199254740992.0;
        if (kind == 0) {
            place += (int64_t)(state % 201) - 100;
            memcpy(data + at, &place, 8);
            at += 8;
        } else if (kind == 1) {
            double v = sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * (double)(state & 0xffff) / 65536);
            memcpy(data + at, &v, 8);
            at += 8;
        } else {
            at += (size_t)snprintf((char *)data + at, 128, "{\"name\": \"%s\", \"id\": %u, \"score\": %.4f}, ",
                                   names[state & 7], (unsigned)(state >> 40), u);
        }
    }
    memset(data + at, 0, size - at);
}

static void run_data(const char *name, const unsigned char *data, size_t size, int rounds, unsigned threads, int all)
{
    packed_room = size + size / 8 + (1 << 20);
    packed = malloc(packed_room);
    unpacked = malloc(size + 1);
    if (packed == NULL || unpacked == NULL)
        die("out of memory");
    memset(packed, 1, packed_room);
    memset(unpacked, 1, size);
    size_t base = run_rows(name, data, size, rounds, threads);
    if (all)
        run_all_levels(data, size, threads, base);
    free(packed);
    free(unpacked);
}

int main(int argc, char **argv)
{
    static const char *const kinds[] = {"random walk, int64", "normal, float64", "small records, text"};
    int rounds = 5, all = 0, c;
    unsigned threads = 2;
    size_t size = 64;
    while ((c = getopt(argc, argv, "r:t:m:a")) != -1) {
        if (c == '?')
            return 2;
        rounds = c == 'r' ? atoi(optarg) : rounds;
        threads = c == 't' ? (unsigned)atoi(optarg) : threads;
        size = c == 'm' ? (size_t)atoi(optarg) : size;
        all |= c == 'a';
    }
    if (rounds < 1 || rounds > 32 || size < 1)
        die("1 to 32 rounds, 1 MB or more");
    size *= 1000000;
    unsigned char *data = malloc(size);
    if (data == NULL)
        die("out of memory");
    for (int kind = 0; kind < 3 && optind == argc; kind++) {
        make_data(kind, data, size);
        run_data(kinds[kind], data, size, rounds, threads, all);
    }
    for (; optind < argc; optind++) {
        FILE *f = fopen(argv[optind], "rb");
        size_t n = f != NULL ? fread(data, 1, size, f) : 0;
        if (n == 0)
            die("a file that cannot be read, or is empty");
        fclose(f);
        run_data(argv[optind], data, n, rounds, threads, all);
    }
    free(data);
    return 0;
}
