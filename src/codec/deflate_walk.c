/* codec/deflate_walk.c - finding the last block of a deflate stream (RFC 1951), without decoding it.
 *
 * libdeflate ends every stream that it makes.  For a stream of many such pieces the mark of each piece's last block has
 * to go, and where a block begins is known only when all symbols before it have been read.  Only their lengths count
 * here, so a table entry stands for all literals that its index holds, and for the length symbol behind them. */
#include "deflate.h"

#include "../base/endian.h"

#include <string.h>

enum {
    SYMBOL_BITS = 11,
    DISTANCE_BITS = 9,
    LONGEST = 15, /* bits of a code */
    N_SYMBOLS = 288,
    N_DISTANCES = 32,
    END_OF_BLOCK = 256,
};

struct walk {
    const unsigned char *data;
    size_t size; /* bytes */
    size_t bit;  /* where we are */
};

/* A canonical code: how many of each length, and the symbols in the order of their codes. */
struct code {
    uint16_t count[LONGEST + 1];
    uint16_t sorted[N_SYMBOLS];
};

/* What to do with the bits that an index of the table shows: an entry is the bits of all its codes, with the extra bits of
 * a length, and a kind. */
enum { LITERALS = 0, LENGTH = 0x100, END = 0x200, LONG = 0x300, BITS = 0xff };

/* peek() shows so many bits; all that a symbol and a distance can take; what is left for literals before a symbol. */
enum { SHOWN = 57, MOST = 15 + 5 + 15 + 13, SLACK = SHOWN - MOST };

struct tables {
    struct code symbols, distances;
    uint16_t symbol[1 << SYMBOL_BITS];
    uint8_t distance[1 << DISTANCE_BITS]; /* bits with the extra ones; 0: look it up the long way */
};

/* At least SHOWN bits from here on; zeros behind the end. */
static uint64_t peek(const struct walk *w)
{
    size_t at = w->bit >> 3;
    uint64_t bits = 0;
    if (at + 8 <= w->size)
        bits = joblot__load_le64(w->data + at);
    else
        for (size_t i = 0; at + i < w->size; i++)
            bits |= (uint64_t)w->data[at + i] << (8 * i);
    return bits >> (w->bit & 7);
}

static unsigned take(struct walk *w, unsigned n)
{
    unsigned v = (unsigned)(peek(w) & ((1u << n) - 1));
    w->bit += n;
    return v;
}

static bool is_past(const struct walk *w)
{
    return w->bit > w->size * 8;
}

static void make_code(struct code *c, const uint8_t *lengths, size_t n)
{
    uint16_t next[LONGEST + 2] = {0};
    memset(c, 0, sizeof *c);
    for (size_t i = 0; i < n; i++)
        c->count[lengths[i]]++;
    c->count[0] = 0;
    for (unsigned length = 1; length <= LONGEST; length++)
        next[length + 1] = (uint16_t)(next[length] + c->count[length]);
    for (size_t i = 0; i < n; i++)
        if (lengths[i] != 0)
            c->sorted[next[lengths[i]]++] = (uint16_t)i;
}

/* The symbol whose code `bits` begin with, and its length; -1: there is none. */
static int symbol_at(const struct code *c, uint64_t bits, unsigned *length)
{
    unsigned value = 0, first = 0, before = 0;
    for (unsigned n = 1; n <= LONGEST; n++) {
        value = value << 1 | (unsigned)(bits & 1);
        bits >>= 1;
        if (value >= first && value - first < c->count[n]) {
            *length = n;
            return c->sorted[before + value - first];
        }
        before += c->count[n];
        first = (first + c->count[n]) << 1;
    }
    return -1;
}

static unsigned length_extra(unsigned symbol)
{
    return symbol < 265 || symbol > 284 ? 0 : (symbol - 261) / 4;
}

static unsigned distance_extra(unsigned symbol)
{
    return symbol < 4 ? 0 : symbol / 2 - 1;
}

static unsigned reversed(unsigned code, unsigned length)
{
    unsigned out = 0;
    for (; length > 0; length--, code >>= 1)
        out = out << 1 | (code & 1);
    return out;
}

/* out[index]: symbol << 4 | length of the code that the index begins with, where that fits into it; else 0.  Codes stand
 * in the stream with their first bit lowest. */
static void spread(const struct code *c, unsigned index_bits, uint16_t *out)
{
    unsigned code = 0, n = 0;
    memset(out, 0, sizeof *out << index_bits);
    for (unsigned length = 1; length <= index_bits; length++, code <<= 1)
        for (unsigned i = 0; i < c->count[length]; i++, code++, n++)
            for (unsigned at = reversed(code, length); at < 1u << index_bits; at += 1u << length)
                out[at] = (uint16_t)(c->sorted[n] << 4 | length);
}

/* All literals that an index shows, and the length symbol or the end that comes then. */
static uint16_t join_symbols(const uint16_t *single, unsigned index)
{
    unsigned used = 0;
    for (;;) {
        unsigned length = single[index >> used] & 15, symbol = single[index >> used] >> 4;
        if (length == 0 || used + length > SYMBOL_BITS)
            return (uint16_t)(used > 0 ? used | LITERALS : LONG);
        used += length;
        if (symbol == END_OF_BLOCK)
            return (uint16_t)(used | END);
        if (symbol > END_OF_BLOCK)
            return (uint16_t)((used + length_extra(symbol)) | LENGTH);
        if (used == SYMBOL_BITS)
            return (uint16_t)(used | LITERALS);
    }
}

static void make_tables(struct tables *t, const uint8_t *lengths, size_t n_symbols, size_t n_distances)
{
    uint16_t single[1 << SYMBOL_BITS];
    make_code(&t->symbols, lengths, n_symbols);
    make_code(&t->distances, lengths + n_symbols, n_distances);
    spread(&t->symbols, SYMBOL_BITS, single);
    for (unsigned i = 0; i < 1u << SYMBOL_BITS; i++)
        t->symbol[i] = join_symbols(single, i);
    spread(&t->distances, DISTANCE_BITS, single);
    for (unsigned i = 0; i < 1u << DISTANCE_BITS; i++)
        t->distance[i] = (uint8_t)(single[i] == 0 ? 0 : (single[i] & 15) + distance_extra(single[i] >> 4));
}

/* The code lengths of a block with codes of its own. */
static bool read_lengths(struct walk *w, uint8_t lengths[N_SYMBOLS + N_DISTANCES], size_t *n_symbols, size_t *n_distances)
{
    static const uint8_t order[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    uint8_t first[19] = {0};
    struct code code;
    *n_symbols = take(w, 5) + 257;
    *n_distances = take(w, 5) + 1;
    size_t n_first = take(w, 4) + 4, n = 0, all = *n_symbols + *n_distances;
    if (*n_symbols > N_SYMBOLS)
        return false;
    for (size_t i = 0; i < n_first; i++)
        first[order[i]] = (uint8_t)take(w, 3);
    make_code(&code, first, 19);
    while (n < all) {
        unsigned bits = 0;
        int symbol = symbol_at(&code, peek(w), &bits);
        w->bit += bits;
        if (symbol < 0 || is_past(w) || (symbol == 16 && n == 0))
            return false;
        size_t times = 1;
        uint8_t value = (uint8_t)symbol;
        if (symbol >= 16) {
            value = symbol == 16 ? lengths[n - 1] : 0;
            times = symbol == 16 ? 3 + take(w, 2) : (symbol == 17 ? 3 + take(w, 3) : 11 + take(w, 7));
        }
        if (times > all - n)
            return false;
        memset(lengths + n, value, times);
        n += times;
    }
    return true;
}

/* A symbol or a distance whose code is longer than the index: its bits with the extra ones; 0: there is none. */
static unsigned long_symbol(const struct tables *t, uint64_t bits, unsigned *kind)
{
    unsigned length = 0;
    int symbol = symbol_at(&t->symbols, bits, &length);
    if (symbol < 0 || symbol > 285)
        return 0;
    *kind = symbol < END_OF_BLOCK ? LITERALS : (symbol == END_OF_BLOCK ? END : LENGTH);
    return length + length_extra((unsigned)symbol);
}

static unsigned long_distance(const struct tables *t, uint64_t bits)
{
    unsigned length = 0;
    int symbol = symbol_at(&t->distances, bits, &length);
    return symbol < 0 || symbol > 29 ? 0 : length + distance_extra((unsigned)symbol);
}

static bool walk_symbols(struct walk *w, const struct tables *t)
{
    const unsigned mask = (1 << SYMBOL_BITS) - 1;
    size_t limit = w->size * 8;
    while (w->bit <= limit) {
        uint64_t bits = peek(w);
        unsigned entry = t->symbol[bits & mask], used = 0;
        /* Literals, as long as the next index is shown; then what is no literal, with all that it needs shown. */
        while ((entry & ~BITS) == LITERALS) {
            used += entry;
            if (used > SHOWN - SYMBOL_BITS)
                break;
            entry = t->symbol[bits >> used & mask];
        }
        w->bit += used;
        if ((entry & ~BITS) == LITERALS)
            continue;
        bits = used > SLACK ? peek(w) : bits >> used;
        used = entry & BITS;
        unsigned kind = entry & ~(unsigned)BITS;
        if (kind == LONG) {
            used = long_symbol(t, bits, &kind);
            if (used == 0)
                return false;
        }
        w->bit += used;
        if (kind == LITERALS)
            continue;
        if (kind == END)
            return !is_past(w);
        bits >>= used;
        unsigned more = t->distance[bits & ((1 << DISTANCE_BITS) - 1)];
        if (more == 0)
            more = long_distance(t, bits);
        if (more == 0)
            return false;
        w->bit += more;
    }
    return false;
}

static bool walk_stored(struct walk *w)
{
    w->bit = (w->bit + 7) & ~(size_t)7;
    unsigned length = take(w, 16), complement = take(w, 16);
    w->bit += (size_t)length * 8;
    return length == (~complement & 0xffff) && !is_past(w);
}

static bool walk_block(struct walk *w, unsigned type)
{
    uint8_t lengths[N_SYMBOLS + N_DISTANCES];
    struct tables t;
    size_t n_symbols = N_SYMBOLS, n_distances = N_DISTANCES;
    if (type == 0)
        return walk_stored(w);
    if (type == 3)
        return false;
    if (type == 1) {
        memset(lengths, 8, 144);
        memset(lengths + 144, 9, 112);
        memset(lengths + 256, 7, 24);
        memset(lengths + 280, 8, 8);
        memset(lengths + N_SYMBOLS, 5, N_DISTANCES);
    } else if (!read_lengths(w, lengths, &n_symbols, &n_distances)) {
        return false;
    }
    make_tables(&t, lengths, n_symbols, n_distances);
    return walk_symbols(w, &t);
}

bool joblot__deflate_reopen(unsigned char *data, size_t size, size_t *end)
{
    struct walk w = {data, size, 0};
    for (;;) {
        size_t begin = w.bit;
        bool last = take(&w, 1) != 0;
        if (!walk_block(&w, take(&w, 2)))
            return false;
        if (!last)
            continue;
        if (w.size != (w.bit + 7) / 8 || peek(&w) != 0)
            return false;
        data[begin >> 3] &= (unsigned char)~(1u << (begin & 7));
        *end = w.bit;
        return true;
    }
}
