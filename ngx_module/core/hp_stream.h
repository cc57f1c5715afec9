/*
 * hp_stream.h: what a JetStream says of a stream, and why it refuses a message.
 *
 * Reads the answer to $JS.API.STREAM.INFO and compares it with what the
 * operator said; sorts the error of a PubAck into the few kinds that a client
 * can act on. Sources: nats-server's errors.json (numbers are stable since
 * 2.4) and the JetStream API reference. Trusts nothing: what is missing or of
 * another type is a configuration that cannot be relied on. Used by
 * ngx_http_hotpath_stream.c; unit tests in tests/unit/test_stream.c, fuzzed
 * with the protocol in tests/fuzz/fuzz_nats.c.
 */
#ifndef HP_STREAM_H
#define HP_STREAM_H

#include "hp_nats.h"

typedef enum {
    HP_STORAGE_ANY = 0, /* wanted: not said */
    HP_STORAGE_FILE,
    HP_STORAGE_MEMORY
} hp_storage_e;

/* Texts point into the answer. */
typedef struct {
    hp_str_t created;
    uint64_t replicas;
    uint64_t duplicate_window_ms;
    uint64_t max_message; /* bytes; 0: the server's max_payload alone */
    uint64_t bytes;       /* that it holds; 0 where that is not said */
    hp_storage_e storage;
    unsigned exists : 1;
    unsigned discard_new : 1;
    unsigned bound : 1;  /* the subject is one of its own */
    unsigned closed : 1; /* sealed, or a mirror: takes no messages */
    uint32_t err_code;   /* where it does not exist: of the refusal */
} hp_stream_t;

/* 0, or -1 where the answer is none. */
int hp_stream_read(hp_stream_t *stream, hp_str_t answer, hp_str_t subject);

typedef struct {
    hp_storage_e storage;
    uint64_t replicas;
    uint64_t duplicate_window_ms;
    uint64_t max_message;
} hp_stream_wanted_t;

/* From the worst: what is unfit gets no message, what is weaker than was said
 * does, and is complained of. Reasons are stable words for people's checks. */
typedef enum {
    HP_STREAM_FIT = 0,
    HP_STREAM_WEAKER,
    HP_STREAM_UNFIT
} hp_stream_fit_e;

hp_stream_fit_e hp_stream_check(const hp_stream_t *stream,
                                const hp_stream_wanted_t *wanted,
                                const char **reason);

typedef enum {
    HP_REFUSED_OTHER = 0,
    HP_REFUSED_FULL,     /* a limit of stream, account or server is reached */
    HP_REFUSED_MISSING,  /* no such stream, or another one, or none at all */
    HP_REFUSED_DEGRADED, /* no leader or quorum, a store that fails: later */
    HP_REFUSED_DENIED,   /* no right to publish there */
    HP_REFUSED_SIZE,     /* larger than stream or server take */
    HP_REFUSED_UNSURE    /* an equal message may be on its way to the store */
} hp_refused_e;

/* err_code: JetStream's number, or a status of the server's (503: nobody
 * listens; 403: see HP_NATS_TROUBLE_PUBLISH). */
hp_refused_e hp_refused(uint32_t err_code, hp_str_t description);

#endif
