/*
 * hp_stream.c: what a JetStream says of a stream, and why it refuses a message.
 *
 * Owns nothing, allocates nothing; results point into the caller's buffer. Runs
 * in nginx workers. Must not take a stream for fit because it could not be
 * understood, nor a refusal for one that says more than it does. See
 * hp_stream.h; tests/unit/test_stream.c, tests/fuzz/fuzz_nats.c.
 */
#include "hp_stream.h"
#include "hp_json.h"

#include <string.h>

#define JSON_DEPTH 32

#define NS_PER_MS 1000000u

static int member(hp_str_t object, const char *name, hp_json_slice_t *value,
                  int *is_string)
{
    hp_str_t key = {(const unsigned char *)name, strlen(name)};

    return hp_json_member(object, key, value, is_string);
}

static int is_text(hp_str_t object, const char *name, const char *text)
{
    hp_json_slice_t value;
    int is_string;

    return member(object, name, &value, &is_string) && is_string &&
           value.raw.len == strlen(text) &&
           memcmp(value.raw.data, text, value.raw.len) == 0;
}

/* Where it is no number above zero (-1 is "no limit"): 0. */
static uint64_t number(hp_str_t object, const char *name)
{
    hp_json_slice_t value;
    uint64_t n = 0;
    int is_string;
    size_t i;

    if (!member(object, name, &value, &is_string) || is_string ||
        value.raw.len > 18) {
        return 0;
    }
    for (i = 0; i < value.raw.len; i++) {
        if (value.raw.data[i] < '0' || value.raw.data[i] > '9') {
            return 0;
        }
        n = n * 10 + (uint64_t)(value.raw.data[i] - '0');
    }
    return n;
}

/* A subject has no escapes, so the strings are taken as they stand. */
static int is_bound(hp_str_t config, hp_str_t subject)
{
    hp_json_slice_t list;
    hp_str_t pattern;
    int is_string;

    if (!member(config, "subjects", &list, &is_string) || is_string ||
        list.raw.len == 0 || list.raw.data[0] != '[') {
        return 0;
    }
    while (hp_nats_url_next(&list.raw, &pattern)) {
        if (hp_nats_subject_match(pattern, subject)) {
            return 1;
        }
    }
    return 0;
}

int hp_stream_read(hp_stream_t *stream, hp_str_t answer, hp_str_t subject)
{
    hp_json_slice_t value, config;
    int is_string;
    size_t offset;

    memset(stream, 0, sizeof(*stream));
    while (answer.len && answer.data[0] <= ' ') {
        answer.data++;
        answer.len--;
    }
    if (answer.len == 0 || answer.data[0] != '{' ||
        hp_json_check(answer, JSON_DEPTH, &offset) != HP_JSON_OK) {
        return -1;
    }
    if (member(answer, "error", &value, &is_string)) {
        stream->err_code = (uint32_t)number(value.raw, "err_code");
        return 0;
    }
    if (!member(answer, "created", &value, &is_string) || !is_string ||
        value.raw.len == 0 || !member(answer, "config", &config, &is_string) ||
        is_string || config.raw.len == 0 || config.raw.data[0] != '{') {
        return -1;
    }

    stream->exists = 1;
    stream->created = value.raw;
    stream->replicas = number(config.raw, "num_replicas");
    stream->duplicate_window_ms =
        number(config.raw, "duplicate_window") / NS_PER_MS;
    stream->max_message = number(config.raw, "max_msg_size");
    if (member(answer, "state", &value, &is_string) && !is_string &&
        value.raw.len != 0 && value.raw.data[0] == '{') {
        stream->bytes = number(value.raw, "bytes");
    }
    stream->discard_new = is_text(config.raw, "discard", "new") != 0;
    stream->bound = is_bound(config.raw, subject) != 0;
    stream->closed =
        (member(config.raw, "sealed", &value, &is_string) && !is_string &&
         value.raw.len == 4 && value.raw.data[0] == 't') ||
        (member(config.raw, "mirror", &value, &is_string) && !is_string &&
         value.raw.len != 0 && value.raw.data[0] == '{');
    if (is_text(config.raw, "storage", "file")) {
        stream->storage = HP_STORAGE_FILE;
    } else if (is_text(config.raw, "storage", "memory")) {
        stream->storage = HP_STORAGE_MEMORY;
    }
    return 0;
}

hp_stream_fit_e hp_stream_check(const hp_stream_t *stream,
                                const hp_stream_wanted_t *wanted,
                                const char **reason)
{
    static const hp_str_t none = {NULL, 0};

    if (!stream->exists) {
        switch (hp_refused(stream->err_code, none)) {
        case HP_REFUSED_DEGRADED:
        case HP_REFUSED_FULL:
            *reason = "cannot_be_asked";
            break;
        default:
            *reason = "missing";
        }
        return HP_STREAM_UNFIT;
    }
    if (!stream->bound) {
        *reason = "subject_not_bound";
        return HP_STREAM_UNFIT;
    }
    if (stream->closed) {
        *reason = "takes_no_messages";
        return HP_STREAM_UNFIT;
    }
    if (!stream->discard_new) {
        *reason = "discards_old";
        return HP_STREAM_UNFIT;
    }
    if (wanted->storage != HP_STORAGE_ANY &&
        stream->storage != wanted->storage) {
        *reason = "storage_differs";
        /* in memory where files were promised: a restart loses everything */
        return wanted->storage == HP_STORAGE_FILE ? HP_STREAM_UNFIT
                                                  : HP_STREAM_WEAKER;
    }
    if (stream->replicas < wanted->replicas) {
        *reason = "too_few_replicas";
        return HP_STREAM_WEAKER;
    }
    if (stream->duplicate_window_ms < wanted->duplicate_window_ms) {
        *reason = "duplicate_window_too_short";
        return HP_STREAM_WEAKER;
    }
    if (stream->max_message && stream->max_message < wanted->max_message) {
        *reason = "max_msg_size_too_small";
        return HP_STREAM_WEAKER;
    }
    *reason = NULL;
    return HP_STREAM_FIT;
}

hp_refused_e hp_refused(uint32_t err_code, hp_str_t description)
{
    static const char maximum[] = "maximum ";
    static const char large[] = "message too large";
    static const struct {
        uint32_t code;
        hp_refused_e refused;
    } known[] = {
        {403, HP_REFUSED_DENIED},
        {503, HP_REFUSED_MISSING},    /* nobody listens to the subject */
        {10002, HP_REFUSED_FULL},     /* the account's limits */
        {10004, HP_REFUSED_DEGRADED}, /* cluster incomplete */
        {10005, HP_REFUSED_DEGRADED}, /* no suitable peers */
        {10006, HP_REFUSED_DEGRADED}, /* cluster not active */
        {10007, HP_REFUSED_DEGRADED}, /* not assigned to this server */
        {10008, HP_REFUSED_DEGRADED}, /* temporarily unavailable: no leader */
        {10009, HP_REFUSED_DEGRADED}, /* not the leader */
        {10023, HP_REFUSED_FULL},     /* insufficient resources */
        {10028, HP_REFUSED_FULL},     /* memory of the server */
        {10035, HP_REFUSED_MISSING},  /* account not found */
        {10039, HP_REFUSED_MISSING},  /* no JetStream for the account */
        {10041, HP_REFUSED_DEGRADED}, /* raft */
        {10047, HP_REFUSED_FULL},     /* storage of the server */
        {10051, HP_REFUSED_DEGRADED}, /* the stream, in general */
        {10053, HP_REFUSED_FULL},     /* limits of the stream */
        {10054, HP_REFUSED_SIZE},     /* max_msg_size */
        {10056, HP_REFUSED_MISSING},  /* another stream than was named */
        {10059, HP_REFUSED_MISSING},  /* no such stream */
        {10060, HP_REFUSED_MISSING},  /* Nats-Expected-Stream */
        {10074, HP_REFUSED_DEGRADED}, /* replicas without a cluster */
        {10075, HP_REFUSED_DEGRADED}, /* peers being moved */
        {10076, HP_REFUSED_MISSING},  /* no JetStream */
        {10096, HP_REFUSED_DEGRADED}, /* stream not valid */
        {10097, HP_REFUSED_SIZE},     /* headers */
        {10109, HP_REFUSED_MISSING},  /* sealed */
        {10118, HP_REFUSED_DEGRADED}, /* offline */
        {10122, HP_REFUSED_FULL},     /* the account's bytes of a stream */
        {10158, HP_REFUSED_UNSURE},   /* the same id is in process */
        {10167, HP_REFUSED_DEGRADED}, /* too many requests */
        {10194, HP_REFUSED_DEGRADED}, /* offline, with a reason */
    };
    size_t i;

    if (err_code == 10077) {
        /* the store's own words: its limits, or a disk that fails */
        if (description.len >= sizeof(maximum) - 1 &&
            memcmp(description.data, maximum, sizeof(maximum) - 1) == 0) {
            return HP_REFUSED_FULL;
        }
        return description.len == sizeof(large) - 1 &&
                       memcmp(description.data, large, sizeof(large) - 1) == 0
                   ? HP_REFUSED_SIZE
                   : HP_REFUSED_DEGRADED;
    }
    for (i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (known[i].code == err_code) {
            return known[i].refused;
        }
    }
    return HP_REFUSED_OTHER;
}
