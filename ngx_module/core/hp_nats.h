/*
 * hp_nats.h: the NATS client protocol as bytes, without any I/O.
 *
 * Reads what a server sends (INFO, MSG, HMSG, PING, PONG, +OK, -ERR) out of a
 * contiguous buffer and reads the JSON of INFO and of a JetStream PubAck.
 * Source: the NATS client protocol reference and ADR-4 (headers). Trusts
 * nothing: a line longer than HP_NATS_LINE_MAX, a size that is no number or
 * above the caller's bound, or a missing CRLF is a protocol error. What a
 * JetStream says of its streams is in hp_stream.h. Used by
 * ngx_http_hotpath_nats_link.c; unit tests in tests/unit/test_nats.c.
 */
#ifndef HP_NATS_H
#define HP_NATS_H

#include "hp_base.h"

/* INFO of a big cluster lists hundreds of URLs. */
#define HP_NATS_LINE_MAX 65536

typedef enum {
    HP_NATS_MORE = 0, /* not a whole operation yet */
    HP_NATS_INFO,
    HP_NATS_MSG, /* MSG or HMSG */
    HP_NATS_PING,
    HP_NATS_PONG,
    HP_NATS_OK,
    HP_NATS_ERR,
    HP_NATS_BROKEN /* not the protocol; the connection is of no more use */
} hp_nats_op_e;

/* Points into the buffer that was read. */
typedef struct {
    hp_str_t subject;
    hp_str_t reply;
    uint64_t sid;
    unsigned status;  /* of a header line "NATS/1.0 503"; 0 without */
    hp_str_t headers; /* the whole header block, "NATS/1.0..." included */
    hp_str_t payload;
    hp_str_t text; /* the JSON of INFO; the text of -ERR without quotes */
} hp_nats_op_t;

/*
 * Reads the operation at the start of data. *consumed: its bytes, where it is
 * whole. *wanted: for HP_NATS_MORE the bytes the buffer must be able to hold
 * for this operation, at least len + 1.
 */
hp_nats_op_e hp_nats_read(hp_str_t data, size_t payload_max, hp_nats_op_t *op,
                          size_t *consumed, size_t *wanted);

/* What a client must know of INFO; texts point into it and are not unescaped
 * (a server's name, nonce and urls need no escapes). */
typedef struct {
    uint64_t max_payload;
    unsigned headers : 1;
    unsigned auth_required : 1;
    unsigned tls_required : 1;
    unsigned tls_available : 1;
    unsigned lame_duck : 1;
    hp_str_t version;
    hp_str_t nonce;
    hp_str_t connect_urls; /* the JSON array, or empty */
} hp_nats_info_t;

/* 0, or -1 where text is no JSON object or a member is not of its type. */
int hp_nats_info_read(hp_nats_info_t *info, hp_str_t text);

/* The next of connect_urls, without its quotes; 1, or 0 where none is left.
 * urls is moved on. An element that is no string of 1 to HP_NATS_URL_MAX bytes
 * without escapes is passed over. */
#define HP_NATS_URL_MAX 255
int hp_nats_url_next(hp_str_t *urls, hp_str_t *url);

/* What -ERR means for whoever is connected. Words as nats-server says them, in
 * any case of letters. */
typedef enum {
    HP_NATS_TROUBLE_OTHER = 0, /* worth a line in a log; the connection goes on
                                  unless the server closes it */
    HP_NATS_TROUBLE_PUBLISH,   /* no right to publish to a subject */
    HP_NATS_TROUBLE_SUBSCRIBE, /* no right to subscribe to one */
    HP_NATS_TROUBLE_AUTH,      /* credentials refused, expired, revoked */
    HP_NATS_TROUBLE_LIMIT,     /* too many connections or subscriptions */
    HP_NATS_TROUBLE_PAYLOAD,   /* a message was larger than max_payload */
    HP_NATS_TROUBLE_BROKEN /* stale, a TLS that is missing, not understood */
} hp_nats_trouble_e;

/* subject: of the first two, inside text; else empty. */
hp_nats_trouble_e hp_nats_trouble(hp_str_t text, hp_str_t *subject);

/* Whether every subject that matches the literal subject's place is taken in by
 * pattern: tokens equal, "*" for one, ">" for one or more at the end. */
int hp_nats_subject_match(hp_str_t pattern, hp_str_t subject);

typedef struct {
    uint64_t sequence;
    unsigned duplicate : 1;
    unsigned error : 1;
    uint32_t code;     /* of an error: HTTP-like status */
    uint32_t err_code; /* of an error: JetStream's own number */
    hp_str_t stream;   /* may be empty with an error */
    hp_str_t description;
} hp_nats_puback_t;

/* 0, or -1 where the payload is not a PubAck: then nothing was promised. */
int hp_nats_puback_read(hp_nats_puback_t *ack, hp_str_t payload);

#endif
