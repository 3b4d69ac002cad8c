/* codec/deflate.h - what reading and writing of zlib and gzip share.
 *
 * zlib itself is always there when the formats are.  ISA-L decodes twice as fast, libdeflate compresses several times
 * faster; each is used where it was there at build time, and both can be switched off. */
#ifndef JOBLOT_CODEC_DEFLATE_H
#define JOBLOT_CODEC_DEFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* For tests: readers and writers that are opened from now on use zlib alone. */
void joblot__deflate_plain(bool plain);
bool joblot__deflate_is_plain(void);

/* Checksums by the fastest library that is there; they begin with 1 and 0. */
uint32_t joblot__adler32(uint32_t check, const void *data, size_t size);
uint32_t joblot__crc32(uint32_t check, const void *data, size_t size);

/* Makes a whole deflate stream into one that goes on: clears the mark of its last block, which is found by reading
 * through all of them.  *end: bits that the blocks take; what is behind them in the last byte is 0.  False, and nothing
 * changed, where that is not a deflate stream of `size` bytes. */
bool joblot__deflate_reopen(unsigned char *data, size_t size, size_t *end);

#endif
