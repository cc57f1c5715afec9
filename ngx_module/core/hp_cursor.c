/*
 * hp_cursor.c: opaque, signed positions in a list.
 *
 * One job: to let a client carry a key without being able to make one up. The
 * signature is checked before any byte of the payload is believed, in constant
 * time, and over bytes whose text has one form only: base64url with padding,
 * with other characters or with stray bits at its end is refused.
 *
 * HMAC is built from libcrypto's incremental SHA-256, as in hp_id.c and for its
 * reasons: HMAC() and EVP_MAC look their algorithms up and allocate on every
 * call. The two hash states that follow from the secret are made once; signing
 * copies them. Owns nothing, allocates nothing; any process, any thread.
 *
 * Contract: hp_cursor.h. Tests: tests/unit/test_cursor.c (HMAC() is the
 * referee), tests/fuzz/fuzz_cursor.c.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "hp_cursor.h"

#include <string.h>

#include <openssl/crypto.h>

#define VERSION 1
#define HEAD 14
#define PART_HEAD 3

static const char alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

const char *hp_cursor_code(hp_cursor_status_t status)
{
    switch (status) {
    case HP_CURSOR_OK:
        return "ok";
    case HP_CURSOR_EXPIRED:
        return "cursor_expired";
    default:
        return "cursor_invalid";
    }
}

int hp_cursor_key(hp_cursor_key_t *key, hp_str_t secret)
{
    unsigned char block[SHA256_CBLOCK];
    SHA256_CTX sha;
    size_t i;

    if (secret.len < HP_CURSOR_SECRET_MIN) {
        return -1;
    }

    /* RFC 2104 section 2 */
    memset(block, 0, sizeof(block));

    if (secret.len > sizeof(block)) {
        SHA256_Init(&sha);
        SHA256_Update(&sha, secret.data, secret.len);
        SHA256_Final(block, &sha);
        OPENSSL_cleanse(&sha, sizeof(sha));
    } else {
        memcpy(block, secret.data, secret.len);
    }

    for (i = 0; i < sizeof(block); i++) {
        block[i] ^= 0x36;
    }

    SHA256_Init(&key->inner);
    SHA256_Update(&key->inner, block, sizeof(block));

    for (i = 0; i < sizeof(block); i++) {
        block[i] ^= 0x36 ^ 0x5c;
    }

    SHA256_Init(&key->outer);
    SHA256_Update(&key->outer, block, sizeof(block));
    OPENSSL_cleanse(block, sizeof(block));
    return 0;
}

static void sign(unsigned char signature[SHA256_DIGEST_LENGTH],
                 const hp_cursor_key_t *key, const unsigned char *data,
                 size_t len)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256_CTX sha;

    sha = key->inner;
    SHA256_Update(&sha, data, len);
    SHA256_Final(digest, &sha);

    sha = key->outer;
    SHA256_Update(&sha, digest, sizeof(digest));
    SHA256_Final(signature, &sha);
}

static unsigned char *put(unsigned char *p, uint64_t value, unsigned bytes)
{
    while (bytes-- != 0) {
        *p++ = (unsigned char)(value >> 8 * bytes);
    }

    return p;
}

static uint64_t get(const unsigned char *p, unsigned bytes)
{
    uint64_t value;

    value = 0;

    while (bytes-- != 0) {
        value = value << 8 | *p++;
    }

    return value;
}

static size_t encode(unsigned char *dst, const unsigned char *src, size_t len)
{
    unsigned char *out;
    uint32_t bits;
    size_t i;

    out = dst;

    for (i = 0; i + 3 <= len; i += 3) {
        bits = (uint32_t)get(src + i, 3);
        *out++ = (unsigned char)alphabet[bits >> 18];
        *out++ = (unsigned char)alphabet[bits >> 12 & 63];
        *out++ = (unsigned char)alphabet[bits >> 6 & 63];
        *out++ = (unsigned char)alphabet[bits & 63];
    }

    if (len - i == 1) {
        *out++ = (unsigned char)alphabet[src[i] >> 2];
        *out++ = (unsigned char)alphabet[(src[i] & 3) << 4];

    } else if (len - i == 2) {
        bits = (uint32_t)get(src + i, 2) << 2;
        *out++ = (unsigned char)alphabet[bits >> 12];
        *out++ = (unsigned char)alphabet[bits >> 6 & 63];
        *out++ = (unsigned char)alphabet[bits & 63];
    }

    return (size_t)(out - dst);
}

/* The value of a character, or 64 and more. */
static uint32_t decode_character(unsigned char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }

    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }

    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }

    return c == '-' ? 62 : c == '_' ? 63 : 64;
}

/* The length written, or 0; dst takes 3 bytes for every 4 characters. */
static size_t decode(unsigned char *dst, hp_str_t text)
{
    uint32_t bits, value;
    unsigned char *out;
    unsigned left;
    size_t i;

    out = dst;
    bits = 0;
    left = 0;

    if (text.len % 4 == 1) {
        return 0;
    }

    for (i = 0; i < text.len; i++) {
        value = decode_character(text.data[i]);

        if (value > 63) {
            return 0;
        }

        bits = bits << 6 | value;
        left += 6;

        if (left >= 8) {
            left -= 8;
            *out++ = (unsigned char)(bits >> left);
        }
    }

    /* stray bits would be a second text of the same cursor */
    return (bits & ((1u << left) - 1)) == 0 ? (size_t)(out - dst) : 0;
}

size_t hp_cursor_write(unsigned char *dst, size_t size,
                       const hp_cursor_key_t *key, uint64_t scope,
                       uint32_t expires_s, const hp_cursor_part_t *parts,
                       unsigned count)
{
    unsigned char bytes[HP_CURSOR_BYTES_MAX], *p;
    unsigned char signature[SHA256_DIGEST_LENGTH];
    size_t len;
    unsigned i;

    if (count > HP_CURSOR_PARTS) {
        return 0;
    }

    len = HEAD + HP_CURSOR_SIGNATURE;

    for (i = 0; i < count; i++) {
        if (parts[i].bytes.len > sizeof(bytes) ||
            (len += PART_HEAD + parts[i].bytes.len) > sizeof(bytes)) {
            return 0;
        }
    }

    if ((len * 4 + 2) / 3 > size) {
        return 0;
    }

    bytes[0] = VERSION;
    p = put(bytes + 1, scope, 8);
    p = put(p, expires_s, 4);
    *p++ = (unsigned char)count;

    for (i = 0; i < count; i++) {
        *p++ = parts[i].type;
        p = put(p, parts[i].bytes.len, 2);

        if (parts[i].bytes.len != 0) {
            memcpy(p, parts[i].bytes.data, parts[i].bytes.len);
            p += parts[i].bytes.len;
        }
    }

    sign(signature, key, bytes, (size_t)(p - bytes));
    memcpy(p, signature, HP_CURSOR_SIGNATURE);

    return encode(dst, bytes, len);
}

/* The parts of a payload that we signed; -1 where they do not fill it. */
static int read_parts(hp_cursor_t *cursor, const unsigned char *p,
                      const unsigned char *end, unsigned count)
{
    hp_cursor_part_t *part;
    size_t len;

    if (count > HP_CURSOR_PARTS) {
        return -1;
    }

    for (cursor->count = 0; cursor->count < count; cursor->count++) {
        if (end - p < PART_HEAD) {
            return -1;
        }

        part = &cursor->parts[cursor->count];
        part->type = p[0];
        len = (size_t)get(p + 1, 2);
        p += PART_HEAD;

        if ((size_t)(end - p) < len) {
            return -1;
        }

        part->bytes.data = p;
        part->bytes.len = len;
        p += len;
    }

    return p == end ? 0 : -1;
}

hp_cursor_status_t hp_cursor_read(hp_cursor_t *cursor, hp_str_t text,
                                  const hp_cursor_key_t *keys, unsigned nkeys,
                                  uint64_t scope, uint64_t now_s)
{
    unsigned char signature[SHA256_DIGEST_LENGTH];
    const unsigned char *bytes;
    unsigned i, found;
    size_t len;

    if (text.len == 0 || text.len > HP_CURSOR_TEXT_MAX) {
        return HP_CURSOR_SYNTAX;
    }

    bytes = cursor->bytes;
    len = decode(cursor->bytes, text);

    if (len < HEAD + HP_CURSOR_SIGNATURE) {
        return HP_CURSOR_SYNTAX;
    }

    len -= HP_CURSOR_SIGNATURE;
    found = nkeys;

    for (i = 0; i < nkeys && found == nkeys; i++) {
        sign(signature, &keys[i], bytes, len);

        if (CRYPTO_memcmp(signature, bytes + len, HP_CURSOR_SIGNATURE) == 0) {
            found = i;
        }
    }

    if (found == nkeys) {
        return HP_CURSOR_FORGED;
    }

    if (bytes[0] != VERSION) {
        return HP_CURSOR_VERSION;
    }

    if (get(bytes + 1, 8) != scope) {
        return HP_CURSOR_FOREIGN;
    }

    cursor->key = found;
    cursor->expires_s = (uint32_t)get(bytes + 9, 4);

    if (cursor->expires_s != 0 && now_s >= cursor->expires_s) {
        return HP_CURSOR_EXPIRED;
    }

    /* the right version, signed, but not so built: not by hp_cursor_write() */
    return read_parts(cursor, bytes + HEAD, bytes + len, bytes[13]) == 0
               ? HP_CURSOR_OK
               : HP_CURSOR_VERSION;
}
