/*
 * hp_purge.c: reads what is to be purged.
 *
 * One job: a JSON object in, a target out, or the one reason why it is none.
 * The text is checked as a whole first (hp_json.c), then gone through once;
 * what the members say is checked against one another at the end, because they
 * come in any order. Owns nothing, allocates nothing, keeps no state: in nginx
 * it runs in the event loop, in time linear in the text.
 *
 * What must never happen here: a text that is read as a larger target than
 * whoever wrote it meant.
 *
 * Contract: hp_purge.h, schemas/framing.md. Tests: tests/unit/test_purge.c,
 * tests/fuzz/fuzz_purge.c.
 */
#include "hp_purge.h"

#include <string.h>

#include "hp_id.h"
#include "hp_walk.h"

/* An array of strings inside an object. */
#define HP_PURGE_DEPTH 2

enum {
    HP_PURGE_SAW_MODEL = 0x01,
    HP_PURGE_SAW_TENANT = 0x02,
    HP_PURGE_SAW_KEY = 0x04,
    HP_PURGE_SAW_KEYS = 0x08,
    HP_PURGE_SAW_TAG = 0x10,
    HP_PURGE_SAW_MODE = 0x20,
};

static const struct {
    hp_str_t name;
    unsigned saw;
} members[] = {
    {HP_STR("model"), HP_PURGE_SAW_MODEL},
    {HP_STR("tenant"), HP_PURGE_SAW_TENANT},
    {HP_STR("key"), HP_PURGE_SAW_KEY},
    {HP_STR("keys"), HP_PURGE_SAW_KEYS},
    {HP_STR("tag"), HP_PURGE_SAW_TAG},
    {HP_STR("mode"), HP_PURGE_SAW_MODE},
};

static unsigned member_of(hp_str_t name)
{
    size_t i;

    for (i = 0; i < sizeof(members) / sizeof(*members); i++) {
        if (hp_walk_compare(name, members[i].name) == 0) {
            return members[i].saw;
        }
    }

    return 0;
}

/* A string with its escapes resolved; *scratch moves behind what it took. */
static hp_str_t text_at(const unsigned char *pos, const unsigned char *end,
                        unsigned char **scratch)
{
    hp_str_t text;

    text = hp_walk_string(pos, end);

    if (text.len && memchr(text.data, '\\', text.len)) {
        text.len = hp_json_unescape(*scratch, text);
        text.data = *scratch;
        *scratch += text.len;
    }

    return text;
}

static int is(hp_str_t text, const char *word)
{
    return text.len == strlen(word) && memcmp(text.data, word, text.len) == 0;
}

static hp_purge_status_t refuse(hp_purge_t *purge, hp_json_status_t json,
                                hp_str_t text, const unsigned char *pos)
{
    purge->json = json;
    purge->error_offset = (size_t)(pos - text.data);
    return HP_PURGE_JSON;
}

/* NULL where an element is no string; else the byte behind the array. */
static const unsigned char *read_keys(hp_purge_t *purge,
                                      const unsigned char **pos,
                                      const unsigned char *end,
                                      unsigned char **scratch, unsigned *count)
{
    hp_walk_t walk;
    hp_str_t key;

    (void)hp_walk_open(&walk, *pos, end);

    while (hp_walk_next(&walk)) {
        if (*walk.pos != '"') {
            *pos = walk.pos;
            return NULL;
        }

        key = text_at(walk.pos, end, scratch);

        if (*count < HP_PURGE_KEYS_MAX) {
            purge->keys[*count] = key;
        }

        (*count)++;
        walk.pos = hp_walk_value(walk.pos, end, NULL);
    }

    return walk.pos;
}

static hp_purge_status_t check(hp_purge_t *purge, unsigned saw, unsigned count,
                               hp_str_t mode)
{
    hp_str_t name;
    unsigned i, targets;

    name = purge->model;

    if (name.len && name.data[0] == '@') {
        name.data++;
        name.len--;
    }

    if (!hp_model_valid(name)) {
        return HP_PURGE_MODEL;
    }

    purge->has_tenant = (saw & HP_PURGE_SAW_TENANT) != 0;

    if (purge->tenant.len && !hp_tenant_valid(purge->tenant)) {
        return HP_PURGE_TENANT;
    }

    targets = ((saw & HP_PURGE_SAW_KEY) != 0) +
              ((saw & HP_PURGE_SAW_KEYS) != 0) +
              ((saw & HP_PURGE_SAW_TAG) != 0);

    if (targets > 1 || count > HP_PURGE_KEYS_MAX ||
        ((saw & HP_PURGE_SAW_KEYS) && count == 0) ||
        ((saw & HP_PURGE_SAW_TAG) &&
         (purge->tag.len == 0 || purge->tag.len > HP_PURGE_TAG_MAX))) {
        return HP_PURGE_TARGET;
    }

    purge->nkeys = count;

    for (i = 0; i < count; i++) {
        if (purge->keys[i].len == 0 || purge->keys[i].len > HP_PURGE_KEY_MAX) {
            return HP_PURGE_KEY;
        }
    }

    purge->soft = (saw & HP_PURGE_SAW_MODE) && is(mode, "soft");

    if ((saw & HP_PURGE_SAW_MODE) && !purge->soft && !is(mode, "hard")) {
        return HP_PURGE_MODE;
    }

    return HP_PURGE_OK;
}

hp_purge_status_t hp_purge_read(hp_purge_t *purge, hp_str_t text,
                                unsigned char *scratch)
{
    const unsigned char *end, *value, *after;
    hp_str_t object, mode, string;
    hp_json_status_t status;
    unsigned saw, one, count;
    hp_walk_t walk;

    memset(purge, 0, sizeof(*purge));

    status = hp_json_check(text, HP_PURGE_DEPTH, &purge->error_offset);

    if (status != HP_JSON_OK) {
        purge->json = status;
        return HP_PURGE_JSON;
    }

    object = hp_walk_trim(text);
    end = object.data + object.len;

    if (object.data[0] != '{' || !hp_walk_open(&walk, object.data, end)) {
        return refuse(purge, HP_JSON_NOT_OBJECT, text, object.data);
    }

    memset(&mode, 0, sizeof(mode));
    saw = 0;
    count = 0;

    while (hp_walk_next(&walk)) {
        value = walk.pos;
        one = member_of(walk.name);

        if (one == 0) {
            return refuse(purge, HP_JSON_MEMBER_UNKNOWN, text,
                          walk.name.data - 1);
        }

        if (saw & one) {
            return refuse(purge, HP_JSON_MEMBER_DUPLICATE, text,
                          walk.name.data - 1);
        }

        saw |= one;

        if (*value != (one == HP_PURGE_SAW_KEYS ? '[' : '"')) {
            return refuse(purge, HP_JSON_MEMBER_TYPE, text, value);
        }

        if (one == HP_PURGE_SAW_KEYS) {
            after = read_keys(purge, &value, end, &scratch, &count);

            if (after == NULL) {
                return refuse(purge, HP_JSON_MEMBER_TYPE, text, value);
            }

            walk.pos = after;
            continue;
        }

        string = text_at(value, end, &scratch);
        walk.pos = hp_walk_value(value, end, NULL);

        switch (one) {
        case HP_PURGE_SAW_MODEL:
            purge->model = string;
            break;
        case HP_PURGE_SAW_TENANT:
            purge->tenant = string;
            break;
        case HP_PURGE_SAW_TAG:
            purge->tag = string;
            break;
        case HP_PURGE_SAW_MODE:
            mode = string;
            break;
        default: /* HP_PURGE_SAW_KEY */
            purge->keys[0] = string;
            count = 1;
        }
    }

    return check(purge, saw, count, mode);
}

/* As the module's problem documents call them. */
static const char *json_code(hp_json_status_t status)
{
    switch (status) {
    case HP_JSON_EMPTY:
        return "body_empty";
    case HP_JSON_NOT_OBJECT:
        return "body_not_object";
    case HP_JSON_MEMBER_DUPLICATE:
        return "member_duplicate";
    case HP_JSON_MEMBER_UNKNOWN:
        return "member_unknown";
    case HP_JSON_MEMBER_TYPE:
        return "member_type";
    default:
        return hp_json_code(status);
    }
}

const char *hp_purge_code(const hp_purge_t *purge, hp_purge_status_t status)
{
    switch (status) {
    case HP_PURGE_JSON:
        return json_code(purge->json);
    case HP_PURGE_MODEL:
        return "purge_model_invalid";
    case HP_PURGE_TENANT:
        return "tenant_invalid";
    case HP_PURGE_KEY:
        return "read_key_invalid";
    case HP_PURGE_TARGET:
        return "purge_target_invalid";
    case HP_PURGE_MODE:
        return "purge_mode_invalid";
    default:
        return "";
    }
}
