/* fuzz_codec_bz2.c - bz2 input: see codec_input.h. */
#include "codec_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_codec("bz2", data, size);
    return 0;
}
