/* fuzz_codec_lz4.c - lz4 input: see codec_input.h. */
#include "codec_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_codec("lz4", data, size);
    return 0;
}
