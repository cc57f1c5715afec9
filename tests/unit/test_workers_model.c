/*
 * test_workers_model.c: the form of a read-model file, workers/lib/model.c.
 *
 * Texts only; what PostgreSQL thinks of the SQL inside is for the integration
 * tests. The shipped models are parsed too, from the directory that the build
 * names in HOTPATH_SCHEMAS.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "model.h"

static char error[512];

static void assert_refused(const char *path, const char *text, const char *why)
{
    hpw_model_t model;

    error[0] = 0;
    assert_int_equal(hpw_model_parse(&model, path, text, error, sizeof(error)),
                     -1);
    if (strstr(error, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", error, why);
    hpw_model_free(&model);
}

static void test_whole(void **state)
{
    static const char text[] = "-- model: stock\n"
                               "-- events: a_b , c.d\n"
                               "-- any words\n"
                               "\n"
                               "-- section: table\n"
                               "CREATE TABLE x (\n"
                               "-- model: not a header here\n"
                               ");\n"
                               "-- section: apply\n"
                               "INSERT 1\n"
                               "RETURNING 2;\n"
                               "\n";
    hpw_model_t model;

    (void)state;
    assert_int_equal(hpw_model_parse(&model, "/some/where/stock.sql", text,
                                     error, sizeof(error)),
                     0);
    assert_string_equal(model.name, "stock");
    assert_int_equal(model.event_count, 2);
    assert_string_equal(model.events[0], "a_b");
    assert_string_equal(model.events[1], "c.d");
    assert_string_equal(model.table,
                        "CREATE TABLE x (\n-- model: not a header here\n);\n");
    assert_string_equal(model.apply, "INSERT 1\nRETURNING 2");
    hpw_model_free(&model);
    assert_null(model.table);
}

static void test_carriage_returns(void **state)
{
    hpw_model_t model;

    (void)state;
    assert_int_equal(
        hpw_model_parse(
            &model, "m.sql",
            "-- model: m\r\n-- events: a\r\n-- section: table\r\nT\r\n"
            "-- section: apply\r\nA\r\n",
            error, sizeof(error)),
        0);
    assert_string_equal(model.name, "m");
    assert_string_equal(model.events[0], "a");
    assert_string_equal(model.apply, "A");
    hpw_model_free(&model);
}

#define HEAD "-- model: m\n-- events: a\n"
#define TABLE "-- section: table\nT\n"
#define APPLY "-- section: apply\nA\n"

static void test_refusals(void **state)
{
    (void)state;
    assert_refused("m.sql", "", "no line \"-- model");
    assert_refused("m.sql", "-- model: m\n" TABLE APPLY, "no line \"-- events");
    assert_refused("m.sql", HEAD APPLY, "section table is missing");
    assert_refused("m.sql", HEAD TABLE, "section apply is missing");
    assert_refused("m.sql", HEAD TABLE "-- section: apply\n-- only words\n ;\n",
                   "section apply is missing");
    assert_refused("m.sql", HEAD TABLE TABLE APPLY, "m.sql:5: the section is");
    assert_refused("m.sql", HEAD "-- section: drop\n", "m.sql:3: a section is");
    assert_refused("m.sql", HEAD "SELECT 1;\n", "SQL before the first section");
    assert_refused("m.sql", "-- model: m\n-- model: m\n", "named twice");
    assert_refused("m.sql", "-- events: a\n-- events: b\n", "given twice");
    assert_refused("m.sql", "-- model: M\n", "[a-z]");
    assert_refused("m.sql", "-- model: m; DROP\n", "[a-z]");
    assert_refused("other.sql", HEAD TABLE APPLY, "must be named <model>.sql");
    assert_refused("m.sql.bak", HEAD TABLE APPLY, "must be named <model>.sql");
    assert_refused("m.sql", "-- model: m\n-- events: a,,b\n", "1 to 255");
    assert_refused("m.sql", "-- model: m\n-- events:\n", "1 to 255");
}

static void test_shipped(void **state)
{
    hpw_model_t *models;
    int i, count, prices = 0;

    (void)state;
    assert_int_equal(hpw_models_read(HOTPATH_SCHEMAS "/read_models", &models,
                                     &count, error, sizeof(error)),
                     0);
    for (i = 0; i < count; i++)
        prices += strcmp(models[i].name, "prices") == 0;
    assert_int_equal(prices, 1);
    hpw_models_free(models, count);
    assert_int_equal(
        hpw_models_read("/nonexistent", &models, &count, error, sizeof(error)),
        -1);
    assert_non_null(strstr(error, "/nonexistent"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_carriage_returns),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_shipped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
