/*
 * hp_event.c: which form a request has, and the elements of an array.
 *
 * One job: the way from a request to the texts of its events, and the names of
 * all that may be wrong with them. Owns nothing, allocates nothing, keeps
 * nothing between calls but what is in the caller's list: any process, any
 * thread; in nginx it runs in the event loop, in time linear in the body. An
 * array is counted when it is opened, so that a request with too many events
 * is refused before the first is accepted.
 *
 * What must never happen here: an element that is left out, or two results for
 * one.
 *
 * Contract: hp_event.h. Tests: tests/unit/test_event.c,
 * tests/fuzz/fuzz_event.c.
 */
#include "hp_event.h"

#include <string.h>

#include "hp_char.h"
#include "hp_format.h"

static const char *const code_of[] = {
    [HP_EVENT_OK] = "event_ok",
    [HP_EVENT_CONTENT_TYPE_INVALID] = "content_type_invalid",
    [HP_EVENT_CONTENT_TYPE_UNSUPPORTED] = "content_type_unsupported",
    [HP_EVENT_CHARSET_UNSUPPORTED] = "charset_unsupported",
    [HP_EVENT_BATCH_NOT_ARRAY] = "batch_not_array",
    [HP_EVENT_BATCH_TOO_MANY] = "batch_too_many",
    [HP_EVENT_NOT_OBJECT] = "ce_not_object",
    [HP_EVENT_SPECVERSION] = "ce_specversion_unsupported",
    [HP_EVENT_ATTRIBUTE_NAME] = "ce_attribute_name",
    [HP_EVENT_ATTRIBUTE_DUPLICATE] = "ce_attribute_duplicate",
    [HP_EVENT_ATTRIBUTE_REQUIRED] = "ce_attribute_required",
    [HP_EVENT_ATTRIBUTE_TYPE] = "ce_attribute_type",
    [HP_EVENT_ATTRIBUTE_VALUE] = "ce_attribute_value",
    [HP_EVENT_ATTRIBUTE_ENCODING] = "ce_attribute_encoding",
    [HP_EVENT_ATTRIBUTES_TOO_MANY] = "ce_attributes_too_many",
    [HP_EVENT_ATTRIBUTES_TOO_LARGE] = "ce_attributes_too_large",
    [HP_EVENT_DATA_DUPLICATE] = "ce_data_duplicate",
    [HP_EVENT_DATA_TYPE] = "ce_data_type",
    [HP_EVENT_DATA_BASE64] = "ce_data_base64",
};

const char *hp_event_code(hp_event_status_t status)
{
    if ((unsigned)status >= sizeof(code_of) / sizeof(code_of[0])) {
        return "event_unknown";
    }

    return code_of[status];
}

hp_event_status_t hp_event_form(hp_str_t content_type, int has_specversion,
                                hp_event_form_t *form)
{
    hp_media_t media;

    *form = has_specversion ? HP_EVENT_BINARY : HP_EVENT_OWN;

    if (content_type.len == 0) {
        return HP_EVENT_OK;
    }

    if (hp_media_parse(content_type, &media) != 0) {
        return HP_EVENT_CONTENT_TYPE_INVALID;
    }

    switch (media.kind) {
    case HP_MEDIA_CLOUDEVENT:
        *form = HP_EVENT_STRUCTURED;
        break;
    case HP_MEDIA_CLOUDEVENT_LIST:
        *form = HP_EVENT_BATCH;
        break;
    case HP_MEDIA_JSON:
        break;
    case HP_MEDIA_JSON_LIKE:
        if (has_specversion) {
            break;
        }

        return HP_EVENT_CONTENT_TYPE_UNSUPPORTED;
    default:
        return HP_EVENT_CONTENT_TYPE_UNSUPPORTED;
    }

    return media.charset_other ? HP_EVENT_CHARSET_UNSUPPORTED : HP_EVENT_OK;
}

int hp_event_is_list(hp_str_t text)
{
    const unsigned char *p, *end;

    if (text.len == 0) {
        return 0;
    }

    end = text.data + text.len;
    p = hp_skip_space(text.data, end);
    return p < end && *p == '[';
}

hp_event_status_t hp_event_list_open(hp_event_list_t *list, hp_str_t text,
                                     uint32_t max_count)
{
    hp_walk_t walk;
    hp_str_t value;

    memset(list, 0, sizeof(*list));

    if (!hp_event_is_list(text)) {
        return HP_EVENT_BATCH_NOT_ARRAY;
    }

    value = hp_walk_trim(text);
    list->start = text.data;
    (void)hp_walk_open(&list->walk, value.data, value.data + value.len);
    walk = list->walk;

    while (hp_walk_next(&walk)) {
        if (list->count == max_count) {
            return HP_EVENT_BATCH_TOO_MANY;
        }

        list->count++;
        walk.pos = hp_walk_value(walk.pos, walk.end, NULL);
    }

    return HP_EVENT_OK;
}

int hp_event_list_next(hp_event_list_t *list, hp_str_t *element, size_t *offset)
{
    hp_walk_t *walk;

    walk = &list->walk;

    if (walk->end == NULL || !hp_walk_next(walk)) {
        walk->end = NULL;
        return 0;
    }

    element->data = walk->pos;
    *offset = (size_t)(walk->pos - list->start);
    walk->pos = hp_walk_value(walk->pos, walk->end, NULL);
    element->len = (size_t)(walk->pos - element->data);
    return 1;
}
