/*
 * hp_nkey.c: NATS keys and credentials files as text, without any I/O.
 *
 * Owns nothing, allocates nothing. Runs in the master, while a configuration
 * is read, and (signatures only) in nginx workers. What it decodes is secret:
 * it keeps no copy, wipes what it needed on the way, and its errors say
 * nothing of the input. Must not read past what it was given, whatever a file
 * holds. See hp_nkey.h; tests/unit/test_nkey.c, tests/fuzz/fuzz_nkey.c.
 */
#include "hp_nkey.h"

#include <string.h>

/* Kinds stand in the upper five bits of a byte, so that each begins with a
 * letter of its own: S for a seed, U for a user. */
#define KIND_SEED (18 << 3)
#define KIND_USER (20 << 3)

/* two bytes of kinds, the key, two bytes of checksum */
#define SEED_BYTES (2 + HP_NKEY_RAW + 2)
#define PUBLIC_BYTES (1 + HP_NKEY_RAW + 2)

static const char base32[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
static const char base64url[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* CRC-16/XMODEM: polynomial 0x1021, from 0, not reflected. */
static unsigned crc16(const unsigned char *p, size_t len)
{
    unsigned crc = 0, bit;
    size_t i;

    for (i = 0; i < len; i++) {
        crc ^= (unsigned)p[i] << 8;
        for (bit = 0; bit < 8; bit++) {
            crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1;
        }
    }
    return crc & 0xffff;
}

/* A compiler may drop a memset() of what is not read again. */
static void wipe(void *data, size_t len)
{
    volatile unsigned char *p = data;

    while (len--) {
        *p++ = 0;
    }
}

static int is_space(unsigned char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static hp_str_t trim(hp_str_t text)
{
    while (text.len && is_space(text.data[0])) {
        text.data++;
        text.len--;
    }
    while (text.len && is_space(text.data[text.len - 1])) {
        text.len--;
    }
    return text;
}

/* Exactly size bytes out of text; bits that are left over must be zero, so
 * that a key has one text only. */
static int base32_decode(unsigned char *dst, size_t size, hp_str_t text)
{
    unsigned bits = 0, have = 0, value;
    size_t i, n = 0;

    if (text.len != (size * 8 + 4) / 5) {
        return -1;
    }
    for (i = 0; i < text.len; i++) {
        if (text.data[i] >= 'A' && text.data[i] <= 'Z') {
            value = text.data[i] - 'A';
        } else if (text.data[i] >= '2' && text.data[i] <= '7') {
            value = text.data[i] - '2' + 26u;
        } else {
            return -1;
        }
        bits = (bits << 5 | value) & 0xfff;
        have += 5;
        if (have >= 8) {
            have -= 8;
            dst[n++] = (unsigned char)(bits >> have);
        }
    }
    return n == size && (bits & ((1u << have) - 1)) == 0 ? 0 : -1;
}

int hp_nkey_seed(unsigned char raw[HP_NKEY_RAW], hp_str_t text)
{
    unsigned char bytes[SEED_BYTES];
    int rc = -1;

    memset(bytes, 0, sizeof(bytes));
    /* the second kind is spread over both bytes, behind the first one */
    if (base32_decode(bytes, sizeof(bytes), trim(text)) == 0 &&
        (bytes[0] & 0xf8) == KIND_SEED &&
        ((bytes[0] & 7) << 5 | bytes[1] >> 3) == KIND_USER &&
        (bytes[1] & 7) == 0 &&
        crc16(bytes, SEED_BYTES - 2) ==
            (unsigned)(bytes[SEED_BYTES - 2] | bytes[SEED_BYTES - 1] << 8)) {
        memcpy(raw, bytes + 2, HP_NKEY_RAW);
        rc = 0;
    }
    wipe(bytes, sizeof(bytes));
    return rc;
}

void hp_nkey_public(unsigned char text[HP_NKEY_PUBLIC_TEXT],
                    const unsigned char raw[HP_NKEY_RAW])
{
    unsigned char bytes[PUBLIC_BYTES];
    unsigned bits = 0, have = 0, crc;
    size_t i, n = 0;

    bytes[0] = KIND_USER;
    memcpy(bytes + 1, raw, HP_NKEY_RAW);
    crc = crc16(bytes, PUBLIC_BYTES - 2);
    bytes[PUBLIC_BYTES - 2] = crc & 0xff;
    bytes[PUBLIC_BYTES - 1] = (unsigned char)(crc >> 8);

    /* 35 bytes are 56 characters exactly: no bits are left over */
    for (i = 0; i < PUBLIC_BYTES; i++) {
        bits = (bits << 8 | bytes[i]) & 0xfff;
        for (have += 8; have >= 5; have -= 5) {
            text[n++] = (unsigned char)base32[bits >> (have - 5) & 31];
        }
    }
}

void hp_nkey_signature(unsigned char text[HP_NKEY_SIGNATURE_TEXT],
                       const unsigned char raw[HP_NKEY_SIGNATURE])
{
    unsigned bits = 0, have = 0;
    size_t i, n = 0;

    for (i = 0; i < HP_NKEY_SIGNATURE; i++) {
        bits = (bits << 8 | raw[i]) & 0x3fff;
        for (have += 8; have >= 6; have -= 6) {
            text[n++] = (unsigned char)base64url[bits >> (have - 6) & 63];
        }
    }
    text[n] = (unsigned char)base64url[bits << (6 - have) & 63];
}

/* The next line, without its end; 0 at the end of the text. */
static int next_line(hp_str_t *rest, hp_str_t *line)
{
    const unsigned char *lf;

    if (rest->len == 0) {
        return 0;
    }
    lf = memchr(rest->data, '\n', rest->len);
    line->data = rest->data;
    line->len = lf ? (size_t)(lf - rest->data) : rest->len;
    rest->data += line->len + (lf != NULL);
    rest->len -= line->len + (lf != NULL);
    *line = trim(*line);
    return 1;
}

static int is_dashes(hp_str_t line)
{
    return line.len >= 3 && memcmp(line.data, "---", 3) == 0;
}

static int is_jwt(hp_str_t text)
{
    size_t i, dots = 0, part = 0;

    for (i = 0; i < text.len; i++) {
        if (text.data[i] == '.') {
            if (part == 0) {
                return 0;
            }
            dots++;
            part = 0;
        } else if (text.data[i] == 0 || !strchr(base64url, text.data[i])) {
            return 0;
        } else {
            part++;
        }
    }
    return dots == 2 && part != 0;
}

/* One line between two of dashes, whatever empty ones stand around it. */
static int next_block(hp_str_t *rest, hp_str_t *content)
{
    hp_str_t line;

    do {
        if (!next_line(rest, &line)) {
            return -1;
        }
    } while (!is_dashes(line));

    content->len = 0;
    while (next_line(rest, &line)) {
        if (is_dashes(line)) {
            return content->len ? 0 : -1;
        }
        if (line.len == 0) {
            continue;
        }
        if (content->len) {
            return -1;
        }
        *content = line;
    }
    return -1;
}

int hp_nkey_credentials(hp_str_t file, hp_str_t *jwt, hp_str_t *seed)
{
    if (next_block(&file, jwt) != 0 || next_block(&file, seed) != 0 ||
        !is_jwt(*jwt)) {
        return -1;
    }
    return 0;
}
