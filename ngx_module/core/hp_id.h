/*
 * hp_id.h: operation ids, fingerprints, partitions, and their text forms.
 *
 * Derived, not drawn: two instances that never spoke give one client key the
 * same operation id. The exact bytes hashed are in schemas/framing.md, with
 * golden vectors in schemas/golden/ids.json.
 */
#ifndef HP_ID_H
#define HP_ID_H

#include "hp_base.h"

/* UUIDv8 (RFC 9562 section 5.8) of SHA-256 over tenant, route and key. */
void hp_operation_id(unsigned char id[HP_UUID_SIZE], hp_str_t tenant,
                     hp_str_t route, hp_str_t key);

/* UUIDv7 (RFC 9562 section 5.7) from a Unix time in ms and 10 random bytes. */
void hp_uuid7(unsigned char id[HP_UUID_SIZE], uint64_t unix_ms,
              const unsigned char random[10]);

/* 36 lower-case characters, not terminated. */
void hp_uuid_format(char text[HP_UUID_TEXT],
                    const unsigned char id[HP_UUID_SIZE]);

/* 0, or -1 where text is not a UUID in its 36 character form. */
int hp_uuid_parse(unsigned char id[HP_UUID_SIZE], hp_str_t text);

/* SHA-256 over type and compacted payload. */
void hp_fingerprint(unsigned char fp[HP_FINGERPRINT_SIZE], hp_str_t type,
                    hp_str_t payload);

/* 0 to partitions - 1; an empty partition_key means: use the operation id. */
uint32_t hp_partition(hp_str_t tenant, hp_str_t partition_key,
                      const unsigned char id[HP_UUID_SIZE],
                      uint32_t partitions);

/* 1 where text is 1 to 64 of [A-Za-z0-9._-], the rule for tenants. */
int hp_tenant_valid(hp_str_t text);

/* 1 where text is [a-z][a-z0-9_]{0,62}, the rule for model names. */
int hp_model_valid(hp_str_t text);

/* Lower-case hex, 2 * len characters, not terminated. */
void hp_hex(char *dst, const unsigned char *src, size_t len);

/* XXH64 with a seed; for tables in memory (seeded at random by the owner). */
uint64_t hp_hash64(const void *data, size_t len, uint64_t seed);

#endif
