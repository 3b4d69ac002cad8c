/* fuzz_codec_zstd.c - zstd input: see codec_input.h. */
#include "codec_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_codec("zstd", data, size);
    return 0;
}
