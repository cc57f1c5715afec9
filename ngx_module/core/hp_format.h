/*
 * hp_format.h: yes or no to short texts of a known form: times, URIs,
 * media types.
 *
 * Plain text, escapes already resolved. Nothing is repaired. Used for
 * CloudEvents attributes, for Content-Type and for `format` of a schema.
 * Unit tests: tests/unit/test_format.c.
 */
#ifndef HP_FORMAT_H
#define HP_FORMAT_H

#include "hp_base.h"

#define HP_DATE_TIME_MAX 64

/* RFC 3339 date-time of at most HP_DATE_TIME_MAX bytes, years 1 to 9999: "T"
 * and "Z" in either case, any number of digits in the fraction (hp_time_parse()
 * takes six), a second of 60 where UTC has 23:59:60, of whatever day. */
int hp_date_time_valid(hp_str_t text);

/* A URI-reference by RFC 3986, not empty: only its characters, percent signs
 * with two hexadecimal digits, one '#' at most, and in front of the first ':'
 * (where it stands before any of "/?#") a scheme. With needs_scheme: a URI,
 * so without a scheme it is refused. */
int hp_uri_valid(hp_str_t text, int needs_scheme);

typedef enum {
    HP_MEDIA_JSON = 1,        /* application/json */
    HP_MEDIA_JSON_LIKE,       /* another subtype json, or one ending +json */
    HP_MEDIA_CLOUDEVENT,      /* application/cloudevents+json */
    HP_MEDIA_CLOUDEVENT_LIST, /* application/cloudevents-batch+json */
    HP_MEDIA_CLOUDEVENT_ELSE, /* begins as one of these, in another format */
    HP_MEDIA_ELSE
} hp_media_kind_t;

typedef struct {
    hp_media_kind_t kind;
    unsigned charset_other; /* a charset is named that is not utf-8 */
} hp_media_t;

/* Reads a media type with its parameters (RFC 9110, 8.3.1). 0, or -1 where it
 * is none, or names charset twice. */
int hp_media_parse(hp_str_t value, hp_media_t *media);

#endif
