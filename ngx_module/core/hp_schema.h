/*
 * hp_schema.h: checks a JSON value against a compiled JSON Schema.
 *
 * A subset of draft 2020-12, chosen so that every value costs one pass and a
 * bounded stack: each value is judged by exactly one schema node. The keywords
 * and what is refused when a schema is compiled: hp_schema_compile.h. What the
 * validator decides by itself:
 *
 * - Numbers are compared as written, exactly, never as doubles; 1.0 and 1e2
 *   are integers. Lengths are code points. format is an assertion.
 * - A member that the schema names, but that is there twice, is refused. Other
 *   members that repeat are checked, and counted, each time.
 * - The first violation in the order of the text is reported; what can be
 *   known at the end of an object or array only (missing members, too few or
 *   too many) at its end.
 *
 * Unit tests: tests/unit/test_schema.c; fuzzed in tests/fuzz/fuzz_schema.c and
 * against another implementation by tests/fuzz/schema_differential.py.
 */
#ifndef HP_SCHEMA_H
#define HP_SCHEMA_H

#include "hp_base.h"
#include "hp_pattern.h"

/* Schemas one inside the other, by $ref or not; the root is the first. */
#define HP_SCHEMA_DEPTH_MAX 32
#define HP_SCHEMA_PROPERTIES_MAX 256 /* named by one node */
#define HP_SCHEMA_VALUES_MAX 1024    /* of one enum */
#define HP_SCHEMA_POINTER_MAX 256

typedef enum {
    HP_SCHEMA_OK = 0,
    HP_SCHEMA_FALSE, /* nothing is allowed here */
    HP_SCHEMA_TYPE,
    HP_SCHEMA_ENUM,
    HP_SCHEMA_CONST,
    HP_SCHEMA_MINIMUM,
    HP_SCHEMA_MAXIMUM,
    HP_SCHEMA_EXCLUSIVE_MINIMUM,
    HP_SCHEMA_EXCLUSIVE_MAXIMUM,
    HP_SCHEMA_MIN_LENGTH,
    HP_SCHEMA_MAX_LENGTH,
    HP_SCHEMA_PATTERN,
    HP_SCHEMA_FORMAT,
    HP_SCHEMA_MIN_ITEMS,
    HP_SCHEMA_MAX_ITEMS,
    HP_SCHEMA_MIN_PROPERTIES,
    HP_SCHEMA_MAX_PROPERTIES,
    HP_SCHEMA_REQUIRED,   /* the pointer names the member that is missing */
    HP_SCHEMA_ADDITIONAL, /* the pointer names the member that is too much */
    HP_SCHEMA_DUPLICATE
} hp_schema_status_t;

/* A stable code for a problem document, such as "schema_required". */
const char *hp_schema_code(hp_schema_status_t status);

typedef struct hp_schema_s hp_schema_t;

typedef struct {
    /* RFC 6901, UTF-8 and not escaped for JSON; of a value so deep, or names
     * so long, that it does not fit, the nearest value around it that does. */
    unsigned char pointer[HP_SCHEMA_POINTER_MAX];
    size_t pointer_len;
    size_t offset; /* of the value in the text; of a missing member's object */
} hp_schema_violation_t;

/* text is checked JSON. *violation is set on any status but OK. */
hp_schema_status_t hp_schema_check(const hp_schema_t *schema, hp_str_t text,
                                   hp_schema_violation_t *violation);

/* What follows is between the compiler and the validator. */

enum {
    HP_SCHEMA_IS_NULL = 0x01,
    HP_SCHEMA_IS_BOOLEAN = 0x02,
    HP_SCHEMA_IS_OBJECT = 0x04,
    HP_SCHEMA_IS_ARRAY = 0x08,
    HP_SCHEMA_IS_STRING = 0x10,
    HP_SCHEMA_IS_NUMBER = 0x20,
    HP_SCHEMA_IS_INTEGER = 0x40
};

typedef enum {
    HP_SCHEMA_NO_FORMAT = 0,
    HP_SCHEMA_DATE_TIME,
    HP_SCHEMA_DATE,
    HP_SCHEMA_UUID
} hp_schema_format_t;

/* A scalar of enum or const. text: a string's characters, a number as it was
 * written, else empty. */
typedef struct {
    unsigned char first; /* n t f " or 0 for a number */
    hp_str_t text;
} hp_schema_value_t;

typedef struct {
    hp_str_t name;
    const hp_schema_t *schema; /* NULL: anything */
    unsigned required : 1;
    unsigned declared : 1; /* under properties, not only required */
} hp_schema_property_t;

struct hp_schema_s {
    unsigned refuses : 1; /* the schema false */
    unsigned closed : 1;  /* additionalProperties is false */
    unsigned types;       /* HP_SCHEMA_IS_...; 0: any */
    unsigned depth;       /* of nodes below this one, itself included */
    hp_schema_format_t format;
    const hp_pattern_t *pattern;
    const hp_schema_value_t *constant;
    const hp_schema_value_t *values;        /* of enum, in order */
    unsigned value_count;                   /* 0: no enum */
    const hp_schema_property_t *properties; /* ordered by name */
    unsigned property_count;
    const hp_schema_t *items;  /* NULL: anything */
    hp_str_t minimum, maximum; /* numbers; empty: none */
    hp_str_t exclusive_minimum, exclusive_maximum;
    uint32_t min_length, max_length; /* UINT32_MAX: none */
    uint32_t min_items, max_items;
    uint32_t min_properties, max_properties;
};

/* The order of a value in a text, of which first is the first byte and raw
 * the inside of a string or the number, and of a value of enum. */
int hp_schema_compare(unsigned char first, hp_str_t raw,
                      const hp_schema_value_t *value);

#endif
