/* fuzz_codec_lzma.c - lzma input: see codec_input.h. */
#include "codec_input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_codec("lzma", data, size);
    return 0;
}
