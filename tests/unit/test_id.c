/*
 * test_id.c: unit tests of ngx_module/core/hp_id.c.
 *
 * Ids, fingerprints, partitions and hashes against schemas/golden/ids.json,
 * which another implementation wrote; then what no vector shows: text forms
 * both ways, the bits of version and variant, the rules for tenants and
 * models at their edges, empty inputs without a pointer.
 *
 * One process, no files but the golden ones; built with AddressSanitizer and
 * UndefinedBehaviorSanitizer by tests/unit/Makefile.
 */
#include "support.h"

#include "hp_id.h"

static void test_operation_ids(void **state)
{
    hp_str_t tenant, route, key, expected;
    unsigned char id[HP_UUID_SIZE];
    const cJSON *item;
    char text[HP_UUID_TEXT];
    cJSON *json;

    (void)state;
    json = golden("ids.json");

    cJSON_ArrayForEach(item, golden_list(json, "operations"))
    {
        tenant = golden_bytes(item, "tenant");
        route = golden_bytes(item, "route");
        key = golden_bytes(item, "key");
        expected = golden_bytes(item, "id");

        hp_operation_id(id, tenant, route, key);
        assert_int_equal(expected.len, HP_UUID_SIZE);
        assert_memory_equal(id, expected.data, HP_UUID_SIZE);
        assert_int_equal(id[6] >> 4, 8);
        assert_int_equal(id[8] >> 6, 2);

        hp_uuid_format(text, id);
        assert_memory_equal(text, golden_text(item, "text"), HP_UUID_TEXT);

        drop(&tenant);
        drop(&route);
        drop(&key);
        drop(&expected);
    }

    cJSON_Delete(json);
}

static void test_fingerprints(void **state)
{
    unsigned char fp[HP_FINGERPRINT_SIZE];
    hp_str_t type, payload, expected;
    const cJSON *item;
    cJSON *json;

    (void)state;
    json = golden("ids.json");

    cJSON_ArrayForEach(item, golden_list(json, "fingerprints"))
    {
        type = golden_bytes(item, "type");
        payload = golden_bytes(item, "payload");
        expected = golden_bytes(item, "fingerprint");

        hp_fingerprint(fp, type, payload);
        assert_int_equal(expected.len, HP_FINGERPRINT_SIZE);
        assert_memory_equal(fp, expected.data, HP_FINGERPRINT_SIZE);

        drop(&type);
        drop(&payload);
        drop(&expected);
    }

    cJSON_Delete(json);
}

static void test_partitions(void **state)
{
    hp_str_t tenant, key, id;
    const cJSON *item;
    cJSON *json;

    (void)state;
    json = golden("ids.json");

    cJSON_ArrayForEach(item, golden_list(json, "partitions"))
    {
        tenant = golden_bytes(item, "tenant");
        key = golden_bytes(item, "partition_key");
        id = golden_bytes(item, "id");

        assert_int_equal(
            hp_partition(tenant, key, id.data,
                         (uint32_t)golden_number(item, "partitions")),
            (uint32_t)golden_number(item, "partition"));

        drop(&tenant);
        drop(&key);
        drop(&id);
    }

    cJSON_Delete(json);
}

/* All partitions are used, none much more than another, and 0 of them does
 * not divide by zero. */
static void test_partition_spread(void **state)
{
    unsigned char id[HP_UUID_SIZE] = {0};
    const hp_str_t none = {NULL, 0};
    unsigned counts[8] = {0};
    unsigned i, partition;
    char key[16];

    (void)state;

    for (i = 0; i < 8000; i++) {
        snprintf(key, sizeof(key), "%u", i);
        partition = hp_partition(text_of("acme"), text_of(key), id, 8);
        assert_in_range(partition, 0, 7);
        counts[partition]++;
    }

    for (i = 0; i < 8; i++) {
        assert_in_range(counts[i], 800, 1200);
    }

    assert_int_equal(hp_partition(none, none, id, 0), 0);
    assert_int_equal(hp_partition(none, none, id, 1), 0);
    assert_in_range(hp_partition(none, none, id, 2), 0, 1);
}

static void test_hash64(void **state)
{
    const cJSON *item;
    hp_str_t data;
    cJSON *json;

    (void)state;
    json = golden("ids.json");

    cJSON_ArrayForEach(item, golden_list(json, "xxh64"))
    {
        data = golden_bytes(item, "data");
        assert_true(
            hp_hash64(data.data, data.len, golden_unsigned(item, "seed")) ==
            golden_unsigned(item, "hash"));
        drop(&data);
    }

    cJSON_Delete(json);
    assert_true(hp_hash64(NULL, 0, 0) == 0xef46db3751d8e999u);
}

static void test_uuid7(void **state)
{
    unsigned char id[HP_UUID_SIZE];
    hp_str_t random, expected;
    const cJSON *item;
    cJSON *json;

    (void)state;
    json = golden("ids.json");

    cJSON_ArrayForEach(item, golden_list(json, "uuid7"))
    {
        random = golden_bytes(item, "random");
        expected = golden_bytes(item, "id");
        assert_int_equal(random.len, 10);

        hp_uuid7(id, golden_unsigned(item, "unix_ms"), random.data);
        assert_memory_equal(id, expected.data, HP_UUID_SIZE);
        assert_int_equal(id[6] >> 4, 7);
        assert_int_equal(id[8] >> 6, 2);

        drop(&random);
        drop(&expected);
    }

    cJSON_Delete(json);
}

/* Later times sort later, whatever the random bytes are. */
static void test_uuid7_order(void **state)
{
    unsigned char early[HP_UUID_SIZE], late[HP_UUID_SIZE];
    unsigned char ones[10], zeros[10] = {0};
    uint64_t ms;

    (void)state;
    memset(ones, 0xff, sizeof(ones));

    for (ms = 1; ms < (uint64_t)1 << 47; ms *= 2) {
        hp_uuid7(early, ms - 1, ones);
        hp_uuid7(late, ms, zeros);
        assert_true(memcmp(early, late, HP_UUID_SIZE) < 0);
    }
}

static void test_uuid_text(void **state)
{
    unsigned char id[HP_UUID_SIZE], again[HP_UUID_SIZE];
    char text[HP_UUID_TEXT];
    uint64_t random = 7;
    hp_str_t copy;
    int round, i;

    (void)state;

    for (round = 0; round < 1000; round++) {
        for (i = 0; i < HP_UUID_SIZE; i++) {
            id[i] = (unsigned char)next_random(&random);
        }

        hp_uuid_format(text, id);
        copy = exact(text, HP_UUID_TEXT);
        memset(again, 0, sizeof(again));
        assert_int_equal(hp_uuid_parse(again, copy), 0);
        assert_memory_equal(again, id, HP_UUID_SIZE);
        drop(&copy);
    }
}

static void test_uuid_parse(void **state)
{
    static const char good[] = "00112233-4455-8677-8899-aabbccddeeff";
    static const unsigned char bytes[HP_UUID_SIZE] = {
        0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x86, 0x77,
        0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};

    unsigned char id[HP_UUID_SIZE], untouched[HP_UUID_SIZE];
    char text[HP_UUID_TEXT + 1];
    hp_str_t copy;
    size_t i;
    int c;

    (void)state;

    assert_int_equal(hp_uuid_parse(id, text_of(good)), 0);
    assert_memory_equal(id, bytes, HP_UUID_SIZE);
    assert_int_equal(
        hp_uuid_parse(id, text_of("00112233-4455-8677-8899-AABBCCDDEEFF")), 0);
    assert_memory_equal(id, bytes, HP_UUID_SIZE);

    memset(id, 0x5a, sizeof(id));
    memset(untouched, 0x5a, sizeof(untouched));

    /* every length but the right one */
    for (i = 0; i < HP_UUID_TEXT; i++) {
        copy = exact(good, i);
        assert_int_equal(hp_uuid_parse(id, copy), -1);
        drop(&copy);
    }

    assert_int_equal(
        hp_uuid_parse(id, text_of("00112233-4455-8677-8899-aabbccddeeff0")),
        -1);
    assert_int_equal(
        hp_uuid_parse(id, text_of("{0112233-4455-8677-8899-aabbccddeef}")), -1);
    assert_int_equal(
        hp_uuid_parse(id, text_of("001122334455867788899aabbccddeeff000")), -1);

    /* every byte value at every place: only digits, and '-' where it belongs */
    for (i = 0; i < HP_UUID_TEXT; i++) {
        for (c = 0; c < 256; c++) {
            int dash = good[i] == '-';
            int hex = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') ||
                      (c >= 'A' && c <= 'F');

            memcpy(text, good, sizeof(good));
            text[i] = (char)c;

            if (dash ? c == '-' : hex) {
                continue;
            }

            assert_int_equal(hp_uuid_parse(id, text_of(good)), 0);
            memcpy(id, untouched, sizeof(id));
            copy = exact(text, HP_UUID_TEXT);
            assert_int_equal(hp_uuid_parse(id, copy), -1);
            drop(&copy);
            assert_memory_equal(id, untouched, sizeof(id));
        }
    }
}

static void test_hex(void **state)
{
    static const unsigned char bytes[] = {0x00, 0x09, 0x0a, 0x0f,
                                          0x10, 0x9f, 0xa0, 0xff};

    char text[17];

    (void)state;
    memset(text, 'x', sizeof(text));
    hp_hex(text, bytes, 0);
    assert_int_equal(text[0], 'x');
    hp_hex(text, bytes, sizeof(bytes));
    assert_memory_equal(text, "00090a0f109fa0ffx", 17);
}

static void test_tenant_valid(void **state)
{
    char text[HP_TENANT_MAX + 2];
    int c, expected;

    (void)state;
    memset(text, 'a', sizeof(text));

    assert_int_equal(hp_tenant_valid((hp_str_t){NULL, 0}), 0);
    assert_int_equal(hp_tenant_valid((hp_str_t){(unsigned char *)text, 64}), 1);
    assert_int_equal(hp_tenant_valid((hp_str_t){(unsigned char *)text, 65}), 0);

    for (c = 0; c < 256; c++) {
        expected = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                   (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
        text[1] = (char)c;
        assert_int_equal(hp_tenant_valid((hp_str_t){(unsigned char *)text, 3}),
                         expected);
    }
}

static void test_model_valid(void **state)
{
    char text[65];
    int c, lower, digit;

    (void)state;
    memset(text, 'a', sizeof(text));

    assert_int_equal(hp_model_valid((hp_str_t){NULL, 0}), 0);
    assert_int_equal(hp_model_valid(text_of("p")), 1);
    assert_int_equal(hp_model_valid(text_of("prices")), 1);
    assert_int_equal(hp_model_valid((hp_str_t){(unsigned char *)text, 63}), 1);
    assert_int_equal(hp_model_valid((hp_str_t){(unsigned char *)text, 64}), 0);

    for (c = 0; c < 256; c++) {
        lower = c >= 'a' && c <= 'z';
        digit = c >= '0' && c <= '9';
        text[0] = (char)c;
        assert_int_equal(hp_model_valid((hp_str_t){(unsigned char *)text, 2}),
                         lower);
        text[0] = 'a';
        text[1] = (char)c;
        assert_int_equal(hp_model_valid((hp_str_t){(unsigned char *)text, 3}),
                         lower || digit || c == '_');
        text[1] = 'a';
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_operation_ids),
        cmocka_unit_test(test_fingerprints),
        cmocka_unit_test(test_partitions),
        cmocka_unit_test(test_partition_spread),
        cmocka_unit_test(test_hash64),
        cmocka_unit_test(test_uuid7),
        cmocka_unit_test(test_uuid7_order),
        cmocka_unit_test(test_uuid_text),
        cmocka_unit_test(test_uuid_parse),
        cmocka_unit_test(test_hex),
        cmocka_unit_test(test_tenant_valid),
        cmocka_unit_test(test_model_valid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
