/*
 * test_cursor.c: unit tests of ngx_module/core/hp_cursor.c.
 *
 * The signature against libcrypto's own HMAC() for secrets and payloads of many
 * lengths; what is written comes back; every character of a cursor changed to
 * every other, every shorter length, padding and stray bits are refused;
 * another list, another secret, the second after; old keys still count. Texts
 * are read from blocks of exactly their size.
 *
 * One process, no files; tests/unit/Makefile.
 */
#include "support.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "hp_cursor.h"

#define SCOPE 0x0123456789abcdefu
#define NOW 1700000000u

static hp_cursor_key_t key_of(const char *secret)
{
    hp_cursor_key_t key;

    assert_int_equal(hp_cursor_key(&key, text_of(secret)), 0);
    return key;
}

static hp_cursor_status_t read_with(hp_cursor_t *cursor,
                                    const unsigned char *text, size_t len,
                                    const hp_cursor_key_t *keys, unsigned nkeys)
{
    hp_cursor_status_t status;
    hp_str_t copy;

    copy = exact(text, len);
    status = hp_cursor_read(cursor, copy, keys, nkeys, SCOPE, NOW);
    drop(&copy);
    return status;
}

/* The bytes of a base64url text, by libcrypto. */
static size_t bytes_of(unsigned char *dst, const unsigned char *text,
                       size_t len)
{
    unsigned char padded[HP_CURSOR_TEXT_MAX + 4];
    size_t i, padding;
    int written;

    padding = (4 - len % 4) % 4;

    for (i = 0; i < len + padding; i++) {
        padded[i] = i >= len         ? '='
                    : text[i] == '-' ? '+'
                    : text[i] == '_' ? '/'
                                     : text[i];
    }

    written = EVP_DecodeBlock(dst, padded, (int)(len + padding));
    assert_true(written > 0);
    return (size_t)written - padding;
}

static void test_layout(void **state)
{
    static const unsigned char payload[] = {
        1,    0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x65, 0x53, 0xf1,
        0x01, 2,    7,    0,    3,    'a',  'b',  'c',  0,    0,    0};

    static const char secret[] = "a secret of the list's owner";

    unsigned char text[HP_CURSOR_TEXT_MAX], bytes[HP_CURSOR_BYTES_MAX + 8];
    unsigned char mac[EVP_MAX_MD_SIZE];
    hp_cursor_part_t parts[2];
    hp_cursor_key_t key;
    hp_cursor_t cursor;
    unsigned mac_len;
    size_t len, n;

    (void)state;
    key = key_of(secret);
    parts[0].type = 7;
    parts[0].bytes = text_of("abc");
    parts[1].type = 0;
    parts[1].bytes = (hp_str_t){NULL, 0};
    len = hp_cursor_write(text, sizeof(text), &key, SCOPE, NOW + 1, parts, 2);
    n = bytes_of(bytes, text, len);
    assert_int_equal(n, sizeof(payload) + HP_CURSOR_SIGNATURE);
    assert_memory_equal(bytes, payload, sizeof(payload));

    assert_non_null(HMAC(EVP_sha256(), secret, (int)strlen(secret), payload,
                         sizeof(payload), mac, &mac_len));
    assert_memory_equal(bytes + sizeof(payload), mac, HP_CURSOR_SIGNATURE);

    assert_int_equal(read_with(&cursor, text, len, &key, 1), HP_CURSOR_OK);
    assert_int_equal(cursor.count, 2);
    assert_int_equal(cursor.key, 0);
    assert_int_equal(cursor.expires_s, NOW + 1);
    assert_int_equal(cursor.parts[0].type, 7);
    assert_same(cursor.parts[0].bytes, text_of("abc"));
    assert_int_equal(cursor.parts[1].bytes.len, 0);
}

/* Secrets on both sides of a block, payloads on both sides of many. */
static void test_signature(void **state)
{
    unsigned char secret[200], value[1200], mac[EVP_MAX_MD_SIZE];
    unsigned char text[HP_CURSOR_TEXT_MAX], bytes[HP_CURSOR_BYTES_MAX + 8];
    hp_cursor_part_t part;
    hp_cursor_key_t key;
    hp_cursor_t cursor;
    unsigned mac_len;
    uint64_t random;
    size_t len, n, i;
    hp_str_t copy;
    int round;

    (void)state;
    random = 3;

    for (round = 0; round < 2000; round++) {
        len = 16 + next_random(&random) % (sizeof(secret) - 15);
        n = next_random(&random) % sizeof(value);

        for (i = 0; i < len; i++) {
            secret[i] = (unsigned char)next_random(&random);
        }

        for (i = 0; i < n; i++) {
            value[i] = (unsigned char)next_random(&random);
        }

        copy = exact(secret, len);
        assert_int_equal(hp_cursor_key(&key, copy), 0);
        drop(&copy);
        part.type = (unsigned char)round;
        copy = part.bytes = exact(value, n);
        i = hp_cursor_write(text, sizeof(text), &key, SCOPE, 0, &part, 1);
        drop(&copy);
        assert_int_equal(i, ((14 + 3 + n + 16) * 4 + 2) / 3);
        assert_int_equal(bytes_of(bytes, text, i), 14 + 3 + n + 16);
        assert_non_null(HMAC(EVP_sha256(), secret, (int)len, bytes, 14 + 3 + n,
                             mac, &mac_len));
        assert_memory_equal(bytes + 14 + 3 + n, mac, 16);

        assert_int_equal(read_with(&cursor, text, i, &key, 1), HP_CURSOR_OK);
        assert_int_equal(cursor.count, 1);
        assert_int_equal(cursor.parts[0].type, (unsigned char)round);
        assert_same(cursor.parts[0].bytes, (hp_str_t){value, n});
    }
}

static void test_secret_length(void **state)
{
    hp_cursor_key_t key;

    (void)state;
    assert_int_equal(hp_cursor_key(&key, text_of("")), -1);
    assert_int_equal(hp_cursor_key(&key, text_of("123456789012345")), -1);
    assert_int_equal(hp_cursor_key(&key, text_of("1234567890123456")), 0);
}

static size_t sample(unsigned char *text, const hp_cursor_key_t *key)
{
    hp_cursor_part_t parts[2];

    parts[0].type = 1;
    parts[0].bytes = text_of("2024-02-29T00:00:00Z");
    parts[1].type = 2;
    parts[1].bytes = text_of("8e03978e");
    return hp_cursor_write(text, HP_CURSOR_TEXT_MAX, key, SCOPE, 0, parts, 2);
}

/* Nothing but the text as it was written is taken. */
static void test_tampered(void **state)
{
    unsigned char text[HP_CURSOR_TEXT_MAX], changed[HP_CURSOR_TEXT_MAX];
    hp_cursor_status_t status;
    hp_cursor_key_t key;
    hp_cursor_t cursor;
    size_t len, at;
    unsigned byte;

    (void)state;
    key = key_of("a secret of the list's owner");
    len = sample(text, &key);
    assert_true(len % 4 != 0);
    assert_int_equal(read_with(&cursor, text, len, &key, 1), HP_CURSOR_OK);

    for (at = 0; at < len; at++) {
        assert_true(read_with(&cursor, text, at, &key, 1) != HP_CURSOR_OK);

        for (byte = 0; byte < 256; byte++) {
            if (byte == text[at]) {
                continue;
            }

            memcpy(changed, text, len);
            changed[at] = (unsigned char)byte;
            status = read_with(&cursor, changed, len, &key, 1);
            assert_true(status == HP_CURSOR_SYNTAX ||
                        status == HP_CURSOR_FORGED);
        }

        /* one character taken out, one put in */
        memcpy(changed, text, at);
        memcpy(changed + at, text + at + 1, len - at - 1);
        assert_true(read_with(&cursor, changed, len - 1, &key, 1) !=
                    HP_CURSOR_OK);
        changed[at] = 'A';
        memcpy(changed + at + 1, text + at, len - at);
        assert_true(read_with(&cursor, changed, len + 1, &key, 1) !=
                    HP_CURSOR_OK);
    }

    memcpy(changed, text, len);
    memcpy(changed + len, "==", 2);
    assert_int_equal(read_with(&cursor, changed, len + 4 - len % 4, &key, 1),
                     HP_CURSOR_SYNTAX);
    assert_int_equal(read_with(&cursor, changed, 0, &key, 1), HP_CURSOR_SYNTAX);

    memset(changed, 'A', sizeof(changed));
    assert_int_equal(read_with(&cursor, changed, HP_CURSOR_TEXT_MAX, &key, 1),
                     HP_CURSOR_FORGED);
    assert_int_equal(read_with(&cursor, changed, 39, &key, 1),
                     HP_CURSOR_SYNTAX);
    assert_int_equal(read_with(&cursor, changed, 40, &key, 1),
                     HP_CURSOR_FORGED);
}

static void test_too_long(void **state)
{
    unsigned char text[HP_CURSOR_TEXT_MAX + 1];
    hp_cursor_key_t key;
    hp_cursor_t cursor;

    (void)state;
    key = key_of("a secret of the list's owner");
    memset(text, 'A', sizeof(text));
    assert_int_equal(read_with(&cursor, text, sizeof(text), &key, 1),
                     HP_CURSOR_SYNTAX);
}

static void test_scope_and_expiry(void **state)
{
    static const hp_cursor_part_t part = {0, HP_STR("x")};

    unsigned char text[HP_CURSOR_TEXT_MAX];
    hp_cursor_key_t key;
    hp_cursor_t cursor;
    hp_str_t copy;
    size_t len;
    int bit;

    (void)state;
    key = key_of("a secret of the list's owner");
    len = hp_cursor_write(text, sizeof(text), &key, SCOPE, NOW, &part, 1);
    copy = exact(text, len);

    for (bit = 0; bit < 64; bit++) {
        assert_int_equal(hp_cursor_read(&cursor, copy, &key, 1,
                                        SCOPE ^ (uint64_t)1 << bit, NOW - 1),
                         HP_CURSOR_FOREIGN);
    }

    assert_int_equal(hp_cursor_read(&cursor, copy, &key, 1, SCOPE, NOW - 1),
                     HP_CURSOR_OK);
    assert_int_equal(hp_cursor_read(&cursor, copy, &key, 1, SCOPE, NOW),
                     HP_CURSOR_EXPIRED);
    assert_int_equal(hp_cursor_read(&cursor, copy, &key, 1, SCOPE, UINT64_MAX),
                     HP_CURSOR_EXPIRED);
    drop(&copy);

    len = hp_cursor_write(text, sizeof(text), &key, SCOPE, 0, &part, 1);
    copy = exact(text, len);
    assert_int_equal(hp_cursor_read(&cursor, copy, &key, 1, SCOPE, UINT64_MAX),
                     HP_CURSOR_OK);
    drop(&copy);
}

static void test_rotation(void **state)
{
    unsigned char text[HP_CURSOR_TEXT_MAX];
    hp_cursor_key_t keys[2], other;
    hp_cursor_t cursor;
    size_t len;

    (void)state;
    keys[0] = key_of("the secret of this week");
    keys[1] = key_of("the secret of last week");
    other = key_of("the secret of nobody, ever");

    len = sample(text, &keys[0]);
    assert_int_equal(read_with(&cursor, text, len, keys, 2), HP_CURSOR_OK);
    assert_int_equal(cursor.key, 0);
    len = sample(text, &keys[1]);
    assert_int_equal(read_with(&cursor, text, len, keys, 2), HP_CURSOR_OK);
    assert_int_equal(cursor.key, 1);
    assert_int_equal(read_with(&cursor, text, len, keys, 1), HP_CURSOR_FORGED);
    len = sample(text, &other);
    assert_int_equal(read_with(&cursor, text, len, keys, 2), HP_CURSOR_FORGED);
    assert_int_equal(read_with(&cursor, text, len, keys, 0), HP_CURSOR_FORGED);
}

/* Signed with our key, and yet not what hp_cursor_write() makes. */
static void test_signed_otherwise(void **state)
{
    static const struct {
        unsigned char bytes[24];
        size_t len;
        hp_cursor_status_t status;
    } cases[] = {
        {{1}, 14, HP_CURSOR_OK},
        {{2}, 14, HP_CURSOR_VERSION},
        {{0}, 14, HP_CURSOR_VERSION},
        {{[0] = 1, [13] = 1}, 14, HP_CURSOR_VERSION},
        {{[0] = 1, [13] = 1}, 16, HP_CURSOR_VERSION},
        {{[0] = 1, [13] = 1}, 17, HP_CURSOR_OK},
        {{[0] = 1, [13] = 1}, 18, HP_CURSOR_VERSION},
        {{[0] = 1, [13] = 1, [16] = 2}, 18, HP_CURSOR_VERSION},
        {{[0] = 1, [13] = 1, [15] = 255}, 18, HP_CURSOR_VERSION},
        {{[0] = 1, [13] = 9}, 14, HP_CURSOR_VERSION},
        {{[0] = 1, [13] = 255}, 24, HP_CURSOR_VERSION},
    };

    static const char secret[] = "a secret of the list's owner";

    unsigned char bytes[64], mac[EVP_MAX_MD_SIZE], text[128];
    hp_cursor_key_t key;
    hp_cursor_t cursor;
    hp_str_t copy;
    unsigned mac_len;
    size_t i, j, len;

    (void)state;
    key = key_of(secret);

    for (i = 0; i < COUNT_OF(cases); i++) {
        len = cases[i].len;
        memcpy(bytes, cases[i].bytes, len);
        assert_non_null(HMAC(EVP_sha256(), secret, (int)strlen(secret), bytes,
                             len, mac, &mac_len));
        memcpy(bytes + len, mac, 16);
        len += 16;
        (void)EVP_EncodeBlock(text, bytes, (int)len);
        len = (len * 4 + 2) / 3;

        for (j = 0; j < len; j++) {
            text[j] = text[j] == '+' ? '-' : text[j] == '/' ? '_' : text[j];
        }

        copy = exact(text, len);
        assert_int_equal(hp_cursor_read(&cursor, copy, &key, 1, 0, NOW),
                         cases[i].status);
        drop(&copy);
    }
}

static void test_bounds(void **state)
{
    static const size_t most = HP_CURSOR_BYTES_MAX - 14 - 16 - 3;

    unsigned char text[HP_CURSOR_TEXT_MAX], value[HP_CURSOR_BYTES_MAX];
    hp_cursor_part_t parts[HP_CURSOR_PARTS + 1];
    hp_cursor_key_t key;
    hp_cursor_t cursor;
    hp_str_t small;
    size_t len, size;
    unsigned i;

    (void)state;
    key = key_of("a secret of the list's owner");
    memset(value, 0xff, sizeof(value));

    for (i = 0; i <= HP_CURSOR_PARTS; i++) {
        parts[i].type = (unsigned char)i;
        parts[i].bytes = (hp_str_t){value, i};
    }

    len = hp_cursor_write(text, sizeof(text), &key, SCOPE, 0, parts,
                          HP_CURSOR_PARTS);
    assert_true(len > 0);
    assert_int_equal(read_with(&cursor, text, len, &key, 1), HP_CURSOR_OK);
    assert_int_equal(cursor.count, HP_CURSOR_PARTS);
    assert_int_equal(cursor.parts[7].bytes.len, 7);
    assert_int_equal(hp_cursor_write(text, sizeof(text), &key, SCOPE, 0, parts,
                                     HP_CURSOR_PARTS + 1),
                     0);
    len = hp_cursor_write(text, sizeof(text), &key, SCOPE, 0, NULL, 0);
    assert_int_equal(len, 40);
    assert_int_equal(read_with(&cursor, text, len, &key, 1), HP_CURSOR_OK);
    assert_int_equal(cursor.count, 0);

    parts[0].bytes.len = most;
    len = hp_cursor_write(text, sizeof(text), &key, SCOPE, 0, parts, 1);
    assert_int_equal(len, HP_CURSOR_TEXT_MAX);
    assert_int_equal(read_with(&cursor, text, len, &key, 1), HP_CURSOR_OK);
    assert_int_equal(cursor.parts[0].bytes.len, most);
    parts[0].bytes.len = most + 1;
    assert_int_equal(
        hp_cursor_write(text, sizeof(text), &key, SCOPE, 0, parts, 1), 0);
    parts[0].bytes.len = SIZE_MAX - 8;
    assert_int_equal(
        hp_cursor_write(text, sizeof(text), &key, SCOPE, 0, parts, 1), 0);

    parts[0].bytes.len = 5;

    for (size = 0; size <= 51; size++) {
        small = exact(text, size);
        len = hp_cursor_write((unsigned char *)small.data, size, &key, SCOPE, 0,
                              parts, 1);
        assert_int_equal(len, size == 51 ? 51 : 0);
        drop(&small);
    }
}

static void test_codes(void **state)
{
    (void)state;
    assert_string_equal(hp_cursor_code(HP_CURSOR_OK), "ok");
    assert_string_equal(hp_cursor_code(HP_CURSOR_EXPIRED), "cursor_expired");
    assert_string_equal(hp_cursor_code(HP_CURSOR_SYNTAX), "cursor_invalid");
    assert_string_equal(hp_cursor_code(HP_CURSOR_FORGED), "cursor_invalid");
    assert_string_equal(hp_cursor_code(HP_CURSOR_FOREIGN), "cursor_invalid");
    assert_string_equal(hp_cursor_code(HP_CURSOR_VERSION), "cursor_invalid");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_signature),
        cmocka_unit_test(test_secret_length),
        cmocka_unit_test(test_tampered),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_scope_and_expiry),
        cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_signed_otherwise),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_codes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
