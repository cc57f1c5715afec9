/*
 * hp_fleet.c: reads what instances tell one another.
 *
 * One job: a message in, its members out, each within its bounds, or nothing.
 * Anybody who may publish on the subject may have written it. Owns nothing,
 * allocates nothing, keeps no state; in nginx it runs in the event loop, in
 * time linear in the message, which NATS bounds.
 *
 * What must never happen here: a text given that is longer than the header
 * promises, or holds what JSON would have to escape.
 *
 * Contract: hp_fleet.h, schemas/framing.md. Tests: tests/unit/test_fleet.c,
 * tests/fuzz/fuzz_purge.c.
 */
#include "hp_fleet.h"

#include <string.h>

/* A list of keys inside a purge inside the message, and one to spare. */
#define HP_FLEET_DEPTH 4

#define HP_FLEET_ERROR_MAX 32

static int is_object(hp_str_t message)
{
    size_t offset;

    return hp_json_check(message, HP_FLEET_DEPTH, &offset) == HP_JSON_OK;
}

/* A string without escapes; ours have none. */
static int get_text(hp_str_t message, const char *name, hp_str_t *text)
{
    hp_str_t member = {(const unsigned char *)name, strlen(name)};
    hp_json_slice_t value;
    int is_string;

    if (!hp_json_member(message, member, &value, &is_string) || !is_string ||
        value.escaped) {
        return -1;
    }

    *text = value.raw;
    return 0;
}

/* What is no whole number of at most 18 digits counts as 0. */
static uint64_t get_number(hp_str_t message, const char *name)
{
    hp_str_t member = {(const unsigned char *)name, strlen(name)};
    hp_json_slice_t value;
    uint64_t number;
    int is_string;
    size_t i;

    if (!hp_json_member(message, member, &value, &is_string) || is_string ||
        value.raw.len > 18) {
        return 0;
    }

    number = 0;

    for (i = 0; i < value.raw.len; i++) {
        if (value.raw.data[i] < '0' || value.raw.data[i] > '9') {
            return 0;
        }

        number = number * 10 + (value.raw.data[i] - '0');
    }

    return number;
}

static unsigned get_true(hp_str_t message, const char *name)
{
    hp_str_t member = {(const unsigned char *)name, strlen(name)};
    hp_json_slice_t value;
    int is_string;

    return hp_json_member(message, member, &value, &is_string) && !is_string &&
           value.raw.len == 4 && value.raw.data[0] == 't';
}

int hp_instance_char(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
           (c >= 'a' && c <= 'z') || c == '.' || c == '_' || c == '-' ||
           c == ':';
}

static int get_instance(hp_str_t message, const char *name, hp_str_t *text)
{
    size_t i;

    if (get_text(message, name, text) != 0 || text->len == 0 ||
        text->len > HP_INSTANCE_MAX) {
        return -1;
    }

    for (i = 0; i < text->len; i++) {
        if (!hp_instance_char(text->data[i])) {
            return -1;
        }
    }

    return 0;
}

static int get_id(hp_str_t message, hp_str_t *id)
{
    size_t i;

    if (get_text(message, "id", id) != 0 || id->len != HP_PURGE_ID) {
        return -1;
    }

    for (i = 0; i < id->len; i++) {
        if (memchr("0123456789abcdef", id->data[i], 16) == NULL) {
            return -1;
        }
    }

    return 0;
}

int hp_beat_read(hp_beat_t *beat, hp_str_t message)
{
    memset(beat, 0, sizeof(*beat));

    if (!is_object(message) ||
        get_instance(message, "instance", &beat->instance) != 0) {
        return -1;
    }

    beat->began_us = get_number(message, "began");
    beat->leaving = get_true(message, "leaving");
    return 0;
}

int hp_purge_ask_read(hp_purge_ask_t *ask, hp_str_t message)
{
    static const hp_str_t name = HP_STR("purge");
    hp_json_slice_t value;
    int is_string;

    memset(ask, 0, sizeof(*ask));

    if (!is_object(message) || get_id(message, &ask->id) != 0 ||
        get_instance(message, "from", &ask->from) != 0 ||
        !hp_json_member(message, name, &value, &is_string) || is_string) {
        return -1;
    }

    ask->purge = value.raw;
    return 0;
}

int hp_purge_answer_read(hp_purge_answer_t *answer, hp_str_t message)
{
    size_t i;

    memset(answer, 0, sizeof(*answer));

    if (!is_object(message) || get_id(message, &answer->id) != 0 ||
        get_instance(message, "instance", &answer->instance) != 0) {
        return -1;
    }

    answer->done = get_true(message, "done");
    answer->purged = get_number(message, "purged");
    answer->redis = get_number(message, "redis");

    if (get_text(message, "error", &answer->error) == 0) {
        if (answer->error.len == 0 || answer->error.len > HP_FLEET_ERROR_MAX) {
            return -1;
        }

        for (i = 0; i < answer->error.len; i++) {
            if (answer->error.data[i] != '_' &&
                (answer->error.data[i] < 'a' || answer->error.data[i] > 'z')) {
                return -1;
            }
        }
    }

    return 0;
}
