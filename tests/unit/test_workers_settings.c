/*
 * test_workers_settings.c: workers/lib/settings.c.
 *
 * Files are written to a temporary directory of the test's own; environment
 * variables are set and removed here. Every refusal must name what is wrong.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "settings.h"

typedef struct {
    hpw_common_t common;
    int64_t size;
    const char *color;
} test_settings_t;

static const hpw_setting_t own[] = {
    {"size", HPW_SETTING_INT, offsetof(test_settings_t, size), "7", 1, 9, ""},
    {"color", HPW_SETTING_TEXT, offsetof(test_settings_t, color), "red", 1, 8,
     ""},
    {0},
};

static const hpw_program_t program = {"test", "a test", "", own};
static test_settings_t settings;
static char error[512];

/* Loads text as a file; NULL: no file. */
static int load(const char *text)
{
    char path[] = "/tmp/hotpath-settings-XXXXXX";
    int rc, fd;

    error[0] = 0;
    if (text == NULL)
        return hpw_settings_load(&program, &settings.common, NULL, error,
                                 sizeof(error));
    fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    rc = hpw_settings_load(&program, &settings.common, path, error,
                           sizeof(error));
    unlink(path);
    return rc;
}

static void assert_refused(const char *text, const char *because)
{
    assert_int_equal(load(text), -1);
    if (strstr(error, because) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", error, because);
}

static void test_defaults(void **state)
{
    (void)state;
    assert_int_equal(load(NULL), 0);
    assert_int_equal(settings.size, 7);
    assert_string_equal(settings.color, "red");
    assert_int_equal(settings.common.partitions, 2);
    assert_string_equal(settings.common.stream_prefix, "HOTPATH_EVENTS");
}

static void test_file_then_environment(void **state)
{
    (void)state;
    assert_int_equal(
        load("{\"size\": 3, \"color\": \"blue\", \"partitions\": 4}"), 0);
    assert_int_equal(settings.size, 3);
    assert_string_equal(settings.color, "blue");
    assert_int_equal(settings.common.partitions, 4);

    setenv("HOTPATH_SIZE", "5", 1);
    assert_int_equal(load("{\"size\": 3}"), 0);
    assert_int_equal(settings.size, 5);
    assert_string_equal(settings.color, "red");

    setenv("HOTPATH_SIZE", "five", 1);
    assert_refused(NULL, "HOTPATH_SIZE");
    setenv("HOTPATH_SIZE", "", 1);
    assert_refused(NULL, "HOTPATH_SIZE");
    setenv("HOTPATH_SIZE", "99999999999999999999", 1);
    assert_refused(NULL, "HOTPATH_SIZE");
    unsetenv("HOTPATH_SIZE");
}

static void test_refusals(void **state)
{
    (void)state;
    assert_refused("{\"sise\": 3}", "unknown setting \"sise\"");
    assert_refused("{\"size\": \"3\"}", "size must be a number");
    assert_refused("{\"color\": 3}", "color must be a string");
    assert_refused("{\"size\": 0}", "from 1 to 9");
    assert_refused("{\"size\": 10}", "from 1 to 9");
    assert_refused("{\"size\": 1.5}", "whole number");
    assert_refused("{\"color\": \"\"}", "1 to 8 characters");
    assert_refused("{\"color\": \"ultraviolet\"}", "1 to 8 characters");
    assert_refused("{\"color\": null}", "must be a string");
    assert_refused("{\"size\": 3, \"size\": 4}", "twice");
    assert_refused("{\"size\": {}}", "must be a number");
    assert_refused("[]", "no JSON object");
    assert_refused("{\"size\": 3} x", "no JSON object");
    assert_refused("{\"size\": 3", "no JSON object");
    assert_refused("", "no JSON object");
}

static void test_no_file(void **state)
{
    (void)state;
    assert_int_equal(hpw_settings_load(&program, &settings.common,
                                       "/nonexistent/file", error,
                                       sizeof(error)),
                     -1);
    assert_non_null(strstr(error, "/nonexistent/file"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_file_then_environment),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_no_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
