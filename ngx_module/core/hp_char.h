/*
 * hp_char.h: what single bytes are, for the scanners in core/.
 *
 * One job: the character classes of JSON, the search for the end of a run of
 * plain ones many bytes at a time, the length of a UTF-8 sequence, and digits
 * both ways. Private to core/: only its .c files include this, so that all of
 * it is inlined there (hp_json.c spends most of its time in here). Pure
 * functions without state; nothing is read at or behind `end`.
 *
 * Tests: tests/unit/test_json.c (every boundary of UTF-8 and of the words),
 * tests/unit/test_id.c, tests/fuzz/fuzz_json.c.
 */
#ifndef HP_CHAR_H
#define HP_CHAR_H

#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "hp_base.h"

#define HP_CHAR_ONES 0x0101010101010101u
#define HP_CHAR_HIGH 0x8080808080808080u

/* What a byte is to JSON. */
enum {
    HP_CHAR_PLAIN = 0x01, /* stands for itself inside a string */
    HP_CHAR_SPACE = 0x02,
    HP_CHAR_STARTS = 0x04, /* may begin a value */
};

#define HP_CHAR_BOTH (HP_CHAR_PLAIN | HP_CHAR_STARTS)

static const unsigned char hp_char_class[256] = {
    ['\t' ... '\n'] = HP_CHAR_SPACE,
    ['\r'] = HP_CHAR_SPACE,
    [' '] = HP_CHAR_PLAIN | HP_CHAR_SPACE,
    ['!'] = HP_CHAR_PLAIN,
    ['"'] = HP_CHAR_STARTS,
    ['#' ... ','] = HP_CHAR_PLAIN,
    ['-'] = HP_CHAR_BOTH,
    ['.' ... '/'] = HP_CHAR_PLAIN,
    ['0' ... '9'] = HP_CHAR_BOTH,
    [':' ... 'Z'] = HP_CHAR_PLAIN,
    ['['] = HP_CHAR_BOTH,
    [']' ... 'e'] = HP_CHAR_PLAIN,
    ['f'] = HP_CHAR_BOTH,
    ['g' ... 'm'] = HP_CHAR_PLAIN,
    ['n'] = HP_CHAR_BOTH,
    ['o' ... 's'] = HP_CHAR_PLAIN,
    ['t'] = HP_CHAR_BOTH,
    ['u' ... 'z'] = HP_CHAR_PLAIN,
    ['{'] = HP_CHAR_BOTH,
    ['|' ... 0x7f] = HP_CHAR_PLAIN,
};

#undef HP_CHAR_BOTH

/* What the byte behind a backslash stands for; \u is not among them. */
static const unsigned char hp_char_escape[256] = {
    ['"'] = '"',  ['\\'] = '\\', ['/'] = '/',  ['b'] = '\b',
    ['f'] = '\f', ['n'] = '\n',  ['r'] = '\r', ['t'] = '\t',
};

static inline int hp_is_digit(unsigned char c)
{
    return (unsigned)(c - '0') <= 9;
}

static inline int hp_hex_value(unsigned char c)
{
    if (hp_is_digit(c)) {
        return c - '0';
    }

    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The four digits of a \u escape, or -1 with *bad at the first byte that is
 * none. */
static inline int32_t hp_hex4(const unsigned char *p, const unsigned char *end,
                              const unsigned char **bad)
{
    int32_t code;
    int i, digit;

    code = 0;

    for (i = 0; i < 4; i++) {
        digit = p < end ? hp_hex_value(*p) : -1;

        if (digit < 0) {
            *bad = p;
            return -1;
        }

        code = code * 16 + digit;
        p++;
    }

    return code;
}

/* The lower-case hexadecimal digit of 0 to 15. */
static inline unsigned char hp_hex_digit(unsigned value)
{
    return (unsigned char)"0123456789abcdef"[value & 0x0f];
}

static inline uint64_t load8(const unsigned char *p)
{
    uint64_t word;

    memcpy(&word, p, sizeof(word));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* The high bit of every byte that is not HP_CHAR_PLAIN. Bytes above the first
 * such one may be marked wrongly (a borrow); only the first is used. */
static inline uint64_t not_plain(uint64_t word)
{
    uint64_t quote, slash, control;

    quote = word ^ (HP_CHAR_ONES * '"');
    slash = word ^ (HP_CHAR_ONES * '\\');
    quote = (quote - HP_CHAR_ONES) & ~quote;
    slash = (slash - HP_CHAR_ONES) & ~slash;
    control = (word - HP_CHAR_ONES * 0x20) & ~word;

    return (quote | slash | control | word) & HP_CHAR_HIGH;
}

#if defined(__SSE2__)

/* A bit for each of the sixteen bytes at p that is not HP_CHAR_PLAIN: as signed
 * numbers, those from 0x80 on are less than a blank too. */
static inline unsigned not_plain16(const unsigned char *p)
{
    __m128i bytes, stop;

    bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
    stop = _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')),
                        _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')));
    stop = _mm_or_si128(stop, _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20)));

    return (unsigned)_mm_movemask_epi8(stop);
}

#endif

/* The first byte in [p, end) that is not HP_CHAR_PLAIN, or end. */
static inline const unsigned char *hp_skip_plain(const unsigned char *p,
                                                 const unsigned char *end)
{
    uint64_t stop;

#if defined(__SSE2__)
    unsigned bits;

    while (end - p >= 16) {
        bits = not_plain16(p);

        if (bits != 0) {
            return p + __builtin_ctz(bits);
        }

        p += 16;
    }
#endif

    while (end - p >= 8) {
        stop = not_plain(load8(p));

        if (stop != 0) {
            return p + (__builtin_ctzll(stop) >> 3);
        }

        p += 8;
    }

    while (p < end && (hp_char_class[*p] & HP_CHAR_PLAIN)) {
        p++;
    }

    return p;
}

static inline const unsigned char *hp_skip_space(const unsigned char *p,
                                                 const unsigned char *end)
{
    while (p < end && *p <= ' ' && (hp_char_class[*p] & HP_CHAR_SPACE)) {
        p++;
    }

    return p;
}

/* Bytes of the UTF-8 sequence at p, by table 3-7 of the Unicode standard; 0
 * where there is none. */
static inline unsigned hp_utf8_length(const unsigned char *p,
                                      const unsigned char *end)
{
    unsigned char low, high;
    size_t left;

    left = (size_t)(end - p);
    low = 0x80;
    high = 0xbf;

    if (left >= 1 && p[0] < 0x80) {
        return 1;
    }

    if (left < 2 || p[0] < 0xc2 || p[0] > 0xf4) {
        return 0;
    }

    if (p[0] < 0xe0) {
        return (p[1] & 0xc0) == 0x80 ? 2 : 0;
    }

    if (p[0] == 0xe0) {
        low = 0xa0; /* shorter forms exist */
    } else if (p[0] == 0xed) {
        high = 0x9f; /* surrogates */
    } else if (p[0] == 0xf0) {
        low = 0x90;
    } else if (p[0] == 0xf4) {
        high = 0x8f; /* beyond U+10FFFF */
    }

    if (p[1] < low || p[1] > high || left < 3 || (p[2] & 0xc0) != 0x80) {
        return 0;
    }

    if (p[0] < 0xf0) {
        return 3;
    }

    return left >= 4 && (p[3] & 0xc0) == 0x80 ? 4 : 0;
}

/* Writes a code point of at most U+10FFFF; gives the bytes that it takes. */
static inline unsigned hp_utf8_write(unsigned char dst[4], uint32_t code)
{
    unsigned len, i;

    if (code < 0x80) {
        dst[0] = (unsigned char)code;
        return 1;
    }

    len = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;

    for (i = len - 1; i > 0; i--) {
        dst[i] = (unsigned char)(0x80 | (code & 0x3f));
        code >>= 6;
    }

    /* as many ones in front as there are bytes */
    dst[0] = (unsigned char)(0xf00 >> len | code);
    return len;
}

#endif
