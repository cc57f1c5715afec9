/*
 * hp_json.h: strict JSON in one pass, without building a tree.
 *
 * Accepts exactly RFC 8259, less what PostgreSQL's jsonb refuses: U+0000 in a
 * string, a lone surrogate, a number outside numeric's range. Both are refused
 * here so that what was answered 202 can be stored. Stateless; touches nothing
 * but its arguments. Unit tests: tests/unit/test_json.c; fuzzed against a
 * second strict parser: tests/fuzz/.
 *
 * Numbers are those of PostgreSQL 15, exactly: with the exponent applied, up to
 * 131072 digits before the point (leading zeros not counted) and up to 16383
 * after it (zeros counted, so 0e-16384 is outside), and an exponent of less
 * than 1073741823 either way, which 0e1073741823 has not (PostgreSQL 16 and
 * later take this one value; it is refused here as well).
 *
 * What is left to the caller: a text of 256 MB or more, which jsonb refuses as
 * a whole, must be refused by its size.
 */
#ifndef HP_JSON_H
#define HP_JSON_H

#include "hp_base.h"

typedef enum {
    HP_JSON_OK = 0,
    HP_JSON_EMPTY,     /* nothing but white space */
    HP_JSON_SYNTAX,    /* not RFC 8259 */
    HP_JSON_TRAILING,  /* something after the value */
    HP_JSON_UTF8,      /* not UTF-8 (RFC 3629: no overlong, no surrogate) */
    HP_JSON_NUL,       /* \u0000 */
    HP_JSON_SURROGATE, /* a \u escape that is half a pair */
    HP_JSON_NUMBER,    /* outside what numeric stores */
    HP_JSON_DEPTH,     /* nested deeper than max_depth */
    /* only from hp_json_event(): */
    HP_JSON_NOT_OBJECT,       /* the top level is no object */
    HP_JSON_MEMBER_DUPLICATE, /* one of the known members twice */
    HP_JSON_MEMBER_UNKNOWN,   /* another member than the known ones */
    HP_JSON_MEMBER_TYPE       /* a known member is not of its JSON type */
} hp_json_status_t;

/* A stable code for a problem document, such as "json_syntax". */
const char *hp_json_code(hp_json_status_t status);

/* One string or value inside the input; raw is without the quotes for a
 * string. escaped: raw holds at least one backslash. spaced: raw holds
 * insignificant white space (values only). */
typedef struct {
    hp_str_t raw;
    unsigned present : 1;
    unsigned escaped : 1;
    unsigned spaced : 1;
} hp_json_slice_t;

/* The sample envelope: {"idempotencyKey":string,"eventType":string,
 * "payload":any}. Members may be missing (present is 0), in any order, and
 * their names may be written with escapes. */
typedef struct {
    hp_json_slice_t key;
    hp_json_slice_t type;
    hp_json_slice_t payload;
    size_t error_offset; /* byte at which the input stops being acceptable */
} hp_json_event_t;

/*
 * Where the input stops being acceptable: the first byte that no valid text
 * could have there, text.len where it just ends too early; the first byte of a
 * broken UTF-8 sequence; the backslash of a refused escape (NUL, SURROGATE);
 * the first byte of a number outside the range, of a value of the wrong type,
 * of a top-level value that is no object; the opening quote of an unknown or
 * repeated name. The scan ends there, so what stands behind was not checked.
 */

/* Checks one JSON text. *error_offset is set on any status but OK;
 * max_depth: arrays and objects open at once, 1 to 1000. */
hp_json_status_t hp_json_check(hp_str_t text, unsigned max_depth,
                               size_t *error_offset);

/* Checks the whole text and finds the three members, in the same pass. On any
 * status but OK only error_offset means something. raw of payload is the whole
 * value, of a string with its quotes; raw of the others is without. escaped of
 * payload: some string in it holds a backslash. */
hp_json_status_t hp_json_event(hp_str_t text, unsigned max_depth,
                               hp_json_event_t *event);

/* Writes a checked string with its escapes resolved to UTF-8; dst holds at
 * least raw.len bytes, or is raw.data itself; returns the length written, never
 * more than raw.len. */
size_t hp_json_unescape(unsigned char *dst, hp_str_t raw);

/* Copies a checked value without its insignificant white space; dst holds at
 * least raw.len bytes, or is raw.data itself; returns the length written. */
size_t hp_json_compact(unsigned char *dst, hp_str_t raw);

/* Finds a direct member of a checked object by its (unescaped) name and gives
 * its value: for a string without quotes, *is_string set. The last one counts
 * where there are several, as in jsonb. Returns 1 if found, else 0 (also where
 * the value is no object). */
int hp_json_member(hp_str_t object, hp_str_t name, hp_json_slice_t *value,
                   int *is_string);

/* Writes text as the inside of a JSON string (escapes quotes, backslash and
 * controls; invalid UTF-8 becomes U+FFFD). Returns bytes written, stops before
 * a character that would not fit. dst of 6 * text.len always fits. */
size_t hp_json_escape(unsigned char *dst, size_t size, hp_str_t text);

#endif
