/* ndarray/literal.c - the pieces of Python literals that a descr is made of. */
#include "literal.h"

#include <string.h>

/* Code points above ASCII that are control, format, separator, private or surrogate: repr escapes those. */
static const uint32_t unprintable[][2] = {
    {0x80, 0xA0},       {0xAD, 0xAD},       {0x600, 0x605},     {0x61C, 0x61C},     {0x6DD, 0x6DD},
    {0x70F, 0x70F},     {0x890, 0x891},     {0x8E2, 0x8E2},     {0x1680, 0x1680},   {0x180E, 0x180E},
    {0x2000, 0x200F},   {0x2028, 0x202F},   {0x205F, 0x206F},   {0x3000, 0x3000},   {0xD800, 0xF8FF},
    {0xFDD0, 0xFDEF},   {0xFEFF, 0xFEFF},   {0xFFF0, 0xFFFB},   {0xFFFE, 0xFFFF},   {0x110BD, 0x110BD},
    {0x110CD, 0x110CD}, {0x13430, 0x1343F}, {0x1BCA0, 0x1BCA3}, {0x1D173, 0x1D17A}, {0xE0000, 0xE00FF},
    {0xE01F0, 0x10FFFF},
};

void joblot__literal_space(struct joblot__reader *r)
{
    for (;;) {
        int c = joblot__reader_peek(r);
        if (c != ' ' && c != '\t' && c != '\n' && c != '\r' && c != '\f')
            return;
        r->pos++;
    }
}

bool joblot__literal_at_string(const struct joblot__reader *r)
{
    size_t left = joblot__reader_left(r);
    if (left == 0)
        return false;
    const unsigned char *at = r->data + r->pos;
    if (*at == 'u' && left > 1)
        at++;
    return *at == '\'' || *at == '"';
}

void joblot__literal_expect(struct joblot__reader *r, char c, const char *text)
{
    joblot__literal_space(r);
    int next = joblot__reader_peek(r);
    if (next == (unsigned char)c)
        r->pos++;
    else
        joblot__reader_fail(r, next < 0 ? JOBLOT_TRUNCATED : JOBLOT_FORMAT, text);
}

int64_t joblot__literal_number(struct joblot__reader *r)
{
    int64_t n = 0;
    int c = joblot__reader_peek(r);
    if (c < '0' || c > '9') {
        joblot__reader_fail(r, c < 0 ? JOBLOT_TRUNCATED : JOBLOT_FORMAT,
                            c == '-' ? "negative number" : "a number is missing");
        return 0;
    }
    for (; c >= '0' && c <= '9'; c = joblot__reader_peek(r)) {
        if (n > (INT64_MAX - (c - '0')) / 10) {
            joblot__reader_fail(r, JOBLOT_LIMIT, "number over 2**63 - 1");
            return 0;
        }
        n = n * 10 + (c - '0');
        r->pos++;
    }
    return n;
}

/* Length of the UTF-8 sequence at `at` and its code point; 0 when it is malformed, overlong or a surrogate. */
static size_t decode_utf8(const unsigned char *at, size_t left, uint32_t *point)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = at[0] < 0x80 ? 1 : at[0] < 0xC0 ? 0 : at[0] < 0xE0 ? 2 : at[0] < 0xF0 ? 3 : at[0] < 0xF8 ? 4 : 0;
    if (n == 0 || n > left)
        return 0;
    uint32_t v = n == 1 ? at[0] : at[0] & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((at[i] & 0xC0) != 0x80)
            return 0;
        v = v << 6 | (at[i] & 0x3F);
    }
    if (v < least[n] || v > 0x10FFFF || (v >= 0xD800 && v <= 0xDFFF))
        return 0;
    *point = v;
    return n;
}

static void append_point(struct joblot__reader *r, struct joblot__buffer *out, uint32_t v)
{
    unsigned char b[4];
    size_t n = v < 0x80 ? 1 : v < 0x800 ? 2 : v < 0x10000 ? 3 : 4;
    if (v == 0 || (v >= 0xD800 && v <= 0xDFFF)) {
        joblot__reader_fail(r, JOBLOT_UNSUPPORTED, "NUL and surrogates in strings are not supported");
        return;
    }
    if (v > 0x10FFFF) {
        joblot__reader_fail(r, JOBLOT_FORMAT, "no such character");
        return;
    }
    for (size_t i = n; i-- > 1; v >>= 6)
        b[i] = (unsigned char)(0x80 | (v & 0x3F));
    b[0] = (unsigned char)(n == 1 ? v : (0xF00u >> n & 0xFF) | v);
    joblot__buffer_append(out, b, n);
}

static int digit_value(int c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : 99;
}

/* Up to `most` and at least `fewest` digits of `base`. */
static uint32_t read_digits(struct joblot__reader *r, int base, int fewest, int most)
{
    uint32_t v = 0;
    int n = 0;
    for (; n < most && digit_value(joblot__reader_peek(r)) < base; n++)
        v = v * (uint32_t)base + (uint32_t)digit_value(joblot__reader_u8(r));
    if (n < fewest)
        joblot__reader_fail(r, JOBLOT_FORMAT, "malformed escape in a string");
    return v;
}

/* What stands behind a backslash. */
static void read_escape(struct joblot__reader *r, struct joblot__buffer *out)
{
    static const char letters[] = "\\'\"abfnrtv";
    static const char meanings[] = "\\'\"\a\b\f\n\r\t\v";
    int c = joblot__reader_peek(r);
    if (c >= '0' && c <= '7') {
        append_point(r, out, read_digits(r, 8, 1, 3));
        return;
    }
    if (c == 'N') {
        joblot__reader_fail(r, JOBLOT_UNSUPPORTED, "\\N escapes are not supported");
        return;
    }
    if (c == 'x' || c == 'u' || c == 'U') {
        int n = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        r->pos++;
        append_point(r, out, read_digits(r, 16, n, n));
        return;
    }
    for (size_t i = 0; letters[i] != 0; i++) {
        if (c == letters[i]) {
            r->pos++;
            joblot__buffer_u8(out, (uint8_t)meanings[i]);
            return;
        }
    }
    if (c == '\n')
        r->pos++; /* a continued line */
    else
        joblot__buffer_u8(out, '\\'); /* Python keeps unknown escapes as they stand */
}

void joblot__literal_string(struct joblot__reader *r, struct joblot__buffer *out)
{
    if (joblot__reader_peek(r) == 'u')
        r->pos++;
    int quote = joblot__reader_u8(r);
    while (joblot__reader_left(r) > 0) {
        int c = joblot__reader_peek(r);
        if (c == quote) {
            r->pos++;
            if (out->status != JOBLOT_OK)
                joblot__reader_fail(r, out->status, "out of memory");
            return;
        }
        if (c == '\\') {
            r->pos++;
            read_escape(r, out);
        } else if (c == '\n') {
            joblot__reader_fail(r, JOBLOT_FORMAT, "the string does not end on its line");
        } else {
            uint32_t point = 0;
            size_t n = decode_utf8(r->data + r->pos, joblot__reader_left(r), &point);
            if (n == 0)
                joblot__reader_fail(r, JOBLOT_FORMAT, "invalid UTF-8");
            append_point(r, out, point);
            r->pos += n;
        }
    }
    joblot__reader_fail(r, JOBLOT_TRUNCATED, "the string does not end");
}

void joblot__sink_char(struct joblot__sink *sink, char c)
{
    bool room = sink->used < sink->capacity;
    if (sink->out != NULL && room)
        sink->out[sink->used] = c;
    if (sink->expected != NULL && (!room || sink->expected[sink->used] != c))
        sink->differs = true;
    sink->used++;
}

void joblot__sink_text(struct joblot__sink *sink, const char *text)
{
    for (; *text != 0; text++)
        joblot__sink_char(sink, *text);
}

void joblot__sink_number(struct joblot__sink *sink, uint64_t n)
{
    char digits[20];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + n % 10);
        n /= 10;
    } while (n != 0);
    while (count > 0)
        joblot__sink_char(sink, digits[--count]);
}

static void print_hex(struct joblot__sink *sink, char letter, uint32_t v, int digits)
{
    joblot__sink_char(sink, '\\');
    joblot__sink_char(sink, letter);
    while (digits-- > 0)
        joblot__sink_char(sink, "0123456789abcdef"[v >> (4 * digits) & 15]);
}

static bool is_printable(uint32_t v)
{
    if (v < 0x7F)
        return v >= 0x20;
    if (v == 0x7F)
        return false;
    for (size_t i = 0; i < sizeof unprintable / sizeof unprintable[0]; i++) {
        if (v <= unprintable[i][1])
            return v < unprintable[i][0];
    }
    return true;
}

static void print_escape(struct joblot__sink *sink, uint32_t v)
{
    if (v == '\n' || v == '\r' || v == '\t') {
        joblot__sink_char(sink, '\\');
        joblot__sink_char(sink, v == '\n' ? 'n' : v == '\r' ? 'r' : 't');
    } else if (v < 0x100) {
        print_hex(sink, 'x', v, 2);
    } else if (v < 0x10000) {
        print_hex(sink, 'u', v, 4);
    } else {
        print_hex(sink, 'U', v, 8);
    }
}

void joblot__literal_print(struct joblot__sink *sink, const char *text, size_t size)
{
    bool only_single = memchr(text, '\'', size) != NULL && memchr(text, '"', size) == NULL;
    char quote = only_single ? '"' : '\'';
    joblot__sink_char(sink, quote);
    for (size_t i = 0; i < size;) {
        uint32_t point = 0;
        size_t n = decode_utf8((const unsigned char *)text + i, size - i, &point);
        if (n == 0) { /* never in a name that was parsed; shown rather than lost */
            point = (unsigned char)text[i];
            n = 1;
        }
        if (!is_printable(point)) {
            print_escape(sink, point);
        } else {
            if (text[i] == quote || text[i] == '\\')
                joblot__sink_char(sink, '\\');
            for (size_t k = 0; k < n; k++)
                joblot__sink_char(sink, text[i + k]);
        }
        i += n;
    }
    joblot__sink_char(sink, quote);
}
