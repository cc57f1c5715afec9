/*
 * hp_frame.c: the frames of schemas/framing.md, both directions.
 *
 * One job: bytes to structs and back. A writer is given what its caller has
 * checked and a buffer of the size it asked for; a reader is given whatever
 * came over the wire: every length is compared with what is left before it is
 * used, every rule of framing.md is checked, and a frame that breaks one gives
 * -1 now and at every further call. What a reader gives points into the
 * message, which stays its caller's; nothing is copied, kept or allocated. Any
 * process, any thread.
 *
 * Integers are put together from single bytes: unaligned, little-endian, the
 * same on every machine; compilers make one load or store of it.
 *
 * Contract: hp_frame.h. Tests: tests/unit/test_frame.c with schemas/golden/,
 * tests/fuzz/fuzz_frame.c.
 */
#include "hp_frame.h"

#include <string.h>

#include "hp_char.h"

#define HP_FRAME_VERSION 1
#define HP_EVENT_PREFIX (HP_EVENT_FIXED - 4) /* without the length field */
#define HP_DOC_PREFIX (HP_DOC_FIXED - 4)

static unsigned char *put16(unsigned char *p, uint32_t value)
{
    p[0] = (unsigned char)value;
    p[1] = (unsigned char)(value >> 8);
    return p + 2;
}

static unsigned char *put32(unsigned char *p, uint32_t value)
{
    p[0] = (unsigned char)value;
    p[1] = (unsigned char)(value >> 8);
    p[2] = (unsigned char)(value >> 16);
    p[3] = (unsigned char)(value >> 24);
    return p + 4;
}

static unsigned char *put64(unsigned char *p, uint64_t value)
{
    put32(p, (uint32_t)value);
    return put32(p + 4, (uint32_t)(value >> 32));
}

static unsigned char *put_bytes(unsigned char *p, const void *data, size_t len)
{
    if (len != 0) {
        memcpy(p, data, len);
    }

    return p + len;
}

static uint32_t get16(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t get32(const unsigned char *p)
{
    return get16(p) | get16(p + 2) << 16;
}

static uint64_t get64(const unsigned char *p)
{
    return (uint64_t)get32(p) | (uint64_t)get32(p + 4) << 32;
}

/* The next len bytes; the caller knows that they are there. */
static hp_str_t take(const unsigned char **p, size_t len)
{
    hp_str_t text;

    text.data = *p;
    text.len = len;
    *p += len;
    return text;
}

/* From now on the reader answers -1: something is left, but no byte of it. */
static int broken(hp_frame_reader_t *reader)
{
    reader->pos = reader->last;
    reader->left = 1;
    return -1;
}

/* Takes the next record without its length field: as hp_event_group_next(). */
static int next_record(hp_frame_reader_t *reader, size_t least,
                       hp_str_t *record)
{
    size_t left, len;

    left = (size_t)(reader->last - reader->pos);

    if (reader->left == 0) {
        return left == 0 ? 0 : broken(reader);
    }

    if (left < 4) {
        return broken(reader);
    }

    len = get32(reader->pos);

    if (len < least || len > left - 4) {
        return broken(reader);
    }

    reader->pos += 4;
    *record = take(&reader->pos, len);
    reader->left--;
    return 1;
}

static int open_frame(hp_frame_reader_t *reader, hp_str_t message,
                      size_t header, const char magic[3])
{
    memset(reader, 0, sizeof(*reader));
    reader->left = 1; /* nothing can be read where this fails */

    if (message.len < header || memcmp(message.data, magic, 3) != 0 ||
        message.data[3] != HP_FRAME_VERSION) {
        return -1;
    }

    reader->pos = message.data + header;
    reader->last = message.data + message.len;
    return 0;
}

size_t hp_event_size(const hp_event_t *event)
{
    return HP_EVENT_FIXED + event->tenant.len + event->route.len +
           event->key.len + event->type.len + event->traceparent.len +
           event->attributes.len + event->payload.len;
}

unsigned char *hp_event_write(unsigned char *dst, const hp_event_t *event)
{
    dst = put32(dst, (uint32_t)(hp_event_size(event) - 4));
    dst = put_bytes(dst, event->operation_id, HP_UUID_SIZE);
    dst = put_bytes(dst, event->fingerprint, HP_FINGERPRINT_SIZE);
    dst = put64(dst, (uint64_t)event->accepted_us);
    dst = put16(dst, (uint32_t)event->tenant.len);
    dst = put16(dst, (uint32_t)event->route.len);
    dst = put16(dst, (uint32_t)event->key.len);
    dst = put16(dst, (uint32_t)event->type.len);
    *dst++ = (unsigned char)event->traceparent.len;
    *dst++ = (unsigned char)event->data;
    dst = put16(dst, (uint32_t)event->attributes.len);
    dst = put_bytes(dst, event->tenant.data, event->tenant.len);
    dst = put_bytes(dst, event->route.data, event->route.len);
    dst = put_bytes(dst, event->key.data, event->key.len);
    dst = put_bytes(dst, event->type.data, event->type.len);
    dst = put_bytes(dst, event->traceparent.data, event->traceparent.len);
    dst = put_bytes(dst, event->attributes.data, event->attributes.len);
    return put_bytes(dst, event->payload.data, event->payload.len);
}

void hp_event_group_header(unsigned char dst[HP_EVENT_GROUP_HEADER],
                           uint32_t count)
{
    dst = put_bytes(dst, "HPE", 3);
    *dst++ = HP_FRAME_VERSION;
    put32(dst, count);
}

int hp_event_group_open(hp_frame_reader_t *reader, hp_str_t message)
{
    uint32_t count;

    if (open_frame(reader, message, HP_EVENT_GROUP_HEADER, "HPE") != 0) {
        return -1;
    }

    count = get32(message.data + 4);

    if (count == 0 || count > HP_EVENT_COUNT_MAX) {
        return broken(reader);
    }

    reader->left = count;
    return 0;
}

int hp_event_group_next(hp_frame_reader_t *reader, hp_event_t *event)
{
    size_t tenant, route, key, type, trace, attributes, texts;
    const unsigned char *p;
    hp_str_t record;
    int rc;

    rc = next_record(reader, HP_EVENT_PREFIX, &record);

    if (rc != 1) {
        return rc;
    }

    p = record.data;
    tenant = get16(p + 56);
    route = get16(p + 58);
    key = get16(p + 60);
    type = get16(p + 62);
    trace = p[64];
    attributes = get16(p + 66);
    texts = tenant + route + key + type + trace + attributes;

    if (tenant < 1 || tenant > HP_TENANT_MAX || route < 1 ||
        route > HP_ROUTE_MAX || key > HP_KEY_MAX || type < 1 ||
        type > HP_TYPE_MAX || (trace != 0 && trace != HP_TRACE_LEN) ||
        p[65] > HP_DATA_BASE64) {
        return broken(reader);
    }

    /* a payload is one JSON value: it has at least one byte */
    if (texts >= record.len - HP_EVENT_PREFIX) {
        return broken(reader);
    }

    memcpy(event->operation_id, p, HP_UUID_SIZE);
    memcpy(event->fingerprint, p + HP_UUID_SIZE, HP_FINGERPRINT_SIZE);
    event->accepted_us = (int64_t)get64(p + 48);
    event->data = (hp_data_t)p[65];

    p += HP_EVENT_PREFIX;
    event->tenant = take(&p, tenant);
    event->route = take(&p, route);
    event->key = take(&p, key);
    event->type = take(&p, type);
    event->traceparent = take(&p, trace);
    event->attributes = take(&p, attributes);
    event->payload = take(&p, record.len - HP_EVENT_PREFIX - texts);
    return 1;
}

int hp_doc_key_valid(hp_str_t key)
{
    const unsigned char *p, *end;
    unsigned len;

    if (key.len == 0 || key.len > HP_DOC_KEY_MAX) {
        return 0;
    }

    end = key.data + key.len;

    for (p = key.data; p < end; p += len) {
        len = hp_utf8_length(p, end);

        if (len == 0 || *p == '\0') {
            return 0;
        }
    }

    return 1;
}

void hp_push_header(unsigned char dst[HP_PUSH_HEADER], const hp_push_t *push)
{
    dst = put_bytes(dst, "HPP", 3);
    *dst++ = HP_FRAME_VERSION;
    dst = put16(dst, push->partition);
    dst = put16(dst, 0);
    dst = put64(dst, (uint64_t)push->epoch_us);
    dst = put64(dst, push->sequence);
    put32(dst, push->count);
}

int hp_push_open(hp_frame_reader_t *reader, hp_str_t message, hp_push_t *push)
{
    const unsigned char *p;

    if (open_frame(reader, message, HP_PUSH_HEADER, "HPP") != 0) {
        return -1;
    }

    p = message.data;
    push->partition = (uint16_t)get16(p + 4);
    push->epoch_us = (int64_t)get64(p + 8);
    push->sequence = get64(p + 16);
    push->count = get32(p + 24);

    /* sequences begin with 1; only a heartbeat before the first has none */
    if (get16(p + 6) != 0 || push->count > HP_EVENT_COUNT_MAX ||
        (push->count != 0 && push->sequence == 0) ||
        (push->count == 0 && message.len != HP_PUSH_HEADER)) {
        return broken(reader);
    }

    reader->left = push->count;
    return 0;
}

size_t hp_doc_size(const hp_doc_t *doc)
{
    return HP_DOC_FIXED + doc->tenant.len + doc->key.len + doc->document.len;
}

unsigned char *hp_doc_write(unsigned char *dst, const hp_doc_t *doc)
{
    int shift;

    dst = put32(dst, (uint32_t)(hp_doc_size(doc) - 4));
    dst = put_bytes(dst, "HPD", 3);
    *dst++ = doc->deleted ? HP_DOC_DELETED : 0;

    for (shift = 60; shift >= 0; shift -= 4) {
        *dst++ = hp_hex_digit((unsigned)(doc->version >> shift));
    }

    dst = put64(dst, (uint64_t)doc->modified_us);
    dst = put16(dst, (uint32_t)doc->tenant.len);
    dst = put16(dst, (uint32_t)doc->key.len);
    dst = put_bytes(dst, doc->tenant.data, doc->tenant.len);
    dst = put_bytes(dst, doc->key.data, doc->key.len);
    return put_bytes(dst, doc->document.data, doc->document.len);
}

/* Sixteen lower-case digits; others would not compare as text. */
static int get_version(const unsigned char *p, uint64_t *version)
{
    uint64_t value;
    int digit, i;

    value = 0;

    for (i = 0; i < 16; i++) {
        digit = p[i] >= 'A' && p[i] <= 'F' ? -1 : hp_hex_value(p[i]);

        if (digit < 0) {
            return -1;
        }

        value = value << 4 | (unsigned)digit;
    }

    *version = value;
    return 0;
}

int hp_doc_read_value(hp_doc_t *doc, hp_str_t value)
{
    const unsigned char *p;
    size_t tenant, key;
    unsigned deleted;

    if (value.len < HP_DOC_PREFIX) {
        return -1;
    }

    p = value.data;

    if (memcmp(p, "HPD", 3) != 0 || (p[3] & ~HP_DOC_DELETED) != 0 ||
        get_version(p + 4, &doc->version) != 0) {
        return -1;
    }

    deleted = p[3] & HP_DOC_DELETED;
    doc->modified_us = (int64_t)get64(p + 20);
    tenant = get16(p + 28);
    key = get16(p + 30);

    if (tenant > HP_TENANT_MAX || key < 1 || key > HP_DOC_KEY_MAX ||
        tenant + key > value.len - HP_DOC_PREFIX) {
        return -1;
    }

    p += HP_DOC_PREFIX;
    doc->deleted = deleted;
    doc->tenant = take(&p, tenant);
    doc->key = take(&p, key);
    doc->document = take(&p, value.len - HP_DOC_PREFIX - tenant - key);

    /* a tombstone has no document, everything else has one */
    return (doc->document.len == 0) == (deleted != 0) ? 0 : -1;
}

int hp_push_next(hp_frame_reader_t *reader, hp_doc_t *doc)
{
    hp_str_t record;
    int rc;

    rc = next_record(reader, HP_DOC_PREFIX, &record);

    if (rc == 1 && hp_doc_read_value(doc, record) != 0) {
        return broken(reader);
    }

    return rc;
}
