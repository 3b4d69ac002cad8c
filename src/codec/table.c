/* codec/table.c - the codecs: names, extensions, first bytes, levels, and the libraries behind them. */
#include "codec.h"

#include "../base/error.h"
#include "../os/os.h"

#include <string.h>

/* The order is joblib's: it takes the first whose magic fits. */
static const struct joblot_codec codecs[] = {
    {"zlib", ".z", "\x78", 1, 1, 9, 3, "zlib", "zlib1g-dev", "zlib", &joblot__zlib_decoder, &joblot__zlib_encoder},
    {"gzip", ".gz", "\x1f\x8b", 2, 1, 9, 3, "zlib", "zlib1g-dev", "zlib", &joblot__gzip_decoder, &joblot__gzip_encoder},
    {"bz2", ".bz2", "BZ", 2, 1, 9, 9, "libbz2", "libbz2-dev", "bzip2", &joblot__bz2_decoder, &joblot__bz2_encoder},
    {"lzma", ".lzma", "\x5d\x00", 2, 1, 9, 6, "liblzma", "liblzma-dev", "lzma", &joblot__lzma_decoder,
     &joblot__lzma_encoder},
    {"xz", ".xz", "\xfd\x37\x7a\x58\x5a", 5, 1, 9, 6, "liblzma", "liblzma-dev", "lzma", &joblot__lzma_decoder,
     &joblot__xz_encoder},
    {"lz4", ".lz4", "\x04\x22\x4d\x18", 4, 1, 12, 1, "liblz4", "liblz4-dev", "lz4", &joblot__lz4_decoder,
     &joblot__lz4_encoder},
    {"zstd", ".zst", "\x28\xb5\x2f\xfd", 4, -7, 22, 3, "libzstd", "libzstd-dev", "zstd", &joblot__zstd_decoder,
     &joblot__zstd_encoder},
};

enum { N_CODECS = sizeof codecs / sizeof codecs[0] };

const joblot_codec *joblot_codec_at(size_t index)
{
    return index < N_CODECS ? &codecs[index] : NULL;
}

const joblot_codec *joblot_codec_find(const char *name)
{
    for (size_t i = 0; i < N_CODECS; i++)
        if (strcmp(codecs[i].name, name) == 0)
            return &codecs[i];
    return NULL;
}

const joblot_codec *joblot_codec_find_extension(const char *path)
{
    size_t length = strlen(path);
    for (size_t i = 0; i < N_CODECS; i++) {
        size_t part = strlen(codecs[i].extension);
        if (length >= part && strcmp(path + length - part, codecs[i].extension) == 0)
            return &codecs[i];
    }
    return NULL;
}

const joblot_codec *joblot_codec_detect(const void *data, size_t size)
{
    for (size_t i = 0; i < N_CODECS; i++)
        if (size >= codecs[i].magic_size && memcmp(data, codecs[i].magic, codecs[i].magic_size) == 0)
            return &codecs[i];
    return NULL;
}

const char *joblot_codec_name(const joblot_codec *codec)
{
    return codec->name;
}

const char *joblot_codec_extension(const joblot_codec *codec)
{
    return codec->extension;
}

void joblot_codec_levels(const joblot_codec *codec, int *lowest, int *highest, int *standard)
{
    if (lowest != NULL)
        *lowest = codec->lowest;
    if (highest != NULL)
        *highest = codec->highest;
    if (standard != NULL)
        *standard = codec->standard;
}

joblot_status joblot_codec_check(const joblot_codec *codec, joblot_error *err)
{
    if (*codec->decoder != NULL && *codec->encoder != NULL)
        return JOBLOT_OK;
    return joblot__fail(err, JOBLOT_UNSUPPORTED, 0,
                        "%s: this joblot was built without %s; install it with its headers (package %s on Debian) and "
                        "build joblot again, with -D%s=enabled to be told when it is not found",
                        codec->name, codec->library, codec->package, codec->option);
}

uint64_t joblot__codec_max_memory(uint64_t wanted)
{
    return wanted != 0 ? wanted : (uint64_t)256 << 20;
}

unsigned joblot__codec_threads(unsigned wanted)
{
    if (wanted == 0) {
        int cores = joblot__os_cpu_count("");
        wanted = cores > 0 ? (unsigned)cores : 1;
    }
    return wanted < 64 ? wanted : 64;
}
