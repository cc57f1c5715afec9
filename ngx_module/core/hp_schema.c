/*
 * hp_schema.c: checks a JSON value against a compiled JSON Schema.
 *
 * One job: one pass over a checked text, with the schema's nodes beside it.
 * Where no schema says anything a value is skipped, not read. The depth of the
 * calls is that of the schema (HP_SCHEMA_DEPTH_MAX at most, the compiler sees
 * to it), never that of the text. Owns nothing, allocates nothing, keeps
 * nothing between calls; a schema is only read, so any number of threads may
 * share it. In nginx it runs in the event loop, for every event of a checked
 * type: a member costs a search among the schema's sorted names, a string of
 * an enum the same, a pattern one step a character.
 *
 * What must never happen here: a keyword of the schema that is passed over, a
 * value judged twice, a pointer that names something else than what is wrong.
 *
 * Contract: hp_schema.h. Tests: tests/unit/test_schema.c,
 * tests/fuzz/fuzz_schema.c, tests/fuzz/schema_differential.py.
 */
#include "hp_schema.h"

#include <string.h>

#include "hp_char.h"
#include "hp_date.h"
#include "hp_format.h"
#include "hp_id.h"
#include "hp_json.h"
#include "hp_walk.h"

/* A text of a known form in its longest spelling: each character an escape. */
#define FORMAT_RAW_MAX (6 * HP_DATE_TIME_MAX)

/* The way from the root to the value at hand. */
typedef struct path_s path_t;

struct path_s {
    const path_t *parent;
    hp_str_t name; /* raw; of an array's item data is NULL */
    uint32_t index;
};

typedef struct {
    const unsigned char *start, *end;
    hp_schema_status_t status;
    hp_schema_violation_t *violation;
} run_t;

static const char *const code_of[] = {
    [HP_SCHEMA_OK] = "schema_ok",
    [HP_SCHEMA_FALSE] = "schema_false",
    [HP_SCHEMA_TYPE] = "schema_type",
    [HP_SCHEMA_ENUM] = "schema_enum",
    [HP_SCHEMA_CONST] = "schema_const",
    [HP_SCHEMA_MINIMUM] = "schema_minimum",
    [HP_SCHEMA_MAXIMUM] = "schema_maximum",
    [HP_SCHEMA_EXCLUSIVE_MINIMUM] = "schema_exclusive_minimum",
    [HP_SCHEMA_EXCLUSIVE_MAXIMUM] = "schema_exclusive_maximum",
    [HP_SCHEMA_MIN_LENGTH] = "schema_min_length",
    [HP_SCHEMA_MAX_LENGTH] = "schema_max_length",
    [HP_SCHEMA_PATTERN] = "schema_pattern",
    [HP_SCHEMA_FORMAT] = "schema_format",
    [HP_SCHEMA_MIN_ITEMS] = "schema_min_items",
    [HP_SCHEMA_MAX_ITEMS] = "schema_max_items",
    [HP_SCHEMA_MIN_PROPERTIES] = "schema_min_properties",
    [HP_SCHEMA_MAX_PROPERTIES] = "schema_max_properties",
    [HP_SCHEMA_REQUIRED] = "schema_required",
    [HP_SCHEMA_ADDITIONAL] = "schema_additional",
    [HP_SCHEMA_DUPLICATE] = "schema_duplicate",
};

static const unsigned char *check(run_t *run, const hp_schema_t *schema,
                                  const path_t *path, const unsigned char *p);

const char *hp_schema_code(hp_schema_status_t status)
{
    if ((unsigned)status >= sizeof(code_of) / sizeof(code_of[0])) {
        return "schema_unknown";
    }

    return code_of[status];
}

/* The pointer */

/* Appends one byte where there is room; 0, or -1. */
static int append(hp_schema_violation_t *violation, unsigned char c)
{
    if (violation->pointer_len == HP_SCHEMA_POINTER_MAX) {
        return -1;
    }

    violation->pointer[violation->pointer_len++] = c;
    return 0;
}

static int append_name(hp_schema_violation_t *violation, hp_str_t name)
{
    const unsigned char *p, *end;
    unsigned char piece[4];
    unsigned len, i;
    uint32_t code;

    p = name.data;
    end = p + name.len;

    while (p < end) {
        code = hp_walk_char(&p, end);

        if (code == '~' || code == '/') {
            if (append(violation, '~') != 0 ||
                append(violation, code == '~' ? '0' : '1') != 0) {
                return -1;
            }

            continue;
        }

        len = hp_utf8_write(piece, code);

        for (i = 0; i < len; i++) {
            if (append(violation, piece[i]) != 0) {
                return -1;
            }
        }
    }

    return 0;
}

static int append_index(hp_schema_violation_t *violation, uint32_t index)
{
    unsigned char digits[10];
    unsigned n;

    n = 0;

    do {
        digits[n++] = (unsigned char)('0' + index % 10);
        index /= 10;
    } while (index != 0);

    while (n != 0) {
        if (append(violation, digits[--n]) != 0) {
            return -1;
        }
    }

    return 0;
}

static __attribute__((cold, noinline)) const unsigned char *
violate(run_t *run, hp_schema_status_t status, const path_t *path,
        const unsigned char *at)
{
    const path_t *steps[HP_SCHEMA_DEPTH_MAX + 1];
    hp_schema_violation_t *violation;
    size_t whole;
    unsigned n;

    violation = run->violation;
    violation->offset = (size_t)(at - run->start);
    violation->pointer_len = 0;
    run->status = status;

    for (n = 0; path->parent != NULL && n <= HP_SCHEMA_DEPTH_MAX; n++) {
        steps[n] = path;
        path = path->parent;
    }

    while (n != 0) {
        path = steps[--n];
        whole = violation->pointer_len;

        if (append(violation, '/') != 0 ||
            (path->name.data != NULL
                 ? append_name(violation, path->name)
                 : append_index(violation, path->index)) != 0) {
            violation->pointer_len = whole;
            break;
        }
    }

    return NULL;
}

/* Scalars */

int hp_schema_compare(unsigned char first, hp_str_t raw,
                      const hp_schema_value_t *value)
{
    if (first == '-' || hp_is_digit(first)) {
        first = '0';
    }

    if (first != value->first) {
        return (int)first - (int)value->first;
    }

    if (first == '"') {
        return hp_walk_compare(raw, value->text);
    }

    return first == '0' ? hp_walk_compare_numbers(raw, value->text) : 0;
}

/* Whether a scalar is one of the schema's sorted values. */
static int is_listed(const hp_schema_t *schema, unsigned char first,
                     hp_str_t raw)
{
    unsigned low, high, middle;
    int order;

    low = 0;
    high = schema->value_count;

    while (low < high) {
        middle = (low + high) / 2;
        order = hp_schema_compare(first, raw, &schema->values[middle]);

        if (order == 0) {
            return 1;
        }

        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }

    return 0;
}

/* What keeps a number from its bounds, or HP_SCHEMA_OK. */
static hp_schema_status_t number_status(const hp_schema_t *schema,
                                        hp_str_t number)
{
    if (schema->minimum.len != 0 &&
        hp_walk_compare_numbers(number, schema->minimum) < 0) {
        return HP_SCHEMA_MINIMUM;
    }

    if (schema->maximum.len != 0 &&
        hp_walk_compare_numbers(number, schema->maximum) > 0) {
        return HP_SCHEMA_MAXIMUM;
    }

    if (schema->exclusive_minimum.len != 0 &&
        hp_walk_compare_numbers(number, schema->exclusive_minimum) <= 0) {
        return HP_SCHEMA_EXCLUSIVE_MINIMUM;
    }

    if (schema->exclusive_maximum.len != 0 &&
        hp_walk_compare_numbers(number, schema->exclusive_maximum) >= 0) {
        return HP_SCHEMA_EXCLUSIVE_MAXIMUM;
    }

    return HP_SCHEMA_OK;
}

static int has_format(hp_schema_format_t format, hp_str_t raw)
{
    unsigned char text[FORMAT_RAW_MAX], id[HP_UUID_SIZE];
    int64_t days;
    hp_str_t value;

    if (raw.len > sizeof(text)) {
        return 0;
    }

    value.data = text;
    value.len = hp_json_unescape(text, raw);

    switch (format) {
    case HP_SCHEMA_DATE_TIME:
        return hp_date_time_valid(value);
    case HP_SCHEMA_DATE:
        return hp_day_parse(&days, value) == 0;
    case HP_SCHEMA_UUID:
        return hp_uuid_parse(id, value) == 0;
    default:
        return 1;
    }
}

static hp_schema_status_t string_status(const hp_schema_t *schema, hp_str_t raw)
{
    size_t length;

    if (schema->min_length != 0 || schema->max_length != UINT32_MAX) {
        length = hp_walk_length(raw);

        if (length < schema->min_length) {
            return HP_SCHEMA_MIN_LENGTH;
        }

        if (length > schema->max_length) {
            return HP_SCHEMA_MAX_LENGTH;
        }
    }

    if (schema->pattern != NULL && !hp_pattern_match(schema->pattern, raw)) {
        return HP_SCHEMA_PATTERN;
    }

    if (schema->format != HP_SCHEMA_NO_FORMAT &&
        !has_format(schema->format, raw)) {
        return HP_SCHEMA_FORMAT;
    }

    return HP_SCHEMA_OK;
}

static unsigned type_at(const unsigned char *p)
{
    switch (*p) {
    case 'n':
        return HP_SCHEMA_IS_NULL;
    case 't':
    case 'f':
        return HP_SCHEMA_IS_BOOLEAN;
    case '{':
        return HP_SCHEMA_IS_OBJECT;
    case '[':
        return HP_SCHEMA_IS_ARRAY;
    case '"':
        return HP_SCHEMA_IS_STRING;
    default:
        return HP_SCHEMA_IS_NUMBER;
    }
}

/* A value that is neither array nor object, of a type that is allowed. */
static const unsigned char *check_scalar(run_t *run, const hp_schema_t *schema,
                                         const path_t *path,
                                         const unsigned char *p, unsigned type)
{
    hp_schema_status_t status;
    const unsigned char *end;
    hp_str_t raw;

    end = hp_walk_value(p, run->end, NULL);
    raw.data = p;
    raw.len = (size_t)(end - p);
    status = HP_SCHEMA_OK;

    if (type == HP_SCHEMA_IS_STRING) {
        raw = hp_walk_string(p, end);
    }

    if (type == HP_SCHEMA_IS_NUMBER && schema->types != 0 &&
        !(schema->types & HP_SCHEMA_IS_NUMBER) && !hp_walk_is_integer(raw)) {
        status = HP_SCHEMA_TYPE;
    } else if (schema->constant != NULL &&
               hp_schema_compare(*p, raw, schema->constant) != 0) {
        status = HP_SCHEMA_CONST;
    } else if (schema->value_count != 0 && !is_listed(schema, *p, raw)) {
        status = HP_SCHEMA_ENUM;
    } else if (type == HP_SCHEMA_IS_NUMBER) {
        status = number_status(schema, raw);
    } else if (type == HP_SCHEMA_IS_STRING) {
        status = string_status(schema, raw);
    }

    return status == HP_SCHEMA_OK ? end : violate(run, status, path, p);
}

/* Arrays and objects */

static const unsigned char *check_array(run_t *run, const hp_schema_t *schema,
                                        const path_t *path,
                                        const unsigned char *p)
{
    const unsigned char *start;
    hp_walk_t walk;
    path_t here;

    start = p;
    memset(&here, 0, sizeof(here));
    here.parent = path;
    (void)hp_walk_open(&walk, p, run->end);

    while (hp_walk_next(&walk)) {
        if (schema->items != NULL) {
            p = check(run, schema->items, &here, walk.pos);

            if (p == NULL) {
                return NULL;
            }

            walk.pos = p;
        } else {
            walk.pos = hp_walk_value(walk.pos, walk.end, NULL);
        }

        here.index++;
    }

    if (here.index < schema->min_items) {
        return violate(run, HP_SCHEMA_MIN_ITEMS, path, start);
    }

    if (here.index > schema->max_items) {
        return violate(run, HP_SCHEMA_MAX_ITEMS, path, start);
    }

    return walk.pos;
}

/* The property with this raw name, or property_count. */
static unsigned property_of(const hp_schema_t *schema, hp_str_t name)
{
    unsigned low, high, middle;
    int order;

    low = 0;
    high = schema->property_count;

    while (low < high) {
        middle = (low + high) / 2;
        order = hp_walk_compare(name, schema->properties[middle].name);

        if (order == 0) {
            return middle;
        }

        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }

    return schema->property_count;
}

/* What is known at the end of an object whose first byte is at p. */
static const unsigned char *
check_members(run_t *run, const hp_schema_t *schema, const path_t *path,
              const unsigned char *p, const uint64_t *seen, uint32_t members)
{
    unsigned i;
    path_t here;

    for (i = 0; i < schema->property_count; i++) {
        if (schema->properties[i].required && !(seen[i / 64] >> (i % 64) & 1)) {
            here.parent = path;
            here.index = 0;
            here.name = schema->properties[i].name;
            return violate(run, HP_SCHEMA_REQUIRED, &here, p);
        }
    }

    if (members < schema->min_properties) {
        return violate(run, HP_SCHEMA_MIN_PROPERTIES, path, p);
    }

    if (members > schema->max_properties) {
        return violate(run, HP_SCHEMA_MAX_PROPERTIES, path, p);
    }

    return p;
}

static const unsigned char *check_object(run_t *run, const hp_schema_t *schema,
                                         const path_t *path,
                                         const unsigned char *p)
{
    uint64_t seen[HP_SCHEMA_PROPERTIES_MAX / 64], bit;
    const hp_schema_property_t *property;
    const unsigned char *start;
    uint32_t members;
    hp_walk_t walk;
    path_t here;
    unsigned i;

    start = p;
    members = 0;
    memset(seen, 0, sizeof(seen));
    memset(&here, 0, sizeof(here));
    here.parent = path;
    (void)hp_walk_open(&walk, p, run->end);

    while (hp_walk_next(&walk)) {
        members++;
        here.name = walk.name;
        i = property_of(schema, walk.name);
        property = i < schema->property_count ? &schema->properties[i] : NULL;

        if (property != NULL) {
            bit = (uint64_t)1 << (i % 64);

            if (seen[i / 64] & bit) {
                return violate(run, HP_SCHEMA_DUPLICATE, &here, walk.pos);
            }

            seen[i / 64] |= bit;
        }

        if (schema->closed && (property == NULL || !property->declared)) {
            return violate(run, HP_SCHEMA_ADDITIONAL, &here, walk.pos);
        }

        if (property != NULL && property->schema != NULL) {
            p = check(run, property->schema, &here, walk.pos);

            if (p == NULL) {
                return NULL;
            }

            walk.pos = p;
        } else {
            walk.pos = hp_walk_value(walk.pos, walk.end, NULL);
        }
    }

    return check_members(run, schema, path, start, seen, members) == NULL
               ? NULL
               : walk.pos;
}

/* The value at p; gives the byte behind it, or NULL with the violation. */
static const unsigned char *check(run_t *run, const hp_schema_t *schema,
                                  const path_t *path, const unsigned char *p)
{
    unsigned type;

    if (schema->refuses) {
        return violate(run, HP_SCHEMA_FALSE, path, p);
    }

    type = type_at(p);

    if (schema->types != 0 && !(schema->types & type) &&
        !(type == HP_SCHEMA_IS_NUMBER &&
          (schema->types & HP_SCHEMA_IS_INTEGER))) {
        return violate(run, HP_SCHEMA_TYPE, path, p);
    }

    if (type != HP_SCHEMA_IS_OBJECT && type != HP_SCHEMA_IS_ARRAY) {
        return check_scalar(run, schema, path, p, type);
    }

    /* const and enum hold scalars only */
    if (schema->constant != NULL) {
        return violate(run, HP_SCHEMA_CONST, path, p);
    }

    if (schema->value_count != 0) {
        return violate(run, HP_SCHEMA_ENUM, path, p);
    }

    return type == HP_SCHEMA_IS_OBJECT ? check_object(run, schema, path, p)
                                       : check_array(run, schema, path, p);
}

hp_schema_status_t hp_schema_check(const hp_schema_t *schema, hp_str_t text,
                                   hp_schema_violation_t *violation)
{
    static const path_t root;

    hp_str_t value;
    run_t run;

    value = hp_walk_trim(text);
    memset(&run, 0, sizeof(run));
    run.start = text.data;
    run.violation = violation;

    if (value.len == 0) {
        /* no checked text is empty */
        violation->pointer_len = 0;
        violation->offset = 0;
        return HP_SCHEMA_TYPE;
    }

    run.end = value.data + value.len;
    (void)check(&run, schema, &root, value.data);
    return run.status;
}
