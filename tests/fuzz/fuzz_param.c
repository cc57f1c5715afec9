/*
 * fuzz_param.c: libFuzzer target of ngx_module/core/hp_param.c, hp_date.c and
 * hp_fields.c.
 *
 * The input is a rule, a value and a document, each up to the next zero byte.
 * A rule may be any bytes; whatever the compiled one takes must be inside its
 * bounds and taken again in the one spelling that came out. Decoding must undo
 * an encoding of every byte, which is the same name of an argument, and never
 * write more than it reads. A selection of fields from any bytes stays inside
 * its buffer; from a checked object it is a valid object again, whose selection
 * is itself.
 *
 * A wrong answer aborts; everything is read from blocks of exactly its size.
 * Run by make -C tests/fuzz.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hp_fields.h"
#include "hp_json.h"
#include "hp_param.h"

#define MUST(condition)                                                        \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);            \
            abort();                                                           \
        }                                                                      \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static hp_str_t exactly(const void *data, size_t len)
{
    unsigned char *block;
    hp_str_t copy;

    block = malloc(len == 0 ? 1 : len);
    MUST(block != NULL);

    if (len != 0) {
        memcpy(block, data, len);
    }

    copy.data = block;
    copy.len = len;
    return copy;
}

static void check_value(hp_str_t text, hp_str_t given)
{
    hp_param_value_t value, again;
    hp_param_rule_t rule;
    hp_str_t spelling;

    if (hp_param_rule(&rule, text) != NULL) {
        return;
    }

    MUST(rule.min <= rule.max);
    MUST(rule.kind != HP_PARAM_STRING ||
         (rule.min >= 0 && rule.max <= HP_PARAM_LENGTH_MAX));

    if (hp_param_check(&rule, given, &value) != HP_PARAM_OK) {
        return;
    }

    switch (rule.kind) {
    case HP_PARAM_INT:
        MUST(value.number >= rule.min && value.number <= rule.max);
        break;
    case HP_PARAM_STRING:
        MUST((int64_t)given.len >= rule.min && (int64_t)given.len <= rule.max);
        break;
    case HP_PARAM_ENUM:
        MUST(value.number >= 0 && value.number < HP_PARAM_CHOICES);
        break;
    default:
        break;
    }

    if (value.text_len != 0) {
        spelling = exactly(value.text, value.text_len);
        MUST(hp_param_check(&rule, spelling, &again) == HP_PARAM_OK);
        MUST(memcmp(&value, &again, sizeof(value)) == 0);
        free((void *)spelling.data);
    }
}

static void check_decode(hp_str_t raw)
{
    unsigned char *encoded, *p;
    hp_str_t copy, name, value, rest;
    hp_param_status_t status;
    size_t i, len, seen;

    copy = exactly(raw.data, raw.len);
    status = hp_param_decode((unsigned char *)copy.data, &len, copy, 1);
    MUST(status == HP_PARAM_OK ? len <= raw.len : len == 0);
    free((void *)copy.data);

    encoded = malloc(3 * raw.len + 1);
    MUST(encoded != NULL);

    for (i = 0, p = encoded; i < raw.len; i++) {
        p += sprintf((char *)p, "%%%02X", raw.data[i]);
    }

    copy.data = encoded;
    copy.len = 3 * raw.len;
    MUST(hp_param_named(copy, raw) ==
         (raw.len >= 1 && raw.len <= HP_PARAM_NAME_MAX));
    status = hp_param_decode(encoded, &len, copy, 1);
    MUST(status == HP_PARAM_OK && len == raw.len);
    MUST(len == 0 || memcmp(encoded, raw.data, len) == 0);
    free(encoded);

    rest = raw;
    seen = 0;

    while (hp_param_next(&rest, &name, &value)) {
        seen += name.len + value.len + 1;
        MUST(memchr(name.data, '=', name.len) == NULL);
        MUST(value.len == 0 || memchr(value.data, '&', value.len) == NULL);
    }

    MUST(seen <= raw.len + 1);
}

/* of: the member in whose objects is selected, or nothing. */
static size_t select_from(hp_str_t dst, hp_str_t object, hp_str_t of,
                          const hp_fields_t *fields)
{
    unsigned char *out;

    out = (unsigned char *)dst.data;

    return of.len == 0 ? hp_fields_write(out, object, fields)
                       : hp_fields_write_list(out, object, of, fields);
}

static void check_selection(hp_str_t object, hp_str_t of,
                            const hp_fields_t *fields)
{
    hp_str_t dst, same, once;
    size_t len, offset;

    dst = exactly(object.data, object.len);
    same = exactly(object.data, object.len);
    len = select_from(dst, object, of, fields);
    MUST(len <= object.len);
    MUST(select_from(same, same, of, fields) <= object.len);

    if (hp_json_check(object, 100, &offset) == HP_JSON_OK && len != 0) {
        MUST(memcmp(dst.data, same.data, len) == 0);
        once = exactly(dst.data, len);
        MUST(hp_json_check(once, 100, &offset) == HP_JSON_OK);
        MUST(select_from(once, once, of, fields) == len);
        MUST(memcmp(dst.data, once.data, len) == 0);
        free((void *)once.data);
    }

    free((void *)dst.data);
    free((void *)same.data);
}

static void check_fields(hp_str_t list, hp_str_t object)
{
    static const hp_str_t whole = HP_STR(""), data = HP_STR("data");

    hp_fields_t fields;

    if (hp_fields_parse(&fields, list) != 0) {
        return;
    }

    MUST(fields.count >= 1 && fields.count <= HP_FIELDS_MAX);
    (void)hp_fields_hash(&fields);
    check_selection(object, whole, &fields);
    check_selection(object, data, &fields);
    check_selection(object, fields.names[0], &fields);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *mark, *end;
    hp_str_t pieces[3];
    unsigned i;

    end = data + size;

    for (i = 0; i < 3; i++) {
        mark =
            i < 2 && data < end ? memchr(data, 0, (size_t)(end - data)) : NULL;
        mark = mark == NULL ? end : mark;
        pieces[i] = exactly(data, (size_t)(mark - data));
        data = mark + (mark != end);
    }

    check_value(pieces[0], pieces[1]);
    check_decode(pieces[1]);
    check_fields(pieces[1], pieces[2]);

    for (i = 0; i < 3; i++) {
        free((void *)pieces[i].data);
    }

    return 0;
}
