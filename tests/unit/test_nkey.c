/*
 * test_nkey.c: unit tests of ngx_module/core/hp_nkey.c.
 *
 * The keys below were made by another program (Python's base64 and
 * cryptography) from the bytes 0 to 31: a user's seed, an account's and a
 * server's, the user's public key, a signature. Every single character of the
 * seed changed must be refused, and every shorter and longer text; so must
 * credentials files that are not whole.
 *
 * One process, no files; tests/unit/Makefile.
 */
#include "support.h"

#include "hp_nkey.h"

#define SEED "SUAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H776Y"
#define PUBLIC "UAB2CB576PHBBPQ5ODORRZ2LYCMWPZGWGCN2KDK7DXOIMZASKUY3RLKK"

static const unsigned char public_raw[HP_NKEY_RAW] = {
    0x03, 0xa1, 0x07, 0xbf, 0xf3, 0xce, 0x10, 0xbe, 0x1d, 0x70, 0xdd,
    0x18, 0xe7, 0x4b, 0xc0, 0x99, 0x67, 0xe4, 0xd6, 0x30, 0x9b, 0xa5,
    0x0d, 0x5f, 0x1d, 0xdc, 0x86, 0x64, 0x12, 0x55, 0x31, 0xb8};

static int seed_of(const char *text, unsigned char *raw)
{
    hp_str_t data = exact_text(text);
    int rc = hp_nkey_seed(raw, data);

    drop(&data);
    return rc;
}

static void test_seed(void **state)
{
    unsigned char raw[HP_NKEY_RAW];
    size_t i;

    (void)state;
    assert_int_equal(strlen(SEED), HP_NKEY_SEED_TEXT);
    assert_int_equal(seed_of(SEED, raw), 0);
    for (i = 0; i < sizeof(raw); i++) {
        assert_int_equal(raw[i], i);
    }
    assert_int_equal(seed_of(" \t" SEED "\r\n", raw), 0);
}

static void test_not_a_seed(void **state)
{
    static const char *const others[] = {
        "",
        " ",
        PUBLIC,
        /* an account's, a server's */
        "SAAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4HYMHI",
        "SOAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H2AJA",
        "suaaaaicamcakbqhbaequcymbuha6earcijrifiwc4mbsgq3dqor4h776y",
        SEED "A",
        SEED "======",
        "A" SEED,
    };
    unsigned char raw[HP_NKEY_RAW];
    char text[] = SEED;
    size_t i;
    int c;

    (void)state;
    memset(raw, 0xaa, sizeof(raw));
    for (i = 0; i < COUNT_OF(others); i++) {
        assert_int_equal(seed_of(others[i], raw), -1);
    }
    for (i = 0; i < strlen(SEED); i++) {
        for (c = 1; c < 256; c++) {
            if (c == SEED[i]) {
                continue;
            }
            text[i] = (char)c;
            if (seed_of(text, raw) == 0) {
                fail_msg("taken with %d at %zu", c, i);
            }
        }
        text[i] = SEED[i];
    }
    for (i = 0; i < strlen(SEED); i++) {
        text[strlen(SEED) - 1 - i] = 0;
        assert_int_equal(seed_of(text, raw), -1);
    }
    /* what is refused leaves nothing behind */
    for (i = 0; i < sizeof(raw); i++) {
        assert_int_equal(raw[i], 0xaa);
    }
}

static void test_public(void **state)
{
    unsigned char text[HP_NKEY_PUBLIC_TEXT];

    (void)state;
    assert_int_equal(strlen(PUBLIC), HP_NKEY_PUBLIC_TEXT);
    hp_nkey_public(text, public_raw);
    assert_memory_equal(text, PUBLIC, sizeof(text));
}

static void test_signature(void **state)
{
    static const char expected[] =
        "-HTq4d6DDHVNb8MsTRAZtSIa0vXA_yuZblwTA7JT5wYzmKBxJ2wpYfjHh7hcptZlidbVw_"
        "6ZLyubjm_yDk-OCQ";
    static const unsigned char raw[HP_NKEY_SIGNATURE] = {
        0xf8, 0x74, 0xea, 0xe1, 0xde, 0x83, 0x0c, 0x75, 0x4d, 0x6f, 0xc3,
        0x2c, 0x4d, 0x10, 0x19, 0xb5, 0x22, 0x1a, 0xd2, 0xf5, 0xc0, 0xff,
        0x2b, 0x99, 0x6e, 0x5c, 0x13, 0x03, 0xb2, 0x53, 0xe7, 0x06, 0x33,
        0x98, 0xa0, 0x71, 0x27, 0x6c, 0x29, 0x61, 0xf8, 0xc7, 0x87, 0xb8,
        0x5c, 0xa6, 0xd6, 0x65, 0x89, 0xd6, 0xd5, 0xc3, 0xfe, 0x99, 0x2f,
        0x2b, 0x9b, 0x8e, 0x6f, 0xf2, 0x0e, 0x4f, 0x8e, 0x09};
    unsigned char text[HP_NKEY_SIGNATURE_TEXT];

    (void)state;
    hp_nkey_signature(text, raw);
    assert_int_equal(strlen(expected), sizeof(text));
    assert_memory_equal(text, expected, sizeof(text));
}

#define FILE_HEAD                                                              \
    "-----BEGIN NATS USER JWT-----\neyJ0.eyJq.A-_9\n"                          \
    "------END NATS USER JWT------\n\n"
#define FILE_TAIL                                                              \
    "************************* IMPORTANT *************************\n"          \
    "NKEY Seed printed below can be used to sign and prove identity.\n\n"      \
    "-----BEGIN USER NKEY SEED-----\n" SEED "\n"                               \
    "------END USER NKEY SEED------\n"

static int credentials(const char *file, const char *jwt, const char *seed)
{
    hp_str_t data = exact_text(file), one, two;
    int rc = hp_nkey_credentials(data, &one, &two);

    if (rc == 0) {
        assert_int_equal(one.len, strlen(jwt));
        assert_memory_equal(one.data, jwt, one.len);
        assert_int_equal(two.len, strlen(seed));
        assert_memory_equal(two.data, seed, two.len);
    }
    drop(&data);
    return rc;
}

static void test_credentials(void **state)
{
    static const char *const broken[] = {
        "",
        SEED,
        FILE_HEAD,
        FILE_TAIL,
        FILE_HEAD "-----BEGIN-----\n" SEED "\n",
        FILE_HEAD "-----BEGIN-----\n-----END-----\n",
        FILE_HEAD "-----BEGIN-----\n" SEED "\n" SEED "\n-----END-----\n",
        "-----\na.b\n-----\n" FILE_TAIL,
        "-----\na.b.c.d\n-----\n" FILE_TAIL,
        "-----\na..c\n-----\n" FILE_TAIL,
        "-----\n.b.c\n-----\n" FILE_TAIL,
        "-----\na.b.\n-----\n" FILE_TAIL,
        "-----\na.b.\"\n-----\n" FILE_TAIL,
        "-----\na.b.c=\n-----\n" FILE_TAIL,
    };
    size_t i;

    (void)state;
    assert_int_equal(credentials(FILE_HEAD FILE_TAIL, "eyJ0.eyJq.A-_9", SEED),
                     0);
    assert_int_equal(credentials("---\r\n\r\na.b.c\r\n---\r\n---\r\n " SEED
                                 " \r\n---",
                                 "a.b.c", SEED),
                     0);
    for (i = 0; i < COUNT_OF(broken); i++) {
        if (credentials(broken[i], "", "") == 0) {
            fail_msg("taken for credentials: %s", broken[i]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seed),        cmocka_unit_test(test_not_a_seed),
        cmocka_unit_test(test_public),      cmocka_unit_test(test_signature),
        cmocka_unit_test(test_credentials),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
