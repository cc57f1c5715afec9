/*
 * hp_event.h: from a request to its events: which form it has, and the
 * elements of an array.
 *
 * The forms are one envelope or an array of them in application/json
 * (hp_json_event() reads one), a CloudEvent in structured mode, a CloudEvents
 * batch, and a CloudEvent in binary mode (hp_cloudevent.h). JSON is checked by
 * hp_json_check() first, once for the whole body: an array that is no valid
 * JSON is refused as a whole, what is wrong inside an element is that
 * element's result. An element is handed on as the bytes it was sent as.
 * Unit tests: tests/unit/test_event.c.
 */
#ifndef HP_EVENT_H
#define HP_EVENT_H

#include "hp_base.h"
#include "hp_walk.h"

typedef enum {
    HP_EVENT_OK = 0,
    /* of the request */
    HP_EVENT_CONTENT_TYPE_INVALID,     /* Content-Type is no media type */
    HP_EVENT_CONTENT_TYPE_UNSUPPORTED, /* one that holds no events (415) */
    HP_EVENT_CHARSET_UNSUPPORTED,      /* its charset is not utf-8 (415) */
    HP_EVENT_BATCH_NOT_ARRAY,
    HP_EVENT_BATCH_TOO_MANY, /* elements */
    /* of one event */
    HP_EVENT_NOT_OBJECT,
    HP_EVENT_SPECVERSION,          /* another specversion than 1.0 */
    HP_EVENT_ATTRIBUTE_NAME,       /* no attribute may be called so */
    HP_EVENT_ATTRIBUTE_DUPLICATE,  /* there twice */
    HP_EVENT_ATTRIBUTE_REQUIRED,   /* not there */
    HP_EVENT_ATTRIBUTE_TYPE,       /* not of the JSON type it must have */
    HP_EVENT_ATTRIBUTE_VALUE,      /* not of the form it must have */
    HP_EVENT_ATTRIBUTE_ENCODING,   /* of a header's value */
    HP_EVENT_ATTRIBUTES_TOO_MANY,  /* HP_CLOUDEVENT_ATTRIBUTES_MAX */
    HP_EVENT_ATTRIBUTES_TOO_LARGE, /* HP_CLOUDEVENT_TEXT_MAX */
    HP_EVENT_DATA_DUPLICATE,       /* data, data_base64, or both, twice */
    HP_EVENT_DATA_TYPE,            /* no string where it must be one */
    HP_EVENT_DATA_BASE64           /* no base64 */
} hp_event_status_t;

/* A stable code for a problem document, such as "ce_attribute_required". */
const char *hp_event_code(hp_event_status_t status);

typedef enum {
    HP_EVENT_OWN,        /* an envelope, or an array of them */
    HP_EVENT_STRUCTURED, /* a CloudEvent */
    HP_EVENT_BATCH,      /* an array of CloudEvents */
    HP_EVENT_BINARY      /* a CloudEvent whose attributes are headers */
} hp_event_form_t;

/* Which form a request has, by its Content-Type (len 0: none) and by whether
 * it has a ce-specversion header. */
hp_event_status_t hp_event_form(hp_str_t content_type, int has_specversion,
                                hp_event_form_t *form);

/* The elements of a top-level array. */
typedef struct {
    hp_walk_t walk;
    const unsigned char *start;
    uint32_t count;
} hp_event_list_t;

/* Whether a text's first token opens an array. */
int hp_event_is_list(hp_str_t text);

/* text is checked. count is how many elements there are; none is allowed. */
hp_event_status_t hp_event_list_open(hp_event_list_t *list, hp_str_t text,
                                     uint32_t max_count);

/* 1: *element is the next one, *offset where it begins in the text; 0: that
 * was all. */
int hp_event_list_next(hp_event_list_t *list, hp_str_t *element,
                       size_t *offset);

#endif
