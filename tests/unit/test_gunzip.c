/*
 * test_gunzip.c: unit tests of ngx_module/core/hp_gunzip.c.
 *
 * Texts coded here by zlib's own deflate, decoded into room of every size; each
 * prefix, each byte changed and each byte behind is refused for its reason. One
 * hp_gunzip_t does them all, so that nothing of one is left for the next.
 * Inputs and room are blocks of exactly their size, for AddressSanitizer. One
 * process, no files; tests/unit/Makefile.
 */
#include "support.h"

#include "hp_gunzip.h"

#define ROOM 200000

static hp_gunzip_t gunzip;

/* Appends text as one member; returns the new length. */
static size_t code(unsigned char *dst, size_t len, const void *text,
                   size_t text_len, int window_bits)
{
    z_stream stream;

    memset(&stream, 0, sizeof(stream));
    assert_int_equal(deflateInit2(&stream, 6, Z_DEFLATED, window_bits, 8,
                                  Z_DEFAULT_STRATEGY),
                     Z_OK);
    stream.next_in = (Bytef *)(uintptr_t)text;
    stream.avail_in = (uInt)text_len;
    stream.next_out = dst + len;
    stream.avail_out = (uInt)(ROOM - len);
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    len += stream.total_out;
    deflateEnd(&stream);
    return len;
}

/* Decodes in steps of that size, into room of that size in all. */
static hp_gunzip_status_t decode(const unsigned char *src, size_t src_len,
                                 size_t step, unsigned char *dst, size_t size,
                                 size_t *len)
{
    hp_gunzip_status_t status;
    unsigned char *copy, *piece;
    hp_str_t text;
    size_t one;

    copy = malloc(src_len == 0 ? 1 : src_len);
    piece = malloc(step);
    assert_non_null(copy);
    assert_non_null(piece);
    memcpy(copy, src, src_len);
    text.data = copy;
    text.len = src_len;
    *len = 0;
    status = hp_gunzip_begin(&gunzip, text);

    while (status == HP_GUNZIP_MORE && *len < size) {
        status = hp_gunzip_next(&gunzip, piece, step, &one);
        assert_true(one <= step);
        assert_true(one <= size - *len);
        assert_true(status != HP_GUNZIP_MORE || one == step);
        memcpy(dst + *len, piece, one);
        *len += one;
    }

    free(copy);
    free(piece);
    return status;
}

static unsigned char coded[ROOM], text[ROOM], out[ROOM];

static void test_texts(void **state)
{
    static const size_t lengths[] = {0, 1, 2, 100, 32768, 65537, 100000};
    static const size_t steps[] = {1, 7, 4096, 100000, 150000};
    size_t i, j, len, coded_len;
    hp_gunzip_status_t status;

    (void)state;

    for (i = 0; i < sizeof(text); i++) {
        text[i] = (unsigned char)(i * i / 7 + i % 251);
    }

    for (i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        coded_len = code(coded, 0, text, lengths[i], 16 + MAX_WBITS);

        for (j = 0; j < sizeof(steps) / sizeof(steps[0]); j++) {
            status = decode(coded, coded_len, steps[j], out, ROOM, &len);
            assert_int_equal(status, HP_GUNZIP_DONE);
            assert_int_equal(len, lengths[i]);
            assert_memory_equal(out, text, len);
        }
    }
}

static void test_members(void **state)
{
    size_t coded_len, len;

    (void)state;
    coded_len = code(coded, 0, "one ", 4, 16 + MAX_WBITS);
    coded_len = code(coded, coded_len, "", 0, 16 + MAX_WBITS);
    coded_len = code(coded, coded_len, "two", 3, 16 + MAX_WBITS);
    assert_int_equal(decode(coded, coded_len, 3, out, ROOM, &len),
                     HP_GUNZIP_DONE);
    assert_int_equal(len, 7);
    assert_memory_equal(out, "one two", 7);
}

/* A bomb is given out only as far as there is room. */
static void test_room(void **state)
{
    size_t coded_len, len;

    (void)state;
    memset(text, ' ', sizeof(text));
    coded_len = code(coded, 0, text, sizeof(text), 16 + MAX_WBITS);
    assert_true(coded_len < 1000);
    assert_int_equal(decode(coded, coded_len, 100, out, 500, &len),
                     HP_GUNZIP_MORE);
    assert_int_equal(len, 500);
}

static void test_cut(void **state)
{
    size_t coded_len, len, i;

    (void)state;
    coded_len = code(coded, 0, "{\"a\":[1,2,3]}", 13, 16 + MAX_WBITS);

    for (i = 0; i < coded_len; i++) {
        assert_int_equal(decode(coded, i, 5, out, ROOM, &len), HP_GUNZIP_CUT);
    }
}

/* No byte but those that say nothing (time, system) may be another. */
static void test_damaged(void **state)
{
    size_t coded_len, len, i;
    hp_gunzip_status_t status;

    (void)state;
    coded_len = code(coded, 0, "{\"a\":[1,2,3]}", 13, 16 + MAX_WBITS);

    for (i = 0; i < coded_len; i++) {
        if (i >= 4 && i <= 9) {
            continue;
        }

        coded[i] ^= 0x41;
        status = decode(coded, coded_len, 5, out, ROOM, &len);
        assert_true(status == HP_GUNZIP_INVALID || status == HP_GUNZIP_CUT);
        coded[i] ^= 0x41;
    }

    assert_int_equal(decode(coded, coded_len, 5, out, ROOM, &len),
                     HP_GUNZIP_DONE);
}

static void test_behind(void **state)
{
    size_t coded_len, len;

    (void)state;
    coded_len = code(coded, 0, "x", 1, 16 + MAX_WBITS);
    memset(coded + coded_len, 0, 20);

    /* one byte might still become a member */
    assert_int_equal(decode(coded, coded_len + 1, 5, out, ROOM, &len),
                     HP_GUNZIP_CUT);
    assert_int_equal(decode(coded, coded_len + 20, 5, out, ROOM, &len),
                     HP_GUNZIP_INVALID);
    coded[coded_len] = 'x';
    assert_int_equal(decode(coded, coded_len + 2, 5, out, ROOM, &len),
                     HP_GUNZIP_INVALID);
}

static void test_other_formats(void **state)
{
    size_t coded_len, len;

    (void)state;
    coded_len = code(coded, 0, "zlib", 4, MAX_WBITS);
    assert_int_equal(decode(coded, coded_len, 5, out, ROOM, &len),
                     HP_GUNZIP_INVALID);
    coded_len = code(coded, 0, "bare", 4, -MAX_WBITS);
    assert_int_equal(decode(coded, coded_len, 5, out, ROOM, &len),
                     HP_GUNZIP_INVALID);
    assert_int_equal(decode((const unsigned char *)"{}", 2, 5, out, ROOM, &len),
                     HP_GUNZIP_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),         cmocka_unit_test(test_members),
        cmocka_unit_test(test_room),          cmocka_unit_test(test_cut),
        cmocka_unit_test(test_damaged),       cmocka_unit_test(test_behind),
        cmocka_unit_test(test_other_formats),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
