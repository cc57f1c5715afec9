/*
 * hp_cursor.h: opaque, signed positions in a list (keyset pages).
 *
 * A cursor is the key of the last row that a client has seen, which the next
 * page continues behind. The client gets it as base64url text and can neither
 * read meaning into it that is not its own row's, nor change it, nor use it for
 * another list: version | scope | expiry | parts, then the first 16 bytes of
 * HMAC-SHA-256 over all of that. Not encrypted: put nothing in it that the
 * client may not see.
 *
 *   0   version, 1
 *   1   scope, 8 bytes          which list, by a hash of the caller's
 *   9   expiry, 4 bytes         seconds since 1970, 0: never
 *   13  number of parts, 0 to HP_CURSOR_PARTS
 *   14  parts: type, length (2 bytes), bytes
 *   n   signature, 16 bytes     integers are big-endian
 *
 * Tests: tests/unit/test_cursor.c, tests/fuzz/fuzz_cursor.c.
 */
#ifndef HP_CURSOR_H
#define HP_CURSOR_H

#include <openssl/sha.h>

#include "hp_base.h"

#define HP_CURSOR_PARTS 8
#define HP_CURSOR_SIGNATURE 16
#define HP_CURSOR_SECRET_MIN 16
#define HP_CURSOR_BYTES_MAX 1536 /* all of it, before base64url */
#define HP_CURSOR_TEXT_MAX 2048

typedef enum {
    HP_CURSOR_OK = 0,
    HP_CURSOR_SYNTAX,  /* no base64url, or too short or too long for one */
    HP_CURSOR_FORGED,  /* no key gives this signature */
    HP_CURSOR_VERSION, /* ours, of another layout */
    HP_CURSOR_FOREIGN, /* ours, of another list */
    HP_CURSOR_EXPIRED
} hp_cursor_status_t;

/* A stable code for a problem document: "cursor_invalid", or "cursor_expired".
 * Why it is invalid is told to logs, not to those who try. */
const char *hp_cursor_code(hp_cursor_status_t status);

/* A secret, ready for use; secret itself. Copy it freely, wipe it with the
 * rest of the configuration. */
typedef struct {
    SHA256_CTX inner;
    SHA256_CTX outer;
} hp_cursor_key_t;

/* 0, or -1 where secret has less than HP_CURSOR_SECRET_MIN bytes. */
int hp_cursor_key(hp_cursor_key_t *key, hp_str_t secret);

/* type: the caller's, it comes back as it went in. */
typedef struct {
    unsigned char type;
    hp_str_t bytes;
} hp_cursor_part_t;

typedef struct {
    unsigned count;
    unsigned key;       /* of the keys given, which one had signed it */
    uint32_t expires_s; /* 0: never */
    hp_cursor_part_t parts[HP_CURSOR_PARTS]; /* point into bytes: not to copy */
    unsigned char bytes[HP_CURSOR_BYTES_MAX];
} hp_cursor_t;

/* Writes the text of a cursor; dst of HP_CURSOR_TEXT_MAX takes any. Returns its
 * length, or 0 where it would be larger than size, there are more than
 * HP_CURSOR_PARTS parts, or they are too long for HP_CURSOR_BYTES_MAX. */
size_t hp_cursor_write(unsigned char *dst, size_t size,
                       const hp_cursor_key_t *key, uint64_t scope,
                       uint32_t expires_s, const hp_cursor_part_t *parts,
                       unsigned count);

/* Reads what a client sent; nkeys: the key in use first, then older ones that
 * still count. *cursor means something with HP_CURSOR_OK only. Time does not
 * depend on where a signature is wrong. */
hp_cursor_status_t hp_cursor_read(hp_cursor_t *cursor, hp_str_t text,
                                  const hp_cursor_key_t *keys, unsigned nkeys,
                                  uint64_t scope, uint64_t now_s);

#endif
