/*
 * fuzz_event.c: libFuzzer target of ngx_module/core/hp_event.c,
 * hp_cloudevent.c, hp_format.c and hp_walk.c.
 *
 * The input is a body, and as well lines of "name:value" for headers with a
 * body behind an empty line. What the strict scanner takes must fall into the
 * same values for the walker: every element of an array, cut out, is JSON by
 * itself, and with commas between them they are the array again. A CloudEvent
 * that is taken is written down anew from what was read, with escapes and in
 * another order, and must be read as the same. Unchecked bytes may give any
 * answer, but must not be left.
 *
 * A wrong answer aborts. libFuzzer gives every input in a block of its size, so
 * that AddressSanitizer sees a byte read too far. Seeds: seeds_event.py. Run by
 * make -C tests/fuzz.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hp_cloudevent.h"
#include "hp_format.h"
#include "hp_header.h"
#include "hp_json.h"

#define DEPTH 50

#define MUST(condition)                                                        \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);            \
            abort();                                                           \
        }                                                                      \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int same(hp_str_t a, hp_str_t b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static unsigned char *block(size_t size)
{
    unsigned char *memory;

    memory = malloc(size == 0 ? 1 : size);
    MUST(memory != NULL);
    return memory;
}

static hp_str_t compacted(hp_str_t text, unsigned char *dst)
{
    hp_str_t compact;

    compact.data = dst;
    compact.len = hp_json_compact(dst, text);
    return compact;
}

static void check_list(hp_str_t text)
{
    unsigned char *joined, *whole, *one;
    size_t used, offset, error;
    hp_event_list_t list;
    hp_str_t element, rest;
    uint32_t count;

    if (hp_event_list_open(&list, text, UINT32_MAX) != HP_EVENT_OK) {
        MUST(!hp_event_is_list(text));
        return;
    }

    joined = block(text.len + 2);
    whole = block(text.len);
    one = block(text.len);
    used = 0;
    joined[used++] = '[';

    for (count = 0; hp_event_list_next(&list, &element, &offset); count++) {
        MUST(element.data == text.data + offset);
        MUST(offset + element.len < text.len);
        MUST(hp_json_check(element, DEPTH, &error) == HP_JSON_OK);
        MUST(same(hp_walk_trim(element), element));
        rest = compacted(element, one);

        if (count != 0) {
            joined[used++] = ',';
        }

        memcpy(joined + used, rest.data, rest.len);
        used += rest.len;
    }

    joined[used++] = ']';
    MUST(count == list.count);
    rest = compacted(text, whole);
    MUST(rest.len == used && memcmp(rest.data, joined, used) == 0);
    MUST(count == 0 ||
         hp_event_list_open(&list, text, count - 1) == HP_EVENT_BATCH_TOO_MANY);
    free(joined);
    free(whole);
    free(one);
}

static void put(unsigned char *dst, size_t *used, const void *data, size_t len)
{
    if (len != 0) {
        memcpy(dst + *used, data, len);
        *used += len;
    }
}

/* Every character of text as an escape. */
static void put_escaped(unsigned char *dst, size_t *used, hp_str_t text)
{
    const unsigned char *p, *end;
    uint32_t code;
    char escape[16];

    p = text.data;
    end = p + text.len;

    while (p < end) {
        if (*p == '\\') {
            code = *p++;
        } else {
            code = hp_walk_char(&p, end);
        }

        if (code > 0xffff) {
            code -= 0x10000;
            snprintf(escape, sizeof(escape), "\\u%04x\\u%04X",
                     0xd800 + (code >> 10), 0xdc00 + (code & 0x3ff));
        } else {
            snprintf(escape, sizeof(escape), "\\u%04x", code);
        }

        put(dst, used, escape, strlen(escape));
    }
}

/* What was read, written anew, is the same event. */
static void check_again(const hp_cloudevent_t *event)
{
    static hp_cloudevent_t again;

    static const char *const names[] = {
        "", ",\"data\":", ",\"data\":", ",\"data_base64\":"};

    unsigned char *json;
    hp_str_t text;
    size_t used, error;
    unsigned i;

    json = block(event->data.len + event->attributes.len +
                 6 * (event->type.len + event->text_len) + 1000);
    used = 0;
    put(json, &used, "{\"type\":\"", 9);
    put_escaped(json, &used, event->type);
    put(json, &used, "\"", 1);
    put(json, &used, names[event->data_kind], strlen(names[event->data_kind]));
    put(json, &used, event->data.data, event->data.len);
    put(json, &used, ",\"specversion\":\"1.0\",", 21);
    MUST(event->attributes.len > 2 && event->attributes.data[0] == '{');
    put(json, &used, event->attributes.data + 1, event->attributes.len - 1);
    text.data = json;
    text.len = used;

    MUST(hp_json_check(text, DEPTH + 1, &error) == HP_JSON_OK);
    i = hp_cloudevent_read(&again, text);

    /* escapes count as sent, and so may be too many */
    if (i != HP_EVENT_ATTRIBUTES_TOO_LARGE) {
        MUST(i == HP_EVENT_OK);
        MUST(same(again.key, event->key));
        MUST(same(again.type, event->type));
        MUST(same(again.partition_key, event->partition_key));
        MUST(same(again.attributes, event->attributes));
        MUST(same(again.data, event->data));
        MUST(again.data_kind == event->data_kind);
        MUST(again.data_spaced == event->data_spaced);
    }

    free(json);
}

static void check_event(const hp_cloudevent_t *event)
{
    unsigned char *compact;
    size_t error;

    MUST(hp_key_valid(event->key));
    MUST(event->type.len >= 1 && event->type.len <= HP_TYPE_MAX);
    MUST(event->attributes.len <= HP_CLOUDEVENT_JSON_MAX);
    MUST(hp_json_check(event->attributes, 1, &error) == HP_JSON_OK);
    MUST((event->data.len == 0) == (event->data_kind == HP_CLOUDEVENT_NONE));

    if (event->data.len != 0) {
        MUST(hp_json_check(event->data, DEPTH, &error) == HP_JSON_OK);
        compact = block(event->data.len);
        MUST((compacted(event->data, compact).len != event->data.len) ==
             event->data_spaced);
        free(compact);
    }

    check_again(event);
}

static void check_structured(hp_str_t text, int valid)
{
    static hp_cloudevent_t event;

    hp_event_status_t status;

    status = hp_cloudevent_read(&event, text);
    MUST(strcmp(hp_event_code(status), "event_unknown") != 0);
    MUST(status == HP_EVENT_OK || event.error_offset <= text.len);

    if (valid && status == HP_EVENT_OK) {
        check_event(&event);
    }
}

/* The next line, without its end; 0 where there is none. */
static int next_line(hp_str_t *rest, hp_str_t *line)
{
    const unsigned char *end;

    if (rest->len == 0) {
        return 0;
    }

    line->data = rest->data;
    end = memchr(rest->data, '\n', rest->len);
    line->len = end == NULL ? rest->len : (size_t)(end - rest->data);
    rest->data += line->len;
    rest->len -= line->len;

    if (rest->len != 0) {
        rest->data++;
        rest->len--;
    }

    return 1;
}

static void check_binary(hp_str_t rest)
{
    static hp_cloudevent_t event;
    static const hp_str_t content_type = HP_STR("content-type");

    hp_str_t line, name, value, type = {NULL, 0};
    const unsigned char *colon;
    hp_event_form_t form;
    size_t error;

    hp_cloudevent_begin(&event);

    while (next_line(&rest, &line) && line.len != 0) {
        colon = memchr(line.data, ':', line.len);

        if (colon == NULL) {
            return;
        }

        name.data = line.data;
        name.len = (size_t)(colon - line.data);
        value.data = colon + 1;
        value.len = line.len - name.len - 1;

        if (same(name, content_type)) {
            type = value;
        } else if (hp_cloudevent_header(&event, name, value) != HP_EVENT_OK) {
            return;
        }
    }

    (void)hp_event_form(type, 1, &form);

    if ((rest.len == 0 || hp_json_check(rest, DEPTH, &error) == HP_JSON_OK) &&
        hp_cloudevent_end(&event, type, rest) == HP_EVENT_OK) {
        check_event(&event);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hp_media_t media;
    size_t error;
    hp_str_t text;
    int valid;

    text.data = data;
    text.len = size;
    valid = hp_json_check(text, DEPTH, &error) == HP_JSON_OK;

    if (valid) {
        check_list(text);
    }

    check_structured(text, valid);
    check_binary(text);
    (void)hp_date_time_valid(text);
    MUST(!hp_uri_valid(text, 1) || hp_uri_valid(text, 0));
    (void)hp_media_parse(text, &media);
    return 0;
}
