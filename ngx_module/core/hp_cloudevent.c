/*
 * hp_cloudevent.c: reads CloudEvents 1.0, from JSON or from HTTP headers.
 *
 * One job: the attributes and data of one event. Structured mode arrives in
 * JSON that hp_json_check() accepted, binary mode in headers that nobody
 * checked. Owns nothing, allocates nothing, keeps nothing between calls but
 * what is in the caller's hp_cloudevent_t: any process, any thread; in nginx
 * it runs in the event loop. Every bound is in hp_cloudevent.h: attributes are
 * counted and their text is counted before it is copied, data is never copied
 * at all. Time is linear in the input, but for the attributes' names, of which
 * each is compared with the few before it.
 *
 * What must never happen here: two events with one key, an attribute that is
 * dropped, a refusal without its attribute's name.
 *
 * Contract: hp_cloudevent.h. Tests: tests/unit/test_cloudevent.c,
 * tests/fuzz/fuzz_event.c.
 */
#include "hp_cloudevent.h"

#include <string.h>

#include "hp_char.h"
#include "hp_format.h"
#include "hp_header.h"
#include "hp_id.h"
#include "hp_json.h"

/* Kinds of values; of an attribute that was null only the name counts. */
enum { KIND_NULL, KIND_STRING, KIND_PLAIN };

#define HASHED_KEY "sha256:"

#define BASE64                                                                 \
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

static const hp_str_t name_specversion = HP_STR("specversion");
static const hp_str_t name_id = HP_STR("id");
static const hp_str_t name_source = HP_STR("source");
static const hp_str_t name_type = HP_STR("type");
static const hp_str_t name_subject = HP_STR("subject");
static const hp_str_t name_time = HP_STR("time");
static const hp_str_t name_schema = HP_STR("dataschema");
static const hp_str_t name_media = HP_STR("datacontenttype");
static const hp_str_t name_partition_key = HP_STR("partitionkey");
static const hp_str_t name_data = HP_STR("data");
static const hp_str_t name_base64 = HP_STR("data_base64");

/* Attributes */

static int same(hp_str_t a, hp_str_t b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static hp_cloudevent_attribute_t *find(hp_cloudevent_t *event, hp_str_t name)
{
    unsigned i;

    for (i = 0; i < event->attribute_count; i++) {
        if (same(event->attribute[i].name, name)) {
            return &event->attribute[i];
        }
    }

    return NULL;
}

/* The value of a string attribute; empty where it is not there. */
static hp_str_t value_of(hp_cloudevent_t *event, hp_str_t name)
{
    static const hp_str_t none = {NULL, 0};

    const hp_cloudevent_attribute_t *found;

    found = find(event, name);
    return found == NULL || found->kind != KIND_STRING ? none : found->value;
}

/* What the type system lets a string be: UTF-8 without control characters and
 * noncharacters. */
static hp_event_status_t check_text(hp_str_t text)
{
    const unsigned char *p, *end;
    uint32_t code;

    if (text.len == 0) {
        return HP_EVENT_OK;
    }

    p = text.data;
    end = p + text.len;

    while (p < end) {
        if (*p >= 0x20 && *p <= 0x7e) {
            p++; /* a backslash, too: here it is a character like any other */
            continue;
        }

        if (*p >= 0x80 && hp_utf8_length(p, end) == 0) {
            return HP_EVENT_ATTRIBUTE_ENCODING;
        }

        code = hp_walk_char(&p, end);

        if (code < 0x20 || (code >= 0x7f && code <= 0x9f) ||
            (code >= 0xfdd0 && code <= 0xfdef) || (code & 0xfffe) == 0xfffe) {
            return HP_EVENT_ATTRIBUTE_VALUE;
        }
    }

    return HP_EVENT_OK;
}

/* An integer of 32 bits, and nothing but its digits. */
static int is_int32(hp_str_t number)
{
    int64_t value, limit;
    size_t i, sign;

    sign = number.data[0] == '-';
    limit = (int64_t)INT32_MAX + (int64_t)sign;

    for (i = sign, value = 0; i < number.len; i++) {
        if (!hp_is_digit(number.data[i])) {
            return 0;
        }

        value = value * 10 + (number.data[i] - '0');

        if (value > limit) {
            return 0;
        }
    }

    return 1;
}

/* The rules for the attributes that have a meaning. */
static hp_event_status_t check_attribute(hp_str_t name, hp_str_t value,
                                         unsigned kind)
{
    static const hp_str_t version = HP_STR("1.0");

    hp_media_t media;
    int ok;

    if (same(name, name_specversion)) {
        return kind == KIND_STRING && same(value, version)
                   ? HP_EVENT_OK
                   : HP_EVENT_SPECVERSION;
    }

    if (same(name, name_id) || same(name, name_subject) ||
        same(name, name_partition_key)) {
        ok = value.len != 0;
    } else if (same(name, name_type)) {
        ok = value.len != 0 && value.len <= HP_TYPE_MAX;
    } else if (same(name, name_source)) {
        ok = hp_uri_valid(value, 0);
    } else if (same(name, name_schema)) {
        ok = hp_uri_valid(value, 1);
    } else if (same(name, name_time)) {
        ok = hp_date_time_valid(value);
    } else if (same(name, name_media)) {
        ok = hp_media_parse(value, &media) == 0;
    } else {
        return HP_EVENT_OK;
    }

    if (kind != KIND_STRING) {
        return HP_EVENT_ATTRIBUTE_TYPE;
    }

    return ok ? HP_EVENT_OK : HP_EVENT_ATTRIBUTE_VALUE;
}

/* A name that may be one, copied in lower case; event->fault is it, or what
 * was sent where that is none. */
static hp_event_status_t take_name(hp_cloudevent_t *event, hp_str_t name,
                                   int any_case)
{
    unsigned char c, *copy;
    size_t i;

    event->fault = name;

    if (name.len == 0 || name.len > HP_CLOUDEVENT_NAME_MAX) {
        return HP_EVENT_ATTRIBUTE_NAME;
    }

    if (event->attribute_count == HP_CLOUDEVENT_ATTRIBUTES_MAX) {
        return HP_EVENT_ATTRIBUTES_TOO_MANY;
    }

    copy = event->room + event->room_used;

    for (i = 0; i < name.len; i++) {
        c = name.data[i];

        if (any_case && c >= 'A' && c <= 'Z') {
            c |= 0x20;
        }

        if (!hp_is_digit(c) && (c < 'a' || c > 'z')) {
            return HP_EVENT_ATTRIBUTE_NAME;
        }

        copy[i] = c;
    }

    name.data = copy;
    event->fault = name;

    if (same(name, name_data)) {
        return HP_EVENT_ATTRIBUTE_NAME;
    }

    if (find(event, name) != NULL) {
        return HP_EVENT_ATTRIBUTE_DUPLICATE;
    }

    event->room_used += name.len;
    return HP_EVENT_OK;
}

/* The attribute whose name take_name() has taken; value stands in the room or
 * outlives the event. */
static hp_event_status_t add(hp_cloudevent_t *event, hp_str_t value,
                             unsigned kind)
{
    hp_cloudevent_attribute_t *attribute;
    hp_event_status_t status;

    status = kind == KIND_STRING ? check_text(value) : HP_EVENT_OK;

    if (status == HP_EVENT_OK && kind != KIND_NULL) {
        status = check_attribute(event->fault, value, kind);
    }

    if (status != HP_EVENT_OK) {
        return status;
    }

    attribute = &event->attribute[event->attribute_count++];
    attribute->name = event->fault;
    attribute->value = value;
    attribute->kind = (unsigned char)kind;
    return HP_EVENT_OK;
}

/* Room for a value of which len bytes were sent, or NULL. */
static unsigned char *room_for(hp_cloudevent_t *event, size_t len)
{
    if (len > HP_CLOUDEVENT_TEXT_MAX - event->text_len) {
        return NULL;
    }

    event->text_len += len;
    return event->room + event->room_used;
}

/* The whole event */

/* Writes the key from source and id. */
static void set_key(hp_cloudevent_t *event)
{
    unsigned char fingerprint[HP_FINGERPRINT_SIZE];
    hp_str_t source, id;
    size_t prefix;

    source = value_of(event, name_source);
    id = value_of(event, name_id);
    event->key.data = event->key_text;

    if (source.len < HP_KEY_MAX && id.len < HP_KEY_MAX - source.len) {
        memcpy(event->key_text, source.data, source.len);
        event->key_text[source.len] = ' ';
        memcpy(event->key_text + source.len + 1, id.data, id.len);
        event->key.len = source.len + 1 + id.len;

        if (hp_key_valid(event->key)) {
            return;
        }
    }

    prefix = sizeof(HASHED_KEY) - 1;
    hp_fingerprint(fingerprint, source, id);
    memcpy(event->key_text, HASHED_KEY, prefix);
    hp_hex((char *)event->key_text + prefix, fingerprint, HP_FINGERPRINT_SIZE);
    event->key.len = prefix + 2 * HP_FINGERPRINT_SIZE;
}

static void put(hp_cloudevent_t *event, const void *data, size_t len)
{
    memcpy(event->json + event->attributes.len, data, len);
    event->attributes.len += len;
}

/* The inside of a string: runs of plain bytes at once, the rest one by one.
 * It is UTF-8, check_text() saw to that. */
static void put_text(hp_cloudevent_t *event, hp_str_t text)
{
    const unsigned char *p, *end, *run;
    hp_str_t one;

    end = text.data + text.len;

    for (p = text.data; p < end; p += one.len) {
        run = p;
        p = hp_skip_plain(p, end);
        put(event, run, (size_t)(p - run));
        one.data = p;
        one.len = p == end ? 0 : hp_utf8_length(p, end);
        event->attributes.len +=
            hp_json_escape(event->json + event->attributes.len,
                           sizeof(event->json) - event->attributes.len, one);
    }
}

static void put_member(hp_cloudevent_t *event,
                       const hp_cloudevent_attribute_t *attribute)
{
    put(event, event->attributes.len == 1 ? "\"" : ",\"",
        event->attributes.len == 1 ? 1 : 2);
    put(event, attribute->name.data, attribute->name.len);
    put(event, "\":", 2);

    if (attribute->kind == KIND_PLAIN) {
        put(event, attribute->value.data, attribute->value.len);
        return;
    }

    put(event, "\"", 1);
    put_text(event, attribute->value);
    put(event, "\"", 1);
}

static int before(hp_str_t a, hp_str_t b)
{
    int order;

    order = memcmp(a.data, b.data, a.len < b.len ? a.len : b.len);
    return order != 0 ? order < 0 : a.len < b.len;
}

static void write_attributes(hp_cloudevent_t *event)
{
    hp_cloudevent_attribute_t moved;
    unsigned i, j;

    for (i = 1; i < event->attribute_count; i++) {
        moved = event->attribute[i];

        for (j = i; j != 0 && before(moved.name, event->attribute[j - 1].name);
             j--) {
            event->attribute[j] = event->attribute[j - 1];
        }

        event->attribute[j] = moved;
    }

    event->attributes.data = event->json;
    event->attributes.len = 0;
    put(event, "{", 1);

    for (i = 0; i < event->attribute_count; i++) {
        if (event->attribute[i].kind != KIND_NULL &&
            !same(event->attribute[i].name, name_type) &&
            !same(event->attribute[i].name, name_specversion)) {
            put_member(event, &event->attribute[i]);
        }
    }

    put(event, "}", 1);
}

/* Whether datacontenttype says that the data is JSON. */
static int media_is_json(hp_cloudevent_t *event)
{
    hp_media_t media;
    hp_str_t value;

    value = value_of(event, name_media);

    if (value.len == 0) {
        return 1;
    }

    (void)hp_media_parse(value, &media); /* it was checked */
    return media.kind != HP_MEDIA_ELSE &&
           media.kind != HP_MEDIA_CLOUDEVENT_ELSE;
}

/* JSON data is called so, that it is the same event in every mode. */
static hp_event_status_t imply_media(hp_cloudevent_t *event)
{
    static const hp_str_t json = HP_STR("application/json");

    hp_cloudevent_attribute_t *attribute;

    if (event->data_kind != HP_CLOUDEVENT_JSON ||
        value_of(event, name_media).len != 0) {
        return HP_EVENT_OK;
    }

    attribute = find(event, name_media); /* it may be there as null */
    event->fault = name_media;

    if (attribute == NULL) {
        if (event->attribute_count == HP_CLOUDEVENT_ATTRIBUTES_MAX) {
            return HP_EVENT_ATTRIBUTES_TOO_MANY;
        }

        attribute = &event->attribute[event->attribute_count++];
    }

    if (room_for(event, json.len) == NULL) {
        return HP_EVENT_ATTRIBUTES_TOO_LARGE;
    }

    attribute->name = name_media;
    attribute->value = json;
    attribute->kind = KIND_STRING;
    return HP_EVENT_OK;
}

static hp_event_status_t finish(hp_cloudevent_t *event)
{
    static const hp_str_t *const required[] = {&name_specversion, &name_id,
                                               &name_source, &name_type};

    hp_event_status_t status;
    size_t i;

    for (i = 0; i < sizeof(required) / sizeof(required[0]); i++) {
        if (value_of(event, *required[i]).len == 0) {
            event->fault = *required[i];
            return HP_EVENT_ATTRIBUTE_REQUIRED;
        }
    }

    status = imply_media(event);

    if (status != HP_EVENT_OK) {
        return status;
    }

    event->fault.len = 0;
    event->type = value_of(event, name_type);
    event->partition_key = value_of(event, name_partition_key);
    set_key(event);
    write_attributes(event);
    return HP_EVENT_OK;
}

void hp_cloudevent_begin(hp_cloudevent_t *event)
{
    /* the rooms behind this are written before they are read */
    memset(event, 0, offsetof(hp_cloudevent_t, room));
}

/* Structured mode */

/* Whether a string's inside, escapes resolved, is base64 with padding. */
static int is_base64(hp_str_t raw)
{
    const unsigned char *p, *end;
    size_t characters, padding;
    uint32_t c;

    p = raw.data;
    end = p + raw.len;
    characters = 0;
    padding = 0;

    while (p < end) {
        c = hp_walk_char(&p, end);

        if (c == '=') {
            padding++;
        } else if (padding != 0 || c == 0 || c >= 0x80 ||
                   strchr(BASE64, (int)c) == NULL) {
            return 0;
        }

        characters++;
    }

    return characters % 4 == 0 && padding <= 2;
}

/* data or data_base64, whose value is at walk->pos. */
static hp_event_status_t read_data(hp_cloudevent_t *event, hp_walk_t *walk,
                                   int base64)
{
    const unsigned char *p;

    p = walk->pos;
    event->fault = base64 ? name_base64 : name_data;

    if (event->data_kind != HP_CLOUDEVENT_NONE) {
        return HP_EVENT_DATA_DUPLICATE;
    }

    if (base64 && *p != '"') {
        return HP_EVENT_DATA_TYPE;
    }

    if (base64 && !is_base64(hp_walk_string(p, walk->end))) {
        return HP_EVENT_DATA_BASE64;
    }

    event->data_kind = base64 ? HP_CLOUDEVENT_BASE64 : HP_CLOUDEVENT_JSON;
    event->data.data = p;
    walk->pos = hp_walk_value(p, walk->end, &event->data_spaced);
    event->data.len = (size_t)(walk->pos - p);
    return HP_EVENT_OK;
}

/* Any other member: its name is walk->name, its value at walk->pos. */
static hp_event_status_t read_attribute(hp_cloudevent_t *event, hp_walk_t *walk)
{
    unsigned char resolved[6 * HP_CLOUDEVENT_NAME_MAX], *room;
    hp_event_status_t status;
    hp_str_t name, value;

    name = walk->name;
    event->fault = name;

    if (name.len > sizeof(resolved)) {
        return HP_EVENT_ATTRIBUTE_NAME;
    }

    name.data = resolved;
    name.len = hp_json_unescape(resolved, walk->name);
    status = take_name(event, name, 0);

    if (status != HP_EVENT_OK) {
        if (event->fault.data == resolved) {
            event->fault = walk->name; /* what is no name is shown as sent */
        }

        return status;
    }

    value.data = walk->pos;
    walk->pos = hp_walk_value(value.data, walk->end, NULL);
    value.len = (size_t)(walk->pos - value.data);

    switch (value.data[0]) {
    case '"':
        value = hp_walk_string(value.data, walk->end);
        room = room_for(event, value.len);

        if (room == NULL) {
            return HP_EVENT_ATTRIBUTES_TOO_LARGE;
        }

        value.len = hp_json_unescape(room, value);
        value.data = room;
        event->room_used += value.len;
        return add(event, value, KIND_STRING);

    case 'n':
        return add(event, value, KIND_NULL);

    case 't':
    case 'f':
        break;

    default:
        /* an array or object begins with no digit */
        if (!is_int32(value)) {
            return HP_EVENT_ATTRIBUTE_TYPE;
        }
    }

    if (room_for(event, value.len) == NULL) {
        return HP_EVENT_ATTRIBUTES_TOO_LARGE;
    }

    return add(event, value, KIND_PLAIN);
}

hp_event_status_t hp_cloudevent_read(hp_cloudevent_t *event, hp_str_t object)
{
    const unsigned char *at;
    hp_event_status_t status;
    hp_walk_t walk;
    hp_str_t value;
    int base64;

    hp_cloudevent_begin(event);
    value = hp_walk_trim(object);
    at = value.data;

    if (value.len == 0 ||
        !hp_walk_open(&walk, value.data, value.data + value.len) ||
        !walk.object) {
        event->error_offset = (size_t)(at - object.data);
        return HP_EVENT_NOT_OBJECT;
    }

    while (hp_walk_next(&walk)) {
        at = walk.pos;
        base64 = hp_walk_compare(walk.name, name_base64) == 0;

        if (base64 || hp_walk_compare(walk.name, name_data) == 0) {
            status = read_data(event, &walk, base64);
        } else {
            status = read_attribute(event, &walk);
        }

        if (status == HP_EVENT_ATTRIBUTE_NAME ||
            status == HP_EVENT_ATTRIBUTE_DUPLICATE ||
            status == HP_EVENT_DATA_DUPLICATE) {
            at = walk.name.data - 1; /* the name is at fault */
        }

        if (status != HP_EVENT_OK) {
            event->error_offset = (size_t)(at - object.data);
            return status;
        }
    }

    if (event->data_kind == HP_CLOUDEVENT_JSON && !media_is_json(event)) {
        if (event->data.data[0] != '"') {
            event->fault = name_data;
            event->error_offset = (size_t)(event->data.data - object.data);
            return HP_EVENT_DATA_TYPE;
        }

        event->data_kind = HP_CLOUDEVENT_TEXT;
    }

    status = finish(event);

    if (status != HP_EVENT_OK) {
        event->error_offset = (size_t)(value.data - object.data);
    }

    return status;
}

/* Binary mode */

static hp_str_t trim_blanks(hp_str_t text)
{
    while (text.len != 0 && (text.data[text.len - 1] == ' ' ||
                             text.data[text.len - 1] == '\t')) {
        text.len--;
    }

    while (text.len != 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text.data++;
        text.len--;
    }

    return text;
}

/* A header's value into dst, which holds value.len bytes: unquoted and
 * percent-decoded. 0, or -1 where it is not encoded as it should be. */
static int decode(unsigned char *dst, hp_str_t value, size_t *len)
{
    int quoted, escaped, high, low;
    unsigned char c;
    size_t i, end;

    i = 0;
    end = value.len;
    *len = 0;
    quoted = end != 0 && value.data[0] == '"';

    if (quoted) {
        if (end < 2 || value.data[end - 1] != '"') {
            return -1;
        }

        i++;
        end--;
    }

    while (i < end) {
        c = value.data[i++];
        escaped = 0;

        if (quoted && c == '\\') {
            if (i == end) {
                return -1; /* it escapes the closing quote */
            }

            c = value.data[i++];
            escaped = 1;
        }

        if (c == '"' && !escaped) {
            return -1;
        }

        if (c == '%') {
            high = i < end ? hp_hex_value(value.data[i]) : -1;
            low = i + 1 < end ? hp_hex_value(value.data[i + 1]) : -1;

            if (high < 0 || low < 0) {
                return -1;
            }

            c = (unsigned char)(high << 4 | low);
            i += 2;
        }

        dst[(*len)++] = c;
    }

    return 0;
}

hp_event_status_t hp_cloudevent_header(hp_cloudevent_t *event, hp_str_t name,
                                       hp_str_t value)
{
    hp_event_status_t status;
    unsigned char *room;
    size_t len;

    status = take_name(event, name, 1);

    if (status != HP_EVENT_OK) {
        return status;
    }

    if (same(event->fault, name_media)) {
        return HP_EVENT_ATTRIBUTE_NAME; /* that is Content-Type */
    }

    value = trim_blanks(value);
    room = room_for(event, value.len);

    if (room == NULL) {
        return HP_EVENT_ATTRIBUTES_TOO_LARGE;
    }

    if (decode(room, value, &len) != 0) {
        return HP_EVENT_ATTRIBUTE_ENCODING;
    }

    value.data = room;
    value.len = len;
    event->room_used += len;
    return add(event, value, KIND_STRING);
}

hp_event_status_t hp_cloudevent_end(hp_cloudevent_t *event,
                                    hp_str_t content_type, hp_str_t body)
{
    hp_event_status_t status;
    unsigned char *room;
    hp_media_t media;

    content_type = trim_blanks(content_type);

    if (content_type.len != 0) {
        event->fault = name_media;

        if (hp_media_parse(content_type, &media) != 0) {
            return HP_EVENT_CONTENT_TYPE_INVALID;
        }

        if (media.charset_other) {
            return HP_EVENT_CHARSET_UNSUPPORTED;
        }

        if (media.kind != HP_MEDIA_JSON && media.kind != HP_MEDIA_JSON_LIKE) {
            return HP_EVENT_CONTENT_TYPE_UNSUPPORTED;
        }

        if (event->attribute_count == HP_CLOUDEVENT_ATTRIBUTES_MAX) {
            return HP_EVENT_ATTRIBUTES_TOO_MANY;
        }

        room = room_for(event, content_type.len);

        if (room == NULL) {
            return HP_EVENT_ATTRIBUTES_TOO_LARGE;
        }

        memcpy(room, content_type.data, content_type.len);
        content_type.data = room;
        event->room_used += content_type.len;
        status = add(event, content_type, KIND_STRING);

        if (status != HP_EVENT_OK) {
            return status;
        }
    }

    if (body.len != 0) {
        event->data_kind = HP_CLOUDEVENT_JSON;
        event->data = hp_walk_trim(body);
        (void)hp_walk_value(event->data.data,
                            event->data.data + event->data.len,
                            &event->data_spaced);
    }

    return finish(event);
}
