/* fuzz_codec_gzip.c - gzip input, by ISA-L and by zlib: see codec_input.h. */
#include "codec_input.h"

#include "codec/deflate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    joblot__deflate_plain(false);
    fuzz_codec("gzip", data, size);
    joblot__deflate_plain(true);
    fuzz_codec("gzip", data, size);
    return 0;
}
