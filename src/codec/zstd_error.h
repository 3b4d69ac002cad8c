/* codec/zstd_error.h - what the stream decoder and the reader of parts share. */
#ifndef JOBLOT_CODEC_ZSTD_ERROR_H
#define JOBLOT_CODEC_ZSTD_ERROR_H

#include <joblot/base.h>

#include <zstd.h>

joblot_status joblot__zstd_explain(size_t rc, char why[200]);
void joblot__zstd_limit(ZSTD_DCtx *context, uint64_t max_memory);

#endif
