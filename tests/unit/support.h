/*
 * support.h: what the unit tests share: cmocka in its order, inputs in buffers
 * of exactly their size, golden files, and random numbers that repeat.
 *
 * Every input that a test gives to a reader goes through exact(): a block of
 * its own on the heap, so that one byte read too far is an error of
 * AddressSanitizer and not luck. The caller frees it. Everything here fails
 * the running test where a file or memory is missing.
 *
 * Golden files: $HOTPATH_SCHEMAS/golden, or the schemas/ of this checkout.
 * Included by every test_*.c, once, before its own headers.
 */
#ifndef SUPPORT_H
#define SUPPORT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hp_base.h"
#include "random.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static inline hp_str_t exact(const void *data, size_t len)
{
    hp_str_t copy;
    unsigned char *block;

    block = malloc(len == 0 ? 1 : len);
    assert_non_null(block);

    if (len != 0) {
        memcpy(block, data, len);
    }

    copy.data = block;
    copy.len = len;
    return copy;
}

static inline hp_str_t exact_text(const char *text)
{
    return exact(text, strlen(text));
}

static inline void drop(hp_str_t *text)
{
    free((void *)text->data);
    text->data = NULL;
    text->len = 0;
}

/* A text that nobody frees; for expectations. */
static inline hp_str_t text_of(const char *text)
{
    hp_str_t view;

    view.data = (const unsigned char *)text;
    view.len = strlen(text);
    return view;
}

static inline void assert_same(hp_str_t got, hp_str_t expected)
{
    assert_int_equal(got.len, expected.len);

    if (expected.len != 0) {
        assert_memory_equal(got.data, expected.data, expected.len);
    }
}

/* schemas/golden/<name>; the caller frees it with cJSON_Delete(). */
static inline cJSON *golden(const char *name)
{
    const char *schemas;
    char path[4096];
    cJSON *json;
    FILE *file;
    char *text;
    long size;

    schemas = getenv("HOTPATH_SCHEMAS");
    snprintf(path, sizeof(path), "%s/golden/%s",
             schemas != NULL ? schemas : HOTPATH_SCHEMAS, name);

    file = fopen(path, "rb");

    if (file == NULL) {
        fail_msg("cannot open %s", path);
    }

    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    size = ftell(file);
    assert_true(size > 0);
    rewind(file);

    text = malloc((size_t)size + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, (size_t)size, file), (size_t)size);
    text[size] = '\0';
    fclose(file);

    json = cJSON_Parse(text);
    free(text);
    assert_non_null(json);
    return json;
}

/* Never an empty one: a test over nothing proves nothing. */
static inline const cJSON *golden_list(const cJSON *json, const char *name)
{
    const cJSON *list;

    list = cJSON_GetObjectItemCaseSensitive(json, name);
    assert_true(cJSON_IsArray(list) && cJSON_GetArraySize(list) > 0);
    return list;
}

static inline const char *golden_text(const cJSON *json, const char *name)
{
    const cJSON *item;

    item = cJSON_GetObjectItemCaseSensitive(json, name);
    assert_true(cJSON_IsString(item));
    return item->valuestring;
}

/* A member in hexadecimal, as exact(). */
static inline hp_str_t golden_bytes(const cJSON *json, const char *name)
{
    const char *text;
    hp_str_t bytes;
    unsigned byte;
    size_t i;

    text = golden_text(json, name);
    assert_int_equal(strlen(text) % 2, 0);
    bytes = exact(text, strlen(text) / 2);

    for (i = 0; i < bytes.len; i++) {
        assert_int_equal(sscanf(text + 2 * i, "%2x", &byte), 1);
        ((unsigned char *)bytes.data)[i] = (unsigned char)byte;
    }

    return bytes;
}

static inline uint64_t golden_unsigned(const cJSON *json, const char *name)
{
    return strtoull(golden_text(json, name), NULL, 10);
}

static inline int64_t golden_signed(const cJSON *json, const char *name)
{
    return strtoll(golden_text(json, name), NULL, 10);
}

static inline double golden_number(const cJSON *json, const char *name)
{
    const cJSON *item;

    item = cJSON_GetObjectItemCaseSensitive(json, name);
    assert_true(cJSON_IsNumber(item));
    return item->valuedouble;
}

#endif
