/* pickle/text.c - the arguments of protocol 0: numbers and strings as lines of text. */
#include "text.h"

#include "../base/endian.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>

static bool is_digit(unsigned char c)
{
    return c >= '0' && c <= '9';
}

static int hex_value(unsigned char c)
{
    if (is_digit(c))
        return c - '0';
    c = (unsigned char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* ---- integers ---- */

size_t joblot__text_digits(const unsigned char *s, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += is_digit(s[i]);
    return count;
}

size_t joblot__integer_trim(const unsigned char *p, size_t n)
{
    if (n == 0)
        return 0;
    unsigned char fill = p[n - 1] & 0x80 ? 0xff : 0x00;
    while (n > 1 && p[n - 1] == fill && ((p[n - 2] ^ fill) & 0x80) == 0)
        n--;
    return n;
}

/* out: the digits as a number, little-endian words of 32 bits, with a zero word on top for the sign. */
static bool digits_to_words(const unsigned char *s, size_t n, struct joblot__buffer *out)
{
    size_t room = n / 9 + 2, used = 0;
    out->size = 0;
    unsigned char *words = joblot__buffer_extend(out, room * 4);
    if (words == NULL)
        return false;
    memset(words, 0, room * 4);
    for (size_t i = 0; i < n;) {
        uint64_t carry = 0, scale = 1;
        for (size_t end = i + (n - i - 1) % 9 + 1; i < end; i++) {
            carry = carry * 10 + (uint64_t)(s[i] - '0');
            scale *= 10;
        }
        for (size_t k = 0; k < used || carry != 0; k++) {
            uint64_t sum = joblot__load_le32(words + 4 * k) * scale + carry;
            joblot__store_le32(words + 4 * k, (uint32_t)sum);
            carry = sum >> 32;
            used = k >= used ? k + 1 : used;
        }
    }
    return true;
}

static void negate(unsigned char *p, size_t n)
{
    unsigned carry = 1;
    for (size_t i = 0; i < n; i++) {
        carry += (unsigned char)~p[i];
        p[i] = (unsigned char)carry;
        carry >>= 8;
    }
}

const char *joblot__text_int(const unsigned char *s, size_t n, int64_t *value, bool *big, struct joblot__buffer *out)
{
    bool negative = n > 0 && s[0] == '-';
    size_t start = n > 0 && (s[0] == '-' || s[0] == '+');
    s += start, n -= start;
    if (n == 0 || joblot__text_digits(s, n) != n)
        return "an integer that is not decimal";
    if (n > 1 && s[0] == '0')
        return "an integer with leading zeros";
    *big = false;
    if (n <= 18) {
        *value = 0;
        for (size_t i = 0; i < n; i++)
            *value = *value * 10 + (s[i] - '0');
        *value = negative ? -*value : *value;
        return NULL;
    }
    if (!digits_to_words(s, n, out))
        return NULL;
    if (negative)
        negate(out->data, out->size);
    out->size = joblot__integer_trim(out->data, out->size);
    *big = out->size > 8;
    if (!*big) {
        uint64_t bits = negative ? UINT64_MAX : 0;
        for (size_t i = out->size; i > 0; i--)
            bits = bits << 8 | out->data[i - 1];
        memcpy(value, &bits, sizeof *value);
    }
    return NULL;
}

const char *joblot__text_index(const unsigned char *s, size_t n, int64_t *value)
{
    *value = 0;
    if (n == 0 || n > 10)
        return "a memo index that is none";
    for (size_t i = 0; i < n; i++) {
        if (!is_digit(s[i]))
            return "a memo index that is no number";
        *value = *value * 10 + (s[i] - '0');
    }
    return *value > UINT32_MAX ? "a memo index beyond 32 bits" : NULL;
}

/* ---- floats ---- */

static bool is_word(const unsigned char *s, size_t n, const char *word)
{
    if (n != strlen(word))
        return false;
    for (size_t i = 0; i < n; i++)
        if ((s[i] | 0x20) != (unsigned char)word[i])
            return false;
    return true;
}

/* digits with at most one point, then an exponent or none; *point is where the point is, or n. */
static bool is_decimal(const unsigned char *s, size_t n, size_t *point)
{
    size_t i = 0, digits = 0;
    *point = n;
    for (; i < n && (is_digit(s[i]) || (s[i] == '.' && *point == n)); i++) {
        if (s[i] == '.')
            *point = i;
        else
            digits++;
    }
    if (digits == 0 || i == n)
        return digits != 0;
    if ((s[i++] | 0x20) != 'e')
        return false;
    i += i < n && (s[i] == '-' || s[i] == '+');
    return i < n && joblot__text_digits(s + i, n - i) == n - i;
}

const char *joblot__text_real(const unsigned char *s, size_t n, double *value, struct joblot__buffer *scratch)
{
    bool negative = n > 0 && s[0] == '-';
    size_t start = n > 0 && (s[0] == '-' || s[0] == '+'), point;
    s += start, n -= start;
    if (is_word(s, n, "inf") || is_word(s, n, "infinity")) {
        *value = negative ? -INFINITY : INFINITY;
        return NULL;
    }
    if (is_word(s, n, "nan")) {
        *value = negative ? -NAN : NAN;
        return NULL;
    }
    if (!is_decimal(s, n, &point))
        return "a float that is not decimal";
    scratch->size = 0;
    joblot__buffer_append(scratch, s, point);
    if (point < n) { /* strtod wants the point of the locale that the program has set */
        joblot__buffer_append_str(scratch, localeconv()->decimal_point);
        joblot__buffer_append(scratch, s + point + 1, n - point - 1);
    }
    joblot__buffer_u8(scratch, 0);
    if (scratch->status != JOBLOT_OK)
        return NULL;
    double magnitude = strtod((const char *)scratch->data, NULL);
    *value = negative ? -magnitude : magnitude;
    return isinf(magnitude) ? "a float beyond the range of floats" : NULL;
}

/* ---- strings ---- */

/* One escape of a bytes literal behind its backslash: writes to *out, returns how many bytes it read; 0: a bad one. */
static size_t string_escape(const unsigned char *s, size_t n, unsigned char **out)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    const char *known = n > 0 && s[0] != 0 ? strchr(from, s[0]) : NULL;
    if (known != NULL) {
        *(*out)++ = (unsigned char)to[known - from];
        return 1;
    }
    if (n > 0 && s[0] == 'x') {
        if (n < 3 || hex_value(s[1]) < 0 || hex_value(s[2]) < 0)
            return 0;
        *(*out)++ = (unsigned char)(hex_value(s[1]) << 4 | hex_value(s[2]));
        return 3;
    }
    unsigned octal = 0;
    size_t i = 0;
    for (; i < n && i < 3 && s[i] >= '0' && s[i] <= '7'; i++)
        octal = octal << 3 | (unsigned)(s[i] - '0');
    *(*out)++ = i > 0 ? (unsigned char)octal : '\\';
    if (i == 0 && n > 0) {
        *(*out)++ = s[0];
        return 1;
    }
    return i;
}

const char *joblot__text_string(const unsigned char *s, size_t n, struct joblot__buffer *out)
{
    if (n < 2 || (s[0] != '\'' && s[0] != '"') || s[n - 1] != s[0])
        return "a string without its quotes";
    s++, n -= 2;
    out->size = 0;
    unsigned char *to = joblot__buffer_extend(out, n);
    if (to == NULL)
        return NULL;
    for (size_t i = 0; i < n;) {
        if (s[i] != '\\') {
            *to++ = s[i++];
            continue;
        }
        if (i + 1 == n)
            return "a string that ends in a backslash";
        size_t read = string_escape(s + i + 1, n - i - 1, &to);
        if (read == 0)
            return "a \\x without two hex digits in a string";
        i += 1 + read;
    }
    out->size = (size_t)(to - out->data);
    return NULL;
}

static unsigned char *put_utf8(unsigned char *to, uint32_t c)
{
    if (c < 0x80) {
        *to++ = (unsigned char)c;
        return to;
    }
    if (c < 0x800) {
        *to++ = (unsigned char)(0xc0 | c >> 6);
    } else {
        if (c < 0x10000) {
            *to++ = (unsigned char)(0xe0 | c >> 12);
        } else {
            *to++ = (unsigned char)(0xf0 | c >> 18);
            *to++ = (unsigned char)(0x80 | (c >> 12 & 0x3f));
        }
        *to++ = (unsigned char)(0x80 | (c >> 6 & 0x3f));
    }
    *to++ = (unsigned char)(0x80 | (c & 0x3f));
    return to;
}

/* The number of `digits` hex digits; false where they are not all there. */
static bool read_hex(const unsigned char *s, size_t n, size_t digits, uint32_t *c)
{
    *c = 0;
    if (n < digits)
        return false;
    for (size_t i = 0; i < digits; i++) {
        int v = hex_value(s[i]);
        if (v < 0)
            return false;
        *c = *c << 4 | (uint32_t)v;
    }
    return *c <= 0x10ffff;
}

const char *joblot__text_unicode(const unsigned char *s, size_t n, struct joblot__buffer *out)
{
    out->size = 0;
    unsigned char *to = joblot__buffer_extend(out, 2 * n); /* no character grows by more than that */
    if (to == NULL)
        return NULL;
    for (size_t i = 0; i < n;) {
        uint32_t c = s[i++];
        if (c == '\\' && i < n) {
            unsigned char kind = s[i++];
            if (kind == 'u' || kind == 'U') {
                size_t digits = kind == 'u' ? 4 : 8;
                if (!read_hex(s + i, n - i, digits, &c))
                    return "a \\u or \\U without its hex digits, or beyond 10ffff, in a text";
                i += digits;
            } else {
                *to++ = '\\';
                c = kind;
            }
        }
        to = put_utf8(to, c);
    }
    out->size = (size_t)(to - out->data);
    return NULL;
}

size_t joblot__utf8_whole(const unsigned char *p, size_t n)
{
    size_t i = n;
    while (i > 0 && n - i < 3 && (p[i - 1] & 0xc0) == 0x80)
        i--;
    if (i == 0)
        return n;
    unsigned char lead = p[i - 1];
    size_t more = lead >= 0xf0 ? 3 : (lead >= 0xe0 ? 2 : (lead >= 0xc0 ? 1 : 0));
    return n - i < more ? i - 1 : n;
}

bool joblot__utf8_valid(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        unsigned char c = p[i];
        if (c < 0x80) {
            uint64_t word;
            for (; i + 8 <= n; i += 8) {
                memcpy(&word, p + i, 8);
                if (word & UINT64_C(0x8080808080808080))
                    break;
            }
            while (i < n && p[i] < 0x80)
                i++;
            continue;
        }
        size_t more = c >= 0xf0 ? 3 : (c >= 0xe0 ? 2 : 1);
        if (c < 0xc2 || c > 0xf4 || n - i <= more)
            return false;
        for (size_t k = 1; k <= more; k++)
            if ((p[i + k] & 0xc0) != 0x80)
                return false;
        if ((c == 0xe0 && p[i + 1] < 0xa0) || (c == 0xf0 && p[i + 1] < 0x90) || (c == 0xf4 && p[i + 1] > 0x8f))
            return false;
        i += more + 1;
    }
    return true;
}
