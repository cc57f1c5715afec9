/*
 * hp_schema_compile.c: from the text of a JSON Schema to nodes in memory.
 *
 * One job: to understand all of a schema or to refuse it. A node first notes
 * where each of its keywords stands (note_keywords), then takes them one by
 * one (take_...). A definition is compiled when it is first referred to, once,
 * so that the nodes are a graph without circles and no larger than the text.
 *
 * Runs at configuration time, in the process that reads the configuration.
 * Everything that lasts comes from the caller's pool and is the caller's, also
 * after an error; nothing points into the schema's text afterwards. Calls are
 * as deep as the schema, HP_SCHEMA_DEPTH_MAX at most. Numbers are kept as
 * written: a double would round them.
 *
 * What must never happen here: a keyword that is ignored, a schema that makes
 * hp_schema_check() read a value twice or call itself deeper than its bound.
 *
 * Contract: hp_schema_compile.h. Tests: tests/unit/test_schema.c,
 * tests/fuzz/fuzz_schema.c.
 */
#include "hp_schema_compile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hp_char.h"
#include "hp_json.h"
#include "hp_walk.h"

#define JSON_DEPTH_MAX 200 /* of examples and default, too */
#define TOO_MANY_NAMES "an object has more than 256 names"
#define TYPES 7 /* HP_SCHEMA_IS_... */
#define COUNT_MAX 1000000000
#define SCHEMA_URI "https://json-schema.org/draft/2020-12/schema"
#define REF_PREFIX "#/$defs/"

/* Those from TITLE on have no meaning. */
/* clang-format off */
#define KEYWORDS(X)                                                            \
    X(REF, "$ref") X(DEFS, "$defs") X(TYPE, "type") X(ENUM, "enum")            \
    X(CONST, "const") X(MINIMUM, "minimum") X(MAXIMUM, "maximum")              \
    X(EXCLUSIVE_MINIMUM, "exclusiveMinimum")                                   \
    X(EXCLUSIVE_MAXIMUM, "exclusiveMaximum") X(MIN_LENGTH, "minLength")        \
    X(MAX_LENGTH, "maxLength") X(PATTERN, "pattern") X(FORMAT, "format")       \
    X(PROPERTIES, "properties") X(REQUIRED, "required")                        \
    X(ADDITIONAL, "additionalProperties") X(MIN_PROPERTIES, "minProperties")   \
    X(MAX_PROPERTIES, "maxProperties") X(ITEMS, "items")                       \
    X(MIN_ITEMS, "minItems") X(MAX_ITEMS, "maxItems") X(SCHEMA, "$schema")     \
    X(ID, "$id") X(TITLE, "title") X(DESCRIPTION, "description")               \
    X(COMMENT, "$comment") X(DEFAULT, "default") X(EXAMPLES, "examples")
/* clang-format on */

#define KEYWORD_ID(id, name) KEY_##id,
#define KEYWORD_NAME(id, name) name,

typedef enum { KEYWORDS(KEYWORD_ID) KEYS } word_t;

static const char *const key_names[] = {KEYWORDS(KEYWORD_NAME)};

typedef struct {
    hp_str_t name;
    const unsigned char *at;
    const hp_schema_t *schema; /* once it is compiled */
    unsigned open;             /* while it is */
} definition_t;

typedef struct {
    const unsigned char *start, *end;
    hp_alloc_t alloc;
    void *pool;
    hp_schema_error_t *error;
    unsigned depth;
    definition_t definitions[HP_SCHEMA_DEFS_MAX];
    unsigned definition_count;
} work_t;

/* Where the values of a node's keywords stand; NULL: not there. */
typedef struct {
    const unsigned char *at[KEYS];
} keywords_t;

static const hp_schema_t *compile(work_t *work, const unsigned char *at);

static const hp_schema_t anything = {.depth = 1,
                                     .max_length = UINT32_MAX,
                                     .max_items = UINT32_MAX,
                                     .max_properties = UINT32_MAX};

/* The message is `what`, or "<name>: what". Always -1. */
static int refuse(work_t *work, const unsigned char *at, const char *name,
                  const char *what)
{
    if (work->error->message[0] == '\0') {
        snprintf(work->error->message, sizeof(work->error->message), "%s%s%s",
                 name == NULL ? "" : name, name == NULL ? "" : ": ", what);
        work->error->offset = (size_t)(at - work->start);
    }

    return -1;
}

static int refuse_key(work_t *work, const keywords_t *keys, word_t key,
                      const char *what)
{
    return refuse(work, keys->at[key], key_names[key], what);
}

static int order_texts(hp_str_t a, hp_str_t b)
{
    size_t common;
    int order;

    common = a.len < b.len ? a.len : b.len;
    order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static void *take_memory(work_t *work, size_t size)
{
    void *memory;

    memory = work->alloc(work->pool, size == 0 ? 1 : size);

    if (memory == NULL) {
        (void)refuse(work, work->start, NULL, "no memory");
    }

    return memory;
}

/* The characters of a string's inside, in the pool. 0, or -1. */
static int keep_string(work_t *work, hp_str_t raw, hp_str_t *text)
{
    unsigned char *copy;

    copy = take_memory(work, raw.len);

    if (copy == NULL) {
        return -1;
    }

    text->len = hp_json_unescape(copy, raw);
    text->data = copy;
    return 0;
}

static hp_str_t value_at(const work_t *work, const unsigned char *at)
{
    hp_str_t value;

    value.data = at;
    value.len = (size_t)(hp_walk_value(at, work->end, NULL) - at);
    return value;
}

/* Bytes of the pool that are a number as it is written. 0, or -1. */
static int keep_number(work_t *work, const unsigned char *at, hp_str_t *number)
{
    hp_str_t value;
    void *copy;

    value = value_at(work, at);
    copy = take_memory(work, value.len);

    if (copy == NULL) {
        return -1;
    }

    number->data = memcpy(copy, value.data, value.len);
    number->len = value.len;
    return 0;
}

static int is_number(const unsigned char *at)
{
    return *at == '-' || hp_is_digit(*at);
}

/* Whether the string at `at` is this one. */
static int is_text(const work_t *work, const unsigned char *at,
                   const char *text)
{
    hp_str_t wanted;

    wanted.data = (const unsigned char *)text;
    wanted.len = strlen(text);
    return *at == '"' &&
           hp_walk_compare(hp_walk_string(at, work->end), wanted) == 0;
}

/* Of an array or object; 0 of anything else, and of NULL. */
static size_t entries_at(const work_t *work, const unsigned char *at)
{
    hp_walk_t walk;
    size_t count;

    count = 0;

    if (at != NULL && hp_walk_open(&walk, at, work->end)) {
        for (/* void */; hp_walk_next(&walk); count++) {
            walk.pos = hp_walk_value(walk.pos, walk.end, NULL);
        }
    }

    return count;
}

/* Finds the keywords of the object at `at`. 0, or -1. */
static int note_keywords(work_t *work, const unsigned char *at,
                         keywords_t *keys)
{
    char name[64];
    hp_str_t wanted;
    hp_walk_t walk;
    unsigned key;

    memset(keys, 0, sizeof(*keys));

    if (!hp_walk_open(&walk, at, work->end) || !walk.object) {
        return refuse(work, at, NULL,
                      "a schema is an object, or true, or false");
    }

    while (hp_walk_next(&walk)) {
        for (key = 0; key < KEYS; key++) {
            wanted.data = (const unsigned char *)key_names[key];
            wanted.len = strlen(key_names[key]);

            if (hp_walk_compare(walk.name, wanted) == 0) {
                break;
            }
        }

        if (key == KEYS) {
            snprintf(name, sizeof(name), "%.*s",
                     walk.name.len < sizeof(name) ? (int)walk.name.len
                                                  : (int)sizeof(name) - 1,
                     (const char *)walk.name.data);
            return refuse(work, walk.name.data - 1, name,
                          "this keyword is not supported");
        }

        if (keys->at[key] != NULL) {
            return refuse(work, walk.name.data - 1, key_names[key],
                          "the keyword is there twice");
        }

        keys->at[key] = walk.pos;
        walk.pos = hp_walk_value(walk.pos, walk.end, NULL);
    }

    return 0;
}

/* What stands beside the assertions. */
static int check_frame(work_t *work, const keywords_t *keys, int root)
{
    static const word_t texts[] = {KEY_TITLE, KEY_DESCRIPTION, KEY_COMMENT,
                                   KEY_ID, KEY_SCHEMA};

    unsigned key;
    size_t i;

    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (keys->at[texts[i]] != NULL && *keys->at[texts[i]] != '"') {
            return refuse_key(work, keys, texts[i], "must be a string");
        }
    }

    if (keys->at[KEY_EXAMPLES] != NULL && *keys->at[KEY_EXAMPLES] != '[') {
        return refuse_key(work, keys, KEY_EXAMPLES, "must be an array");
    }

    if (keys->at[KEY_SCHEMA] != NULL &&
        !is_text(work, keys->at[KEY_SCHEMA], SCHEMA_URI)) {
        return refuse_key(work, keys, KEY_SCHEMA, "must be " SCHEMA_URI);
    }

    if (!root && keys->at[KEY_ID] != NULL) {
        return refuse_key(work, keys, KEY_ID, "only the root may have it");
    }

    if (!root && keys->at[KEY_DEFS] != NULL) {
        return refuse_key(work, keys, KEY_DEFS, "only the root may have it");
    }

    if (keys->at[KEY_REF] != NULL) {
        for (key = KEY_TYPE; key < KEY_SCHEMA; key++) {
            if (keys->at[key] != NULL) {
                return refuse_key(work, keys, (word_t)key,
                                  "may not stand beside $ref");
            }
        }
    }

    return 0;
}

/* Definitions */

static int note_definitions(work_t *work, const keywords_t *keys)
{
    definition_t *definition;
    hp_walk_t walk;
    unsigned i;

    if (!hp_walk_open(&walk, keys->at[KEY_DEFS], work->end) || !walk.object) {
        return refuse_key(work, keys, KEY_DEFS, "must be an object");
    }

    while (hp_walk_next(&walk)) {
        if (work->definition_count == HP_SCHEMA_DEFS_MAX) {
            return refuse_key(work, keys, KEY_DEFS,
                              "has more than 256 definitions");
        }

        definition = &work->definitions[work->definition_count];

        if (keep_string(work, walk.name, &definition->name) != 0) {
            return -1;
        }

        for (i = 0; i < work->definition_count; i++) {
            if (hp_walk_compare(walk.name, work->definitions[i].name) == 0) {
                return refuse(work, walk.name.data - 1, "$defs",
                              "a name is there twice");
            }
        }

        definition->at = walk.pos;
        work->definition_count++;
        walk.pos = hp_walk_value(walk.pos, walk.end, NULL);
    }

    return 0;
}

static const hp_schema_t *compile_definition(work_t *work,
                                             definition_t *definition,
                                             const unsigned char *at)
{
    if (definition->open) {
        (void)refuse(work, at, "$ref", "it leads back to itself");
        return NULL;
    }

    if (definition->schema == NULL) {
        definition->open = 1;
        definition->schema = compile(work, definition->at);
        definition->open = 0;
    }

    return definition->schema;
}

static const hp_schema_t *take_ref(work_t *work, const keywords_t *keys)
{
    const unsigned char *at;
    hp_str_t token;
    size_t prefix;
    unsigned i;

    at = keys->at[KEY_REF];
    prefix = sizeof(REF_PREFIX) - 1;

    if (*at != '"') {
        (void)refuse_key(work, keys, KEY_REF, "must be a string");
        return NULL;
    }

    if (keep_string(work, hp_walk_string(at, work->end), &token) != 0) {
        return NULL;
    }

    if (token.len < prefix || memcmp(token.data, REF_PREFIX, prefix) != 0) {
        (void)refuse_key(work, keys, KEY_REF, "must be \"#/$defs/NAME\"");
        return NULL;
    }

    token.data += prefix;
    token.len -= prefix;

    for (i = 0; i < token.len; i++) {
        if (strchr("~/%", token.data[i]) != NULL) {
            (void)refuse_key(work, keys, KEY_REF,
                             "names with ~, / or % are not supported");
            return NULL;
        }
    }

    for (i = 0; i < work->definition_count; i++) {
        if (order_texts(token, work->definitions[i].name) == 0) {
            return compile_definition(work, &work->definitions[i], at);
        }
    }

    (void)refuse_key(work, keys, KEY_REF, "names no definition of $defs");
    return NULL;
}

/* Scalars */

static int take_type(work_t *work, const keywords_t *keys, hp_schema_t *node)
{
    static const char *const names[] = {"null",   "boolean", "object", "array",
                                        "string", "number",  "integer"};

    const unsigned char *at;
    hp_walk_t walk;
    unsigned i;
    int more;

    at = keys->at[KEY_TYPE];
    more = *at == '[' && hp_walk_open(&walk, at, work->end);

    if (more) {
        more = hp_walk_next(&walk);

        if (!more) {
            return refuse_key(work, keys, KEY_TYPE, "must not be empty");
        }

        at = walk.pos;
    }

    do {
        for (i = 0; i < TYPES && !is_text(work, at, names[i]); i++) {
            /* to the type, whose bit is its place in the list */
        }

        if (i == TYPES) {
            return refuse(work, at, "type", "this is no type");
        }

        if (node->types & 1u << i) {
            return refuse(work, at, "type", "a type is there twice");
        }

        node->types |= 1u << i;

        if (more) {
            walk.pos = hp_walk_value(walk.pos, walk.end, NULL);
            more = hp_walk_next(&walk);
            at = walk.pos;
        }
    } while (more);

    return 0;
}

static int take_value(work_t *work, const unsigned char *at, const char *name,
                      hp_schema_value_t *value)
{
    value->first = is_number(at) ? '0' : *at;

    switch (value->first) {
    case '{':
    case '[':
        return refuse(work, at, name,
                      "only strings, numbers, true, false and null are "
                      "supported");
    case '"':
        return keep_string(work, hp_walk_string(at, work->end), &value->text);
    case '0':
        return keep_number(work, at, &value->text);
    default:
        return 0;
    }
}

static int by_value(const void *left, const void *right)
{
    const hp_schema_value_t *a = left, *b = right;

    /* a string has no escapes any more, and so no backslash is one */
    return a->first == '"' && b->first == '"'
               ? order_texts(a->text, b->text)
               : hp_schema_compare(a->first, a->text, b);
}

static int take_values(work_t *work, const keywords_t *keys, hp_schema_t *node)
{
    hp_schema_value_t *values;
    hp_walk_t walk;
    size_t count;

    if (keys->at[KEY_CONST] != NULL) {
        values = take_memory(work, sizeof(*values));

        if (values == NULL) {
            return -1;
        }

        memset(values, 0, sizeof(*values));
        node->constant = values;

        if (take_value(work, keys->at[KEY_CONST], "const", values) != 0) {
            return -1;
        }
    }

    if (keys->at[KEY_ENUM] == NULL) {
        return 0;
    }

    count = entries_at(work, keys->at[KEY_ENUM]);

    if (*keys->at[KEY_ENUM] != '[' || count == 0) {
        return refuse_key(work, keys, KEY_ENUM, "must be a list of values");
    }

    if (count > HP_SCHEMA_VALUES_MAX) {
        return refuse_key(work, keys, KEY_ENUM, "has more than 1024 values");
    }

    values = take_memory(work, count * sizeof(*values));

    if (values == NULL) {
        return -1;
    }

    memset(values, 0, count * sizeof(*values));
    node->values = values;
    (void)hp_walk_open(&walk, keys->at[KEY_ENUM], work->end);

    while (hp_walk_next(&walk)) {
        if (take_value(work, walk.pos, "enum", &values[node->value_count]) !=
            0) {
            return -1;
        }

        node->value_count++;
        walk.pos = hp_walk_value(walk.pos, walk.end, NULL);
    }

    qsort(values, count, sizeof(*values), by_value);
    return 0;
}

static int take_bounds(work_t *work, const keywords_t *keys, hp_schema_t *node)
{
    const struct {
        word_t key;
        hp_str_t *bound;
    } bounds[] = {
        {KEY_MINIMUM, &node->minimum},
        {KEY_MAXIMUM, &node->maximum},
        {KEY_EXCLUSIVE_MINIMUM, &node->exclusive_minimum},
        {KEY_EXCLUSIVE_MAXIMUM, &node->exclusive_maximum},
    };

    const unsigned char *at;
    size_t i;

    for (i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++) {
        at = keys->at[bounds[i].key];

        if (at == NULL) {
            continue;
        }

        if (!is_number(at)) {
            return refuse_key(work, keys, bounds[i].key, "must be a number");
        }

        if (keep_number(work, at, bounds[i].bound) != 0) {
            return -1;
        }
    }

    return 0;
}

static int take_counts(work_t *work, const keywords_t *keys, hp_schema_t *node)
{
    const struct {
        word_t key;
        uint32_t *count;
    } counts[] = {
        {KEY_MIN_LENGTH, &node->min_length},
        {KEY_MAX_LENGTH, &node->max_length},
        {KEY_MIN_ITEMS, &node->min_items},
        {KEY_MAX_ITEMS, &node->max_items},
        {KEY_MIN_PROPERTIES, &node->min_properties},
        {KEY_MAX_PROPERTIES, &node->max_properties},
    };

    hp_str_t value;
    uint64_t count;
    size_t i, j;

    for (i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        if (keys->at[counts[i].key] == NULL) {
            continue;
        }

        value = value_at(work, keys->at[counts[i].key]);

        for (j = 0, count = 0; j < value.len && count <= COUNT_MAX; j++) {
            count = hp_is_digit(value.data[j])
                        ? count * 10 + (value.data[j] - '0')
                        : UINT32_MAX;
        }

        if (count > COUNT_MAX) {
            return refuse_key(work, keys, counts[i].key,
                              "must be an integer of 0 to 1000000000, "
                              "written in digits");
        }

        *counts[i].count = (uint32_t)count;
    }

    return 0;
}

static int take_string_rules(work_t *work, const keywords_t *keys,
                             hp_schema_t *node)
{
    const unsigned char *at;
    const char *error;
    hp_str_t text;

    at = keys->at[KEY_PATTERN];

    if (at != NULL) {
        if (*at != '"') {
            return refuse_key(work, keys, KEY_PATTERN, "must be a string");
        }

        if (keep_string(work, hp_walk_string(at, work->end), &text) != 0) {
            return -1;
        }

        node->pattern =
            hp_pattern_compile(text, work->alloc, work->pool, &error);

        if (node->pattern == NULL) {
            return refuse_key(work, keys, KEY_PATTERN, error);
        }
    }

    at = keys->at[KEY_FORMAT];

    if (at == NULL) {
        return 0;
    }

    if (is_text(work, at, "date-time")) {
        node->format = HP_SCHEMA_DATE_TIME;
    } else if (is_text(work, at, "date")) {
        node->format = HP_SCHEMA_DATE;
    } else if (is_text(work, at, "uuid")) {
        node->format = HP_SCHEMA_UUID;
    } else {
        return refuse_key(work, keys, KEY_FORMAT,
                          "only date-time, date and uuid are supported");
    }

    return 0;
}

/* Objects and arrays */

/* A node below another: the depth of that one grows with it. */
static const hp_schema_t *take_below(work_t *work, const unsigned char *at,
                                     hp_schema_t *node)
{
    const hp_schema_t *below;

    below = compile(work, at);

    if (below == NULL) {
        return NULL;
    }

    if (below->depth >= node->depth) {
        node->depth = below->depth + 1;
    }

    if (node->depth > HP_SCHEMA_DEPTH_MAX) {
        (void)refuse(work, at, NULL, "schemas are nested too deeply");
        return NULL;
    }

    return below;
}

static int by_name(const void *left, const void *right)
{
    const hp_schema_property_t *a = left, *b = right;

    return order_texts(a->name, b->name);
}

/* Adds a property, or finds the one of that name; NULL without memory. */
static hp_schema_property_t *property_of(work_t *work, hp_str_t raw,
                                         hp_schema_property_t *properties,
                                         unsigned *count)
{
    hp_schema_property_t *property;
    unsigned i;

    for (i = 0; i < *count; i++) {
        if (hp_walk_compare(raw, properties[i].name) == 0) {
            return &properties[i];
        }
    }

    property = &properties[*count];

    if (keep_string(work, raw, &property->name) != 0) {
        return NULL;
    }

    (*count)++;
    return property;
}

static int take_properties(work_t *work, const keywords_t *keys,
                           hp_schema_t *node, hp_schema_property_t *properties)
{
    hp_schema_property_t *property;
    hp_walk_t walk;

    if (!hp_walk_open(&walk, keys->at[KEY_PROPERTIES], work->end) ||
        !walk.object) {
        return refuse_key(work, keys, KEY_PROPERTIES, "must be an object");
    }

    while (hp_walk_next(&walk)) {
        property =
            property_of(work, walk.name, properties, &node->property_count);

        if (property == NULL) {
            return -1;
        }

        if (property->declared) {
            return refuse(work, walk.name.data - 1, "properties",
                          "a name is there twice");
        }

        property->declared = 1;
        property->schema = take_below(work, walk.pos, node);

        if (property->schema == NULL) {
            return -1;
        }

        walk.pos = hp_walk_value(walk.pos, walk.end, NULL);
    }

    return 0;
}

static int take_required(work_t *work, const keywords_t *keys,
                         hp_schema_t *node, hp_schema_property_t *properties)
{
    hp_schema_property_t *property;
    hp_walk_t walk;

    if (!hp_walk_open(&walk, keys->at[KEY_REQUIRED], work->end) ||
        walk.object) {
        return refuse_key(work, keys, KEY_REQUIRED, "must be a list of names");
    }

    while (hp_walk_next(&walk)) {
        if (*walk.pos != '"') {
            return refuse(work, walk.pos, "required",
                          "must be a list of names");
        }

        property = property_of(work, hp_walk_string(walk.pos, walk.end),
                               properties, &node->property_count);

        if (property == NULL) {
            return -1;
        }

        if (property->required) {
            return refuse(work, walk.pos, "required", "a name is there twice");
        }

        property->required = 1;
        walk.pos = hp_walk_value(walk.pos, walk.end, NULL);
    }

    return 0;
}

static int take_object_rules(work_t *work, const keywords_t *keys,
                             hp_schema_t *node)
{
    hp_schema_property_t *properties;
    const unsigned char *at;
    size_t count;

    at = keys->at[KEY_PROPERTIES] == NULL ? keys->at[KEY_REQUIRED]
                                          : keys->at[KEY_PROPERTIES];

    /* a name that is in both counts twice here and is one below */
    count = entries_at(work, keys->at[KEY_PROPERTIES]) +
            entries_at(work, keys->at[KEY_REQUIRED]);

    if (count > 2 * HP_SCHEMA_PROPERTIES_MAX) {
        return refuse(work, at, "properties", TOO_MANY_NAMES);
    }

    properties = take_memory(work, count * sizeof(*properties));

    if (properties == NULL) {
        return -1;
    }

    memset(properties, 0, count * sizeof(*properties));
    node->properties = properties;

    if ((keys->at[KEY_PROPERTIES] != NULL &&
         take_properties(work, keys, node, properties) != 0) ||
        (keys->at[KEY_REQUIRED] != NULL &&
         take_required(work, keys, node, properties) != 0)) {
        return -1;
    }

    if (node->property_count > HP_SCHEMA_PROPERTIES_MAX) {
        return refuse(work, at, "properties", TOO_MANY_NAMES);
    }

    qsort(properties, node->property_count, sizeof(*properties), by_name);
    at = keys->at[KEY_ADDITIONAL];

    if (at != NULL) {
        if (*at != 't' && *at != 'f') {
            return refuse_key(work, keys, KEY_ADDITIONAL,
                              "only true and false are supported");
        }

        node->closed = *at == 'f';
    }

    return 0;
}

static int take_keywords(work_t *work, const keywords_t *keys,
                         hp_schema_t *node)
{
    if ((keys->at[KEY_TYPE] != NULL && take_type(work, keys, node) != 0) ||
        take_values(work, keys, node) != 0 ||
        take_bounds(work, keys, node) != 0 ||
        take_counts(work, keys, node) != 0 ||
        take_string_rules(work, keys, node) != 0 ||
        take_object_rules(work, keys, node) != 0) {
        return -1;
    }

    if (keys->at[KEY_ITEMS] != NULL) {
        node->items = take_below(work, keys->at[KEY_ITEMS], node);

        if (node->items == NULL) {
            return -1;
        }
    }

    return 0;
}

/* The schema at `at`, or NULL. */
static const hp_schema_t *compile(work_t *work, const unsigned char *at)
{
    const hp_schema_t *result;
    hp_schema_t *node;
    keywords_t keys;
    unsigned i;
    int root;

    if (*at == 't') {
        return &anything;
    }

    node = take_memory(work, sizeof(*node));

    if (node == NULL) {
        return NULL;
    }

    *node = anything;
    node->refuses = *at == 'f';

    if (node->refuses) {
        return node;
    }

    if (work->depth == HP_SCHEMA_DEPTH_MAX) {
        (void)refuse(work, at, NULL, "schemas are nested too deeply");
        return NULL;
    }

    root = work->depth == 0;
    work->depth++;
    result = NULL;

    if (note_keywords(work, at, &keys) != 0 ||
        check_frame(work, &keys, root) != 0 ||
        (keys.at[KEY_DEFS] != NULL && note_definitions(work, &keys) != 0)) {
        goto done;
    }

    if (keys.at[KEY_REF] != NULL) {
        result = take_ref(work, &keys);
    } else if (take_keywords(work, &keys, node) == 0) {
        result = node;
    }

    /* an error in a definition is one, also where nobody refers to it */
    for (i = 0; root && result != NULL && i < work->definition_count; i++) {
        if (compile_definition(work, &work->definitions[i], at) == NULL) {
            result = NULL;
        }
    }

done:

    work->depth--;
    return result;
}

const hp_schema_t *hp_schema_compile(hp_str_t text, hp_alloc_t alloc,
                                     void *pool, hp_schema_error_t *error)
{
    hp_json_status_t status;
    const hp_schema_t *root;
    hp_str_t value;
    size_t offset;
    work_t *work;

    memset(error, 0, sizeof(*error));
    status = hp_json_check(text, JSON_DEPTH_MAX, &offset);

    if (status != HP_JSON_OK) {
        snprintf(error->message, sizeof(error->message), "not valid JSON: %s",
                 hp_json_code(status));
        error->offset = offset;
        return NULL;
    }

    work = calloc(1, sizeof(*work));

    if (work == NULL) {
        snprintf(error->message, sizeof(error->message), "no memory");
        return NULL;
    }

    value = hp_walk_trim(text);
    work->start = text.data;
    work->end = value.data + value.len;
    work->alloc = alloc;
    work->pool = pool;
    work->error = error;
    root = compile(work, value.data);
    free(work);
    return root;
}
