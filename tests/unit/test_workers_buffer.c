/*
 * test_workers_buffer.c: workers/lib/buffer.c, byte by byte.
 *
 * What is written for PostgreSQL is compared with bytes put down here by hand
 * from the documentation of its binary formats; that the server takes them is
 * shown by the integration tests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "buffer.h"

static hp_str_t text(const char *s)
{
    return (hp_str_t){(const unsigned char *)s, strlen(s)};
}

static void assert_bytes(const hpw_buf_t *buf, const void *expected, size_t len)
{
    assert_int_equal(buf->len, len);
    assert_memory_equal(buf->data, expected, len);
}

static void test_grows(void **state)
{
    hpw_buf_t buf = {0};
    size_t i;

    (void)state;
    for (i = 0; i < 100000; i++)
        hpw_buf_add(&buf, "0123456789", 10);
    assert_int_equal(buf.len, 1000000);
    for (i = 0; i < buf.len; i++)
        assert_int_equal(buf.data[i], '0' + i % 10);
    hpw_buf_printf(&buf, "%d-%s", 42, "x");
    assert_int_equal(buf.len, 1000004);
    assert_string_equal(hpw_buf_text(&buf) + 1000000, "42-x");
    assert_int_equal(buf.len, 1000004);
    hpw_buf_free(&buf);
    assert_null(buf.data);
}

static void test_array_of_text(void **state)
{
    static const unsigned char expected[] = {
        0, 0, 0, 1, 0, 0, 0, 1,   0,   0,    0,    25,   0,    0, 0, 3, 0,
        0, 0, 1, 0, 0, 0, 2, 'a', 'b', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0};
    hpw_buf_t buf = {0};

    (void)state;
    hpw_buf_add(&buf, "left over", 9);
    hpw_array_begin(&buf, HPW_OID_TEXT, 3, 1);
    hpw_put_text(&buf, text("ab"));
    hpw_put_null(&buf);
    hpw_put_text(&buf, text(""));
    assert_bytes(&buf, expected, sizeof(expected));
    hpw_buf_free(&buf);
}

static void test_empty_array(void **state)
{
    static const unsigned char expected[12] = {[10] = 0x0b, [11] = 0x86};
    hpw_buf_t buf = {0};

    (void)state;
    hpw_array_begin(&buf, HPW_OID_UUID, 0, 0);
    assert_bytes(&buf, expected, sizeof(expected));
    hpw_buf_free(&buf);
}

static void test_numbers_and_time(void **state)
{
    static const unsigned char expected[] = {
        0, 0, 0, 4, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8,
        /* 2000-01-01 and one microsecond */
        0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1,
        /* no lower than one above "-infinity" */
        0, 0, 0, 8, 0x80, 0, 0, 0, 0, 0, 0, 1};
    hpw_buf_t buf = {0};

    (void)state;
    hpw_put_int4(&buf, -2);
    hpw_put_int8(&buf, 0x0102030405060708);
    hpw_put_time(&buf, HPW_EPOCH_2000_US + 1);
    hpw_put_time(&buf, INT64_MIN);
    assert_bytes(&buf, expected, sizeof(expected));
    assert_int_equal(hpw_get_int4(buf.data + 4), -2);
    assert_true(hpw_get_int8(buf.data + 12) == 0x0102030405060708);
    hpw_buf_free(&buf);
}

static void test_copy(void **state)
{
    static const unsigned char expected[] = {
        'P', 'G', 'C', 'O', 'P',  'Y',  '\n', 0xff, '\r', '\n', 0, 0,
        0,   0,   0,   0,   0,    0,    0,    0,    2,    0,    0, 0,
        3,   1,   '{', '}', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    hpw_buf_t buf = {0};

    (void)state;
    hpw_copy_begin(&buf);
    hpw_copy_row(&buf, 2);
    hpw_put_jsonb(&buf, text("{}"));
    hpw_put_null(&buf);
    hpw_copy_end(&buf);
    assert_bytes(&buf, expected, sizeof(expected));
    hpw_buf_free(&buf);
}

static void test_utf8(void **state)
{
    static const char *const good[] = {"",
                                       "plain",
                                       "\xc3\xa9",
                                       "\xe2\x82\xac",
                                       "\xf0\x9f\x98\x80",
                                       "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80",
                                      "\xc3",
                                      "\xc0\xaf",
                                      "\xe0\x80\xaf",
                                      "\xed\xa0\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf8\x88\x80\x80\x80",
                                      "\xe2\x82",
                                      "\xff",
                                      "a\xc3(b"};
    size_t i;

    (void)state;
    for (i = 0; i < sizeof(good) / sizeof(*good); i++)
        assert_true(hpw_utf8_valid(text(good[i])));
    for (i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_false(hpw_utf8_valid(text(bad[i])));
    assert_false(hpw_utf8_valid((hp_str_t){(const unsigned char *)"a\0b", 3}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grows),
        cmocka_unit_test(test_array_of_text),
        cmocka_unit_test(test_empty_array),
        cmocka_unit_test(test_numbers_and_time),
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_utf8),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
