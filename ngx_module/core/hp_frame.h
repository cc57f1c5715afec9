/*
 * hp_frame.h: writes and reads the frames of schemas/framing.md.
 *
 * Event groups (nginx to drain) and document pushes (projector to nginx, and
 * the value kept in Redis). Readers trust nothing: every length is checked
 * against what is left before it is used. No allocation.
 */
#ifndef HP_FRAME_H
#define HP_FRAME_H

#include "hp_base.h"

#define HP_EVENT_GROUP_HEADER 8
#define HP_EVENT_FIXED 72 /* with its length field */
#define HP_EVENT_COUNT_MAX 65535

#define HP_ATTRIBUTES_MAX 65535

/* What the payload is of what the client sent. */
typedef enum {
    HP_DATA_JSON = 0, /* the value itself */
    HP_DATA_NONE,     /* null, in the place of no data at all */
    HP_DATA_TEXT,     /* a string with text of another type */
    HP_DATA_BASE64    /* a string with bytes in base64 */
} hp_data_t;

typedef struct {
    unsigned char operation_id[HP_UUID_SIZE];
    unsigned char fingerprint[HP_FINGERPRINT_SIZE];
    int64_t accepted_us;
    hp_str_t tenant;
    hp_str_t route;
    hp_str_t key;
    hp_str_t type;
    hp_str_t traceparent; /* empty or 55 bytes */
    hp_str_t attributes;  /* of a CloudEvent: a JSON object; else empty */
    hp_data_t data;
    hp_str_t payload;
} hp_event_t;

/* Bytes that the record of this event takes. */
size_t hp_event_size(const hp_event_t *event);

/* Writes one record; dst holds hp_event_size() bytes. Returns its end. */
unsigned char *hp_event_write(unsigned char *dst, const hp_event_t *event);

/* Writes the 8 byte header of a group. */
void hp_event_group_header(unsigned char dst[HP_EVENT_GROUP_HEADER],
                           uint32_t count);

typedef struct {
    const unsigned char *pos;
    const unsigned char *last;
    uint32_t left;
} hp_frame_reader_t;

/* 0, or -1 where the header is not that of an event group. */
int hp_event_group_open(hp_frame_reader_t *reader, hp_str_t message);

/* 1: *event is the next one, pointing into the message; 0: all read and the
 * message ends there; -1: the frame is broken. */
int hp_event_group_next(hp_frame_reader_t *reader, hp_event_t *event);

#define HP_PUSH_HEADER 28
#define HP_DOC_FIXED 36 /* with its length field */
#define HP_DOC_DELETED 0x01
#define HP_DOC_KEY_MAX 1024

typedef struct {
    uint16_t partition;
    int64_t epoch_us;
    uint64_t sequence;
    uint32_t count;
} hp_push_t;

typedef struct {
    uint64_t version;
    int64_t modified_us;
    unsigned deleted;
    hp_str_t tenant;
    hp_str_t key;
    hp_str_t document;
} hp_doc_t;

/* 1 where a document may have that key: 1 to HP_DOC_KEY_MAX bytes of UTF-8
 * without U+0000, which is what Postgres takes. */
int hp_doc_key_valid(hp_str_t key);

void hp_push_header(unsigned char dst[HP_PUSH_HEADER], const hp_push_t *push);

/* 0, or -1 where the header is not that of a push. */
int hp_push_open(hp_frame_reader_t *reader, hp_str_t message, hp_push_t *push);

/* As hp_event_group_next(). */
int hp_push_next(hp_frame_reader_t *reader, hp_doc_t *doc);

size_t hp_doc_size(const hp_doc_t *doc);
unsigned char *hp_doc_write(unsigned char *dst, const hp_doc_t *doc);

/* The value kept in Redis: one record without its length. 0 or -1. */
int hp_doc_read_value(hp_doc_t *doc, hp_str_t value);

#endif
