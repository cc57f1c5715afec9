/*
 * fuzz_json.c: libFuzzer target of ngx_module/core/hp_json.c.
 *
 * Whatever bytes come, hp_json_check() and jansson, a strict parser written by
 * others, must agree whether they are JSON. Where the two are meant to differ
 * neither answer is held against the other: U+0000 and the range of numbers
 * (ours are jsonb's, jansson's a double's), and nesting beyond our bound.
 * What was taken must then survive: found members are the ones that jansson's
 * tree has, compacted text means the same, escapes come back as they went.
 *
 * A wrong answer aborts. libFuzzer gives every input in a block of its size, so
 * that AddressSanitizer sees a byte read too far. Seeds: seeds.py. Run by
 * make -C tests/fuzz.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hp_json.h"

#define DEPTH 100

#define MUST(condition)                                                        \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);            \
            abort();                                                           \
        }                                                                      \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned char *block(size_t size)
{
    unsigned char *memory;

    memory = malloc(size == 0 ? 1 : size);
    MUST(memory != NULL);
    return memory;
}

static int same_string(hp_str_t raw, const json_t *string)
{
    unsigned char *text;
    size_t len;
    int same;

    if (!json_is_string(string)) {
        return 0;
    }

    text = block(raw.len);
    len = hp_json_unescape(text, raw);
    MUST(len <= raw.len);
    same = len == json_string_length(string) &&
           memcmp(text, json_string_value(string), len) == 0;
    free(text);
    return same;
}

/* The value at `raw` means the same as `tree`. */
static int same_value(hp_str_t raw, const json_t *tree)
{
    json_error_t error;
    json_t *other;
    int same;

    other = json_loadb((const char *)raw.data, raw.len,
                       JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, &error);
    same = other != NULL && json_equal(other, tree);
    json_decref(other);
    return same;
}

static void check_compact(hp_str_t text, const json_t *tree)
{
    unsigned char *once, *twice;
    hp_str_t compact;
    size_t offset, i;
    int in_string;

    once = block(text.len);
    twice = block(text.len);
    compact.data = once;
    compact.len = hp_json_compact(once, text);
    MUST(compact.len <= text.len);
    MUST(hp_json_check(compact, DEPTH, &offset) == HP_JSON_OK);
    MUST(same_value(compact, tree));
    MUST(hp_json_compact(twice, compact) == compact.len);
    MUST(memcmp(once, twice, compact.len) == 0);

    for (i = 0, in_string = 0; i < compact.len; i++) {
        if (in_string) {
            i += once[i] == '\\';
            in_string = once[i] != '"' || once[i - 1] == '\\';
        } else {
            MUST(once[i] > ' ');
            in_string = once[i] == '"';
        }
    }

    free(once);
    free(twice);
}

static void check_members(hp_str_t text, json_t *tree)
{
    hp_json_slice_t slice;
    const char *name;
    json_t *value;
    hp_str_t wanted;
    int is_string;

    json_object_foreach(tree, name, value)
    {
        wanted.data = (const unsigned char *)name;
        wanted.len = strlen(name);
        MUST(hp_json_member(text, wanted, &slice, &is_string) == 1);
        MUST(is_string == json_is_string(value));
        MUST(is_string ? same_string(slice.raw, value)
                       : same_value(slice.raw, value));
    }

    wanted.data = (const unsigned char *)"\xff";
    wanted.len = 1;
    MUST(hp_json_member(text, wanted, &slice, &is_string) == 0);
}

/* How many of the object's members are `name`, or 0 where tree is none. */
static size_t has(const json_t *tree, const char *name)
{
    return json_object_get(tree, name) != NULL;
}

static void check_event(hp_str_t text, hp_json_status_t checked, json_t *tree)
{
    hp_json_status_t status;
    hp_json_event_t event;
    size_t known;

    status = hp_json_event(text, DEPTH, &event);
    MUST(status == HP_JSON_OK || event.error_offset <= text.len);

    if (checked != HP_JSON_OK) {
        MUST(status != HP_JSON_OK);
        return;
    }

    known = has(tree, "idempotencyKey") + has(tree, "eventType") +
            has(tree, "payload");

    switch (status) {
    case HP_JSON_OK:
        MUST(json_object_size(tree) == known);
        MUST(event.key.present == has(tree, "idempotencyKey"));
        MUST(event.type.present == has(tree, "eventType"));
        MUST(event.payload.present == has(tree, "payload"));
        break;
    case HP_JSON_NOT_OBJECT:
        MUST(!json_is_object(tree));
        return;
    case HP_JSON_MEMBER_UNKNOWN:
        MUST(json_object_size(tree) > known);
        return;
    case HP_JSON_MEMBER_DUPLICATE:
    case HP_JSON_MEMBER_TYPE:
        MUST(known > 0);
        return;
    default:
        MUST(!"a status that does not go with valid JSON");
    }

    if (event.key.present) {
        MUST(same_string(event.key.raw,
                         json_object_get(tree, "idempotencyKey")));
        MUST(event.key.escaped ==
             (memchr(event.key.raw.data, '\\', event.key.raw.len) != NULL));
    }

    if (event.type.present) {
        MUST(same_string(event.type.raw, json_object_get(tree, "eventType")));
    }

    if (event.payload.present) {
        unsigned char *compact;
        size_t len;

        MUST(same_value(event.payload.raw, json_object_get(tree, "payload")));

        compact = block(event.payload.raw.len);
        len = hp_json_compact(compact, event.payload.raw);
        MUST(event.payload.spaced == (len != event.payload.raw.len));
        free(compact);
    }
}

/* Any bytes at all, written as a string, are a string; with a zero byte one
 * that jsonb would not take. */
static void check_escape(hp_str_t text)
{
    unsigned char *escaped;
    hp_str_t string;
    size_t offset, len;

    escaped = block(2 + 6 * text.len);
    escaped[0] = '"';
    len = hp_json_escape(escaped + 1, 6 * text.len, text);
    MUST(len <= 6 * text.len);
    escaped[len + 1] = '"';
    string.data = escaped;
    string.len = len + 2;
    MUST(hp_json_check(string, 1, &offset) ==
         (memchr(text.data, 0, text.len) ? HP_JSON_NUL : HP_JSON_OK));
    free(escaped);

    /* the same where there is room for half of it */
    escaped = block(len / 2);
    MUST(hp_json_escape(escaped, len / 2, text) <= len / 2);
    free(escaped);
}

/* Text that nobody checked: an answer is not asked for, only no harm. */
static void check_unchecked(hp_str_t text)
{
    hp_json_slice_t slice;
    unsigned char *dst;
    int is_string;

    dst = block(text.len);
    MUST(hp_json_compact(dst, text) <= text.len);
    MUST(hp_json_unescape(dst, text) <= text.len);
    free(dst);
    (void)hp_json_member(text, (hp_str_t)HP_STR("a"), &slice, &is_string);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hp_json_status_t status;
    json_error_t error;
    hp_str_t text;
    size_t offset;
    json_t *tree;

    text.data = data;
    text.len = size;
    check_escape(text);
    check_unchecked(text);

    status = hp_json_check(text, DEPTH, &offset);
    MUST(status == HP_JSON_OK || offset <= size);

    tree = json_loadb(
        (const char *)data, size,
        JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);

    switch (status) {
    case HP_JSON_OK:
        if (tree == NULL) {
            MUST(json_error_code(&error) == json_error_numeric_overflow);
            status = HP_JSON_NUMBER;
        }

        break;
    case HP_JSON_NUL:
    case HP_JSON_NUMBER:
    case HP_JSON_DEPTH:
        break;
    default:
        /* jansson takes a zero byte for the end of the text */
        MUST(tree == NULL || memchr(data, 0, size) != NULL);
    }

    if (status == HP_JSON_OK) {
        MUST(size == 0 || memchr(data, 0, size) == NULL);
        check_compact(text, tree);
        check_members(text, tree);
    }

    if (status != HP_JSON_NUMBER) {
        check_event(text, status, tree);
    }

    json_decref(tree);
    return 0;
}
