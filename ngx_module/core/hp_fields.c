/*
 * hp_fields.c: the members of a document that a client asked for.
 *
 * One job: to copy some members of a checked object, without looking at their
 * values more closely than to find their ends. What is written never overtakes
 * what is read, because each member in the input stands behind a bracket or a
 * comma of its own; so the result may be written over the document.
 *
 * Owns nothing, allocates nothing, keeps no state; any process, any thread. On
 * a text that was not checked the result means nothing, but stays inside its
 * bounds.
 *
 * Contract: hp_fields.h. Tests: tests/unit/test_fields.c,
 * tests/fuzz/fuzz_param.c.
 */
#include "hp_fields.h"

#include <string.h>

#include "hp_char.h"
#include "hp_walk.h"

static int has_name(const hp_fields_t *fields, hp_str_t name)
{
    unsigned i;

    for (i = 0; i < fields->count; i++) {
        if (fields->names[i].len == name.len &&
            memcmp(fields->names[i].data, name.data, name.len) == 0) {
            return 1;
        }
    }

    return 0;
}

/* The same for a name as it stands in a document. */
static int has_member(const hp_fields_t *fields, hp_str_t raw)
{
    unsigned i;

    if (memchr(raw.data, '\\', raw.len) == NULL) {
        return has_name(fields, raw);
    }

    for (i = 0; i < fields->count; i++) {
        if (hp_walk_compare(raw, fields->names[i]) == 0) {
            return 1;
        }
    }

    return 0;
}

int hp_fields_parse(hp_fields_t *fields, hp_str_t value)
{
    const unsigned char *p, *end;
    hp_str_t name;
    unsigned len;

    fields->count = 0;

    if (value.len == 0) {
        return -1;
    }

    p = value.data;
    end = p + value.len;

    for (;;) {
        name.data = p;

        while (p < end && *p != ',') {
            len = hp_utf8_length(p, end);

            if (len == 0 || *p < ' ' || *p == 0x7f) {
                return -1;
            }

            p += len;
        }

        name.len = (size_t)(p - name.data);

        if (name.len == 0 || name.len > HP_FIELD_NAME_MAX) {
            return -1;
        }

        if (!has_name(fields, name)) {
            if (fields->count == HP_FIELDS_MAX) {
                return -1;
            }

            fields->names[fields->count++] = name;
        }

        if (p == end) {
            return 0;
        }

        p++;
    }
}

size_t hp_fields_write(unsigned char *dst, hp_str_t object,
                       const hp_fields_t *fields)
{
    const unsigned char *start, *after;
    unsigned char *out, *limit;
    hp_walk_t walk;
    int wanted;

    object = hp_walk_trim(object);

    if (object.len < 2 || object.data[0] != '{' ||
        !hp_walk_open(&walk, object.data, object.data + object.len)) {
        return 0;
    }

    out = dst;
    limit = dst + object.len;
    *out++ = '{';

    while (hp_walk_next(&walk)) {
        start = walk.pos;
        after = hp_walk_value(start, walk.end, NULL);
        wanted = has_member(fields, walk.name);
        walk.pos = after;

        if (!wanted) {
            continue;
        }

        /* a comma, two quotes, a colon, the last brace: a checked text has
         * them all, so this is for the others */
        if ((size_t)(limit - out) <
            walk.name.len + (size_t)(after - start) + (out - dst > 1 ? 5 : 4)) {
            return 0;
        }

        if (out - dst > 1) {
            *out++ = ',';
        }

        *out++ = '"';
        memmove(out, walk.name.data, walk.name.len);
        out += walk.name.len;
        *out++ = '"';
        *out++ = ':';
        memmove(out, start, (size_t)(after - start));
        out += after - start;
    }

    *out++ = '}';
    return (size_t)(out - dst);
}
