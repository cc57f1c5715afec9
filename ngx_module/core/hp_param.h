/*
 * hp_param.h: typed parameters of a request, checked before any backend sees
 * them.
 *
 * A rule is compiled once from a short text in the configuration; a value is
 * then percent-decoded and checked in one pass each. What a rule takes has one
 * spelling per value (no leading zeros or plus signs, true or false in lower
 * case), or is rewritten to one, so that one document has one cache key.
 *
 *   int  int(-5..100)  int(1..)  uint  uint(..10)     64 bits, signed; uint is
 *                                                     int from 0
 *   bool                                              true, false
 *   string  string(1..64)  string(8..8,hex)           bytes; without bounds
 *                                                     1 to 255
 *   enum(asc|desc)                                    1 to 64 names
 *   uuid  date  time                                  RFC 9562; RFC 3339
 *
 * Characters of a string: text (UTF-8 without controls, the default), ascii
 * (printable), word (letters, digits, '_', '-', '.'), alnum, digits, hex.
 * No white space is allowed in a rule. Tests: tests/unit/test_param.c,
 * tests/fuzz/fuzz_param.c.
 */
#ifndef HP_PARAM_H
#define HP_PARAM_H

#include "hp_base.h"

#define HP_PARAM_LENGTH 255      /* of a string without bounds */
#define HP_PARAM_LENGTH_MAX 1024 /* of any */
#define HP_PARAM_CHOICES 64
#define HP_PARAM_CHOICE_MAX 64
#define HP_PARAM_NAME_MAX 64 /* of an argument that is looked for */

typedef enum {
    HP_PARAM_INT = 0, /* also uint */
    HP_PARAM_BOOL,
    HP_PARAM_STRING,
    HP_PARAM_ENUM,
    HP_PARAM_UUID,
    HP_PARAM_DATE,
    HP_PARAM_TIME
} hp_param_kind_t;

typedef enum {
    HP_PARAM_OK = 0,
    HP_PARAM_BAD_TYPE,       /* not written as one of its type */
    HP_PARAM_BAD_RANGE,      /* a number outside the rule's bounds */
    HP_PARAM_BAD_LENGTH,     /* a string outside the rule's bounds */
    HP_PARAM_BAD_CHARACTERS, /* a character that the rule does not have */
    HP_PARAM_BAD_CHOICE,     /* none of the enum's names */
    HP_PARAM_BAD_ESCAPE,     /* '%' without two hexadecimal digits */
    HP_PARAM_BAD_NUL,        /* a zero byte, escaped or not */
    HP_PARAM_BAD_REPEAT      /* there more than once: for the caller to say */
} hp_param_status_t;

/* A stable code for a problem document, such as "param_range". */
const char *hp_param_code(hp_param_status_t status);

typedef struct {
    hp_param_kind_t kind;
    unsigned set; /* of a string: which characters */
    int64_t min;  /* of an int its value, of a string its bytes */
    int64_t max;
    hp_str_t names; /* of an enum: "a|b|c", inside the rule's text */
} hp_param_rule_t;

/* Compiles a rule; its text must live as long as the rule. NULL, or in plain
 * words what is wrong with the text. */
const char *hp_param_rule(hp_param_rule_t *rule, hp_str_t text);

typedef struct {
    int64_t number; /* int; bool 0, 1; enum: place from 0; date:
                     * days, time: microseconds since 1970 */
    unsigned char uuid[HP_UUID_SIZE];
    unsigned char text[HP_UUID_TEXT]; /* uuid, time: the one spelling */
    unsigned text_len; /* 0: what was given is the one spelling */
} hp_param_value_t;

/* Checks a decoded value. *value means something with HP_PARAM_OK only; but
 * with HP_PARAM_BAD_RANGE its number is the one given, or the end of int64_t
 * that it is beyond. */
hp_param_status_t hp_param_check(const hp_param_rule_t *rule, hp_str_t text,
                                 hp_param_value_t *value);

/* Resolves %XX; with plus also '+' to a space (query strings; not paths). dst
 * holds at least raw.len bytes, or is raw.data itself; *len is what was
 * written. HP_PARAM_OK, HP_PARAM_BAD_ESCAPE or HP_PARAM_BAD_NUL. */
hp_param_status_t hp_param_decode(unsigned char *dst, size_t *len, hp_str_t raw,
                                  int plus);

/* Walks a query string (without its '?'). *rest starts as the whole. 1 with the
 * next argument as it stands there, value empty where it has no '='; 0 at the
 * end. Empty pieces between two '&' count for nothing. */
int hp_param_next(hp_str_t *rest, hp_str_t *name, hp_str_t *value);

/* 1 where given, as it stands in a query string, is that name (1 to
 * HP_PARAM_NAME_MAX bytes): in either spelling, escaped or not, as whoever is
 * behind us may decode it. */
int hp_param_named(hp_str_t given, hp_str_t name);

/* How often an argument of that name is in the query: 0, 1, or 2 for more;
 * *value is the first one's. */
int hp_param_find(hp_str_t query, hp_str_t name, hp_str_t *value);

#endif
