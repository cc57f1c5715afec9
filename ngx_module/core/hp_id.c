/*
 * hp_id.c: operation ids, fingerprints, partitions and their text forms.
 *
 * One job: to be the same function of the same bytes in every process, now and
 * after every upgrade, because an id or a partition is stored and compared
 * years later. What is hashed is written down byte by byte in
 * schemas/framing.md and pinned by schemas/golden/ids.json; a change there is
 * a new version of the format, never a repair here.
 *
 * Owns nothing, allocates nothing, keeps no state: any process, any thread.
 * The incremental SHA-256 of libcrypto is used although 3.x calls it
 * deprecated: it cannot fail, does not allocate and needs its input neither in
 * one piece nor copied, while SHA256() looks its algorithm up under a lock and
 * allocates a context on every call (tests/bench/core.c shows the price).
 *
 * Lengths are the caller's promise (HP_TENANT_MAX and so on, hp_base.h): they
 * go into the hash as 16 bits.
 *
 * Contract: hp_id.h. Tests: tests/unit/test_id.c.
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "hp_id.h"

#include <string.h>

#include <openssl/sha.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "hp_char.h"

/* Short pieces are collected, so that libcrypto gets them in one: a call of it
 * costs more than a copy, and so do blocks one by one. */
typedef struct {
    SHA256_CTX sha;
    size_t held;
    unsigned char piece[512];
} hash_t;

static void hash_begin(hash_t *hash)
{
    SHA256_Init(&hash->sha);
    hash->held = 0;
}

static void hash_add(hash_t *hash, const void *data, size_t len)
{
    if (len > sizeof(hash->piece) - hash->held) {
        SHA256_Update(&hash->sha, hash->piece, hash->held);
        hash->held = 0;

        if (len > sizeof(hash->piece)) {
            SHA256_Update(&hash->sha, data, len);
            return;
        }
    }

    if (len != 0) {
        memcpy(hash->piece + hash->held, data, len);
        hash->held += len;
    }
}

static void hash_add_text(hash_t *hash, hp_str_t text)
{
    unsigned char len[2];

    len[0] = (unsigned char)(text.len & 0xff);
    len[1] = (unsigned char)(text.len >> 8 & 0xff);

    hash_add(hash, len, sizeof(len));
    hash_add(hash, text.data, text.len);
}

static void hash_end(unsigned char digest[SHA256_DIGEST_LENGTH], hash_t *hash)
{
    SHA256_Update(&hash->sha, hash->piece, hash->held);
    SHA256_Final(digest, &hash->sha);
}

static void set_version(unsigned char id[HP_UUID_SIZE], unsigned version)
{
    id[6] = (unsigned char)((id[6] & 0x0f) | version << 4);
    id[8] = (unsigned char)((id[8] & 0x3f) | 0x80);
}

void hp_operation_id(unsigned char id[HP_UUID_SIZE], hp_str_t tenant,
                     hp_str_t route, hp_str_t key)
{
    static const char label[] = "hotpath/operation/1"; /* with its zero byte */

    unsigned char digest[SHA256_DIGEST_LENGTH];
    hash_t hash;

    hash_begin(&hash);
    hash_add(&hash, label, sizeof(label));
    hash_add_text(&hash, tenant);
    hash_add_text(&hash, route);
    hash_add_text(&hash, key);
    hash_end(digest, &hash);

    memcpy(id, digest, HP_UUID_SIZE);
    set_version(id, 8);
}

void hp_uuid7(unsigned char id[HP_UUID_SIZE], uint64_t unix_ms,
              const unsigned char random[10])
{
    int i;

    for (i = 0; i < 6; i++) {
        id[i] = (unsigned char)(unix_ms >> (40 - 8 * i));
    }

    memcpy(id + 6, random, 10);
    set_version(id, 7);
}

void hp_hex(char *dst, const unsigned char *src, size_t len)
{
    size_t i;

    for (i = 0; i < len; i++) {
        *dst++ = (char)hp_hex_digit(src[i] >> 4);
        *dst++ = (char)hp_hex_digit(src[i]);
    }
}

void hp_uuid_format(char text[HP_UUID_TEXT],
                    const unsigned char id[HP_UUID_SIZE])
{
    hp_hex(text, id, 4);
    text[8] = '-';
    hp_hex(text + 9, id + 4, 2);
    text[13] = '-';
    hp_hex(text + 14, id + 6, 2);
    text[18] = '-';
    hp_hex(text + 19, id + 8, 2);
    text[23] = '-';
    hp_hex(text + 24, id + 10, 6);
}

int hp_uuid_parse(unsigned char id[HP_UUID_SIZE], hp_str_t text)
{
    unsigned char parsed[HP_UUID_SIZE];
    const unsigned char *p;
    int i, high, low;

    if (text.len != HP_UUID_TEXT) {
        return -1;
    }

    p = text.data;

    for (i = 0; i < HP_UUID_SIZE; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            if (*p++ != '-') {
                return -1;
            }
        }

        high = hp_hex_value(*p++);
        low = hp_hex_value(*p++);

        if (high < 0 || low < 0) {
            return -1;
        }

        parsed[i] = (unsigned char)(high << 4 | low);
    }

    memcpy(id, parsed, HP_UUID_SIZE);
    return 0;
}

void hp_fingerprint(unsigned char fp[HP_FINGERPRINT_SIZE], hp_str_t type,
                    hp_str_t payload)
{
    hash_t hash;

    hash_begin(&hash);
    hash_add_text(&hash, type);
    hash_add(&hash, payload.data, payload.len);
    hash_end(fp, &hash);
}

uint32_t hp_partition(hp_str_t tenant, hp_str_t partition_key,
                      const unsigned char id[HP_UUID_SIZE], uint32_t partitions)
{
    /* XXH64_update() forms the address 32 bytes before the end of its input;
     * gcc sees that where the input is this one byte, so it has 31 before. */
    static const unsigned char zeros[32];

    XXH64_state_t hash;

    if (partitions <= 1) {
        return 0;
    }

    XXH64_reset(&hash, 0);

    if (tenant.len != 0) {
        XXH64_update(&hash, tenant.data, tenant.len);
    }

    XXH64_update(&hash, zeros + 31, 1);

    if (partition_key.len != 0) {
        XXH64_update(&hash, partition_key.data, partition_key.len);
    } else {
        XXH64_update(&hash, id, HP_UUID_SIZE);
    }

    return (uint32_t)(XXH64_digest(&hash) % partitions);
}

int hp_tenant_valid(hp_str_t text)
{
    unsigned char c;
    size_t i;

    if (text.len == 0 || text.len > HP_TENANT_MAX) {
        return 0;
    }

    for (i = 0; i < text.len; i++) {
        c = text.data[i];

        if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
              (c >= 'a' && c <= 'z') || c == '.' || c == '_' || c == '-')) {
            return 0;
        }
    }

    return 1;
}

int hp_model_valid(hp_str_t text)
{
    unsigned char c;
    size_t i;

    if (text.len == 0 || text.len > 63 || text.data[0] < 'a' ||
        text.data[0] > 'z') {
        return 0;
    }

    for (i = 1; i < text.len; i++) {
        c = text.data[i];

        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '_')) {
            return 0;
        }
    }

    return 1;
}

uint64_t hp_hash64(const void *data, size_t len, uint64_t seed)
{
    return XXH64(len == 0 ? "" : data, len, seed);
}
