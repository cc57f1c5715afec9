/*
 * hp_cloudevent.h: reads CloudEvents 1.0, from JSON or from HTTP headers.
 *
 * Its key, type and data, and all its other attributes as one JSON object. No
 * tree, no allocation; data is not copied. Rules, beyond those of
 * https://github.com/cloudevents/spec v1.0.2:
 *
 * - Names of attributes are [a-z0-9]{1,20}; none may be there twice; null
 *   means: not there. Values are strings, booleans, or integers of 32 bits;
 *   no control characters and no noncharacters in strings.
 * - specversion is "1.0". id, type (1 to HP_TYPE_MAX bytes) and source (a
 *   URI-reference) are required and not empty. time is RFC 3339, dataschema a
 *   URI, datacontenttype a media type, subject and partitionkey not empty.
 * - data is any JSON where datacontenttype is absent or a JSON type, else a
 *   string; data_base64 is a string of base64 with padding (RFC 4648 section
 *   4). Both together are refused. In binary mode the body must be JSON or
 *   empty.
 * - The key is `source`, a space (no URI-reference has one), `id`; where that
 *   is no valid key (hp_key_valid) it is "sha256:" and, in hexadecimal,
 *   hp_fingerprint() of source and id, and that has no space: no two events
 *   share a key.
 * - A header's value is trimmed, unquoted where all of it is quoted, then
 *   percent-decoded once; a quote elsewhere, a '%' that begins no pair of
 *   digits, and what is no UTF-8 then, are refused.
 *
 * Unit tests: tests/unit/test_cloudevent.c.
 */
#ifndef HP_CLOUDEVENT_H
#define HP_CLOUDEVENT_H

#include "hp_event.h"

#define HP_CLOUDEVENT_ATTRIBUTES_MAX 32
#define HP_CLOUDEVENT_NAME_MAX 20
#define HP_CLOUDEVENT_TEXT_MAX 8192 /* of all values of one event, as sent */

/* The longest text of hp_cloudevent_t.attributes: a value may double (quotes
 * and backslashes), a name brings quotes, colon and comma. */
#define HP_CLOUDEVENT_JSON_MAX                                                 \
    (2 * HP_CLOUDEVENT_TEXT_MAX +                                              \
     HP_CLOUDEVENT_ATTRIBUTES_MAX * (HP_CLOUDEVENT_NAME_MAX + 6) + 2)

typedef enum {
    HP_CLOUDEVENT_NONE, /* the event has no data */
    HP_CLOUDEVENT_JSON,
    HP_CLOUDEVENT_TEXT,  /* a JSON string with text of another type */
    HP_CLOUDEVENT_BASE64 /* a JSON string with bytes in base64 */
} hp_cloudevent_data_t;

typedef struct {
    hp_str_t name;
    hp_str_t value;     /* of a string: its characters; else as sent */
    unsigned char kind; /* private to hp_cloudevent.c */
} hp_cloudevent_attribute_t;

/* About 28 KB: one for each worker, used for one event after another. What it
 * gives points into itself, data into the text or body. */
typedef struct {
    hp_str_t key; /* hp_key_valid() */
    hp_str_t type;
    hp_str_t partition_key; /* of the extension partitionkey; else empty */
    hp_str_t data;          /* one JSON value; empty where there is none */
    hp_cloudevent_data_t data_kind;
    unsigned data_spaced; /* white space in it: hp_json_compact() */

    /* All attributes but type and specversion as one JSON object, members in
     * the order of their names, without white space and without needless
     * escapes, so that however an event is sent it has the same. Where the
     * data is JSON and datacontenttype is absent, application/json. */
    hp_str_t attributes;

    /* on any status but OK: */
    hp_str_t fault;      /* name of the attribute; where it is none, what was
                          sent, of whatever length; or empty */
    size_t error_offset; /* in the object given; 0 in binary mode */

    hp_cloudevent_attribute_t attribute[HP_CLOUDEVENT_ATTRIBUTES_MAX];
    unsigned attribute_count;
    size_t text_len; /* of the values, as sent */
    size_t room_used;
    unsigned char room[HP_CLOUDEVENT_TEXT_MAX +
                       HP_CLOUDEVENT_ATTRIBUTES_MAX * HP_CLOUDEVENT_NAME_MAX];
    unsigned char json[HP_CLOUDEVENT_JSON_MAX];
    unsigned char key_text[HP_KEY_MAX];
} hp_cloudevent_t;

/* Structured mode: object is one checked JSON value. */
hp_event_status_t hp_cloudevent_read(hp_cloudevent_t *event, hp_str_t object);

/* Binary mode: begin, then every header whose name begins with "ce-", then
 * end. name is what stands behind "ce-", in either case. body is checked JSON,
 * or empty; content_type has len 0 where there is none. */
void hp_cloudevent_begin(hp_cloudevent_t *event);
hp_event_status_t hp_cloudevent_header(hp_cloudevent_t *event, hp_str_t name,
                                       hp_str_t value);
hp_event_status_t hp_cloudevent_end(hp_cloudevent_t *event,
                                    hp_str_t content_type, hp_str_t body);

#endif
