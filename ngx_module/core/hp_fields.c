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

/* A member or an element behind the others: "name":value, or value alone where
 * name is NULL. NULL where it does not fit: a checked text has room for it all,
 * so this is for the others. */
static unsigned char *put(unsigned char *out, const unsigned char *limit,
                          int first, const hp_str_t *name, hp_str_t value)
{
    /* and the bracket that closes it all */
    if ((size_t)(limit - out) <
        value.len + (first ? 1 : 2) + (name != NULL ? name->len + 3 : 0)) {
        return NULL;
    }

    if (!first) {
        *out++ = ',';
    }

    if (name != NULL) {
        *out++ = '"';
        memmove(out, name->data, name->len);
        out += name->len;
        *out++ = '"';
        *out++ = ':';
    }

    memmove(out, value.data, value.len);
    return out + value.len;
}

static int open_object(hp_walk_t *walk, hp_str_t *object)
{
    *object = hp_walk_trim(*object);

    return object->len >= 2 && object->data[0] == '{' &&
           hp_walk_open(walk, object->data, object->data + object->len);
}

size_t hp_fields_write(unsigned char *dst, hp_str_t object,
                       const hp_fields_t *fields)
{
    unsigned char *out, *limit;
    hp_walk_t walk;
    hp_str_t value;

    if (!open_object(&walk, &object)) {
        return 0;
    }

    out = dst;
    limit = dst + object.len;
    *out++ = '{';

    while (hp_walk_next(&walk)) {
        value.data = walk.pos;
        walk.pos = hp_walk_value(value.data, walk.end, NULL);
        value.len = (size_t)(walk.pos - value.data);

        if (!has_member(fields, walk.name)) {
            continue;
        }

        out = put(out, limit, out - dst == 1, &walk.name, value);

        if (out == NULL) {
            return 0;
        }
    }

    *out++ = '}';
    return (size_t)(out - dst);
}

/* The array at walk, each of its objects selected; the byte behind what was
 * written, or NULL. */
static unsigned char *write_array(unsigned char *dst,
                                  const unsigned char *limit, hp_walk_t *walk,
                                  const hp_fields_t *fields)
{
    unsigned char *out;
    hp_str_t value;
    size_t len;
    int first;

    if (dst == limit) {
        return NULL;
    }

    out = dst;
    *out++ = '[';

    while (hp_walk_next(walk)) {
        value.data = walk->pos;
        walk->pos = hp_walk_value(value.data, walk->end, NULL);
        value.len = (size_t)(walk->pos - value.data);
        first = out - dst == 1;

        if ((size_t)(limit - out) < value.len + (first ? 1 : 2)) {
            return NULL;
        }

        len = hp_fields_write(out + (first ? 0 : 1), value, fields);

        if (len == 0) {
            out = put(out, limit, first, NULL, value);

            if (out == NULL) {
                return NULL;
            }

            continue;
        }

        if (!first) {
            *out++ = ',';
        }

        out += len;
    }

    if (out == limit) {
        return NULL;
    }

    *out++ = ']';
    return out;
}

size_t hp_fields_write_list(unsigned char *dst, hp_str_t object, hp_str_t list,
                            const hp_fields_t *fields)
{
    unsigned char *out, *limit, *p;
    hp_walk_t walk, array;
    hp_str_t value;

    if (!open_object(&walk, &object)) {
        return 0;
    }

    out = dst;
    limit = dst + object.len;
    *out++ = '{';

    while (hp_walk_next(&walk)) {
        value.data = walk.pos;
        value.len = 0;

        if (walk.pos < walk.end && *walk.pos == '[' &&
            hp_walk_compare(walk.name, list) == 0 &&
            hp_walk_open(&array, walk.pos, walk.end)) {

            p = put(out, limit, out - dst == 1, &walk.name, value);
            out = p == NULL ? NULL : write_array(p, limit, &array, fields);
            walk.pos = array.pos;

        } else {
            walk.pos = hp_walk_value(value.data, walk.end, NULL);
            value.len = (size_t)(walk.pos - value.data);
            out = put(out, limit, out - dst == 1, &walk.name, value);
        }

        if (out == NULL || out == limit) {
            return 0;
        }
    }

    *out++ = '}';
    return (size_t)(out - dst);
}

/* FNV-1a of each name, mixed, and all of them added up. */
uint64_t hp_fields_hash(const hp_fields_t *fields)
{
    uint64_t sum, hash;
    unsigned i;
    size_t k;

    sum = 0;

    for (i = 0; i < fields->count; i++) {
        hash = 0xcbf29ce484222325;

        for (k = 0; k < fields->names[i].len; k++) {
            hash = (hash ^ fields->names[i].data[k]) * 0x100000001b3;
        }

        hash = (hash ^ hash >> 33) * 0xff51afd7ed558ccd;
        sum += hash ^ hash >> 33;
    }

    return sum;
}
