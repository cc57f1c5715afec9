/*
 * test_schema.c: unit tests of ngx_module/core/hp_schema.c and
 * hp_schema_compile.c.
 *
 * One list of schema, value, expected code and pointer; one of schemas that
 * are refused, with the message and the place; every bound from both sides;
 * every cut of a schema, and memory that runs out at every request for it.
 * What other implementations say is compared in
 * tests/fuzz/schema_differential.py. Texts are blocks of exactly their size,
 * for AddressSanitizer. One process, no files; tests/unit/Makefile.
 */
#include "support.h"

#include "hp_json.h"
#include "hp_schema_compile.h"

#define DEPTH 100

typedef struct {
    void *blocks[4096];
    size_t count;
    size_t left;
} pool_t;

static pool_t pool;

static void *take(void *data, size_t size)
{
    pool_t *from = data;

    if (from->left == 0) {
        return NULL;
    }

    from->left--;
    assert_true(from->count < COUNT_OF(from->blocks));
    from->blocks[from->count] = malloc(size);
    assert_non_null(from->blocks[from->count]);
    return from->blocks[from->count++];
}

static void empty(void)
{
    while (pool.count != 0) {
        free(pool.blocks[--pool.count]);
    }

    pool.left = SIZE_MAX;
}

/* The text is gone when the schema is used. */
static const hp_schema_t *compile(const char *text, size_t len,
                                  hp_schema_error_t *error)
{
    const hp_schema_t *schema;
    hp_str_t copy;

    copy = exact(text, len);
    memset(error, 0xa5, sizeof(*error));
    schema = hp_schema_compile(copy, take, &pool, error);
    drop(&copy);
    assert_true((schema == NULL) == (error->message[0] != '\0'));
    assert_true(schema != NULL || error->offset <= len);
    return schema;
}

static hp_schema_status_t check(const hp_schema_t *schema, const char *value,
                                hp_schema_violation_t *violation)
{
    hp_schema_status_t status;
    hp_str_t copy;
    size_t offset;

    copy = exact_text(value);

    if (hp_json_check(copy, DEPTH, &offset) != HP_JSON_OK) {
        fail_msg("not JSON: %s", value);
    }

    memset(violation, 0xa5, sizeof(*violation));
    status = hp_schema_check(schema, copy, violation);
    drop(&copy);

    if (status != HP_SCHEMA_OK) {
        assert_true(violation->pointer_len <= HP_SCHEMA_POINTER_MAX);
        assert_true(violation->offset < strlen(value));
    }

    return status;
}

#define ORDER                                                                  \
    "{\"type\":\"object\",\"required\":[\"id\",\"lines\"],"                    \
    "\"additionalProperties\":false,\"properties\":{\"id\":{\"$ref\":"         \
    "\"#/$defs/id\"},\"lines\":{\"type\":\"array\",\"minItems\":1,"            \
    "\"maxItems\":3,\"items\":{\"type\":\"object\",\"required\":[\"sku\","     \
    "\"n\"],\"properties\":{\"sku\":{\"$ref\":\"#/$defs/id\"},\"n\":"          \
    "{\"type\":\"integer\",\"minimum\":1}}}},\"note\":true,\"a/b~c\":"         \
    "{\"type\":\"string\"}},\"$defs\":{\"id\":{\"type\":\"string\","           \
    "\"pattern\":\"^[a-z]+$\"}}}"

static void test_checks(void **state)
{
    /* code NULL: accepted. at: the value from the violation on, or NULL */
    static const struct {
        const char *schema;
        const char *value;
        const char *code;
        const char *pointer;
        const char *at;
    } cases[] = {
        {"true", "1", NULL, "", NULL},
        {"{}", "{\"a\":[1]}", NULL, "", NULL},
        {"false", " 1 ", "schema_false", "", "1 "},
        {"{\"properties\":{\"a\":false}}", "{\"b\":1,\"a\":[]}", "schema_false",
         "/a", "[]}"},
        {"{\"properties\":{\"a\":false}}", "{\"b\":1}", NULL, "", NULL},
        /* type */
        {"{\"type\":\"null\"}", "null", NULL, "", NULL},
        {"{\"type\":\"null\"}", "0", "schema_type", "", NULL},
        {"{\"type\":\"boolean\"}", "false", NULL, "", NULL},
        {"{\"type\":\"boolean\"}", "\"true\"", "schema_type", "", NULL},
        {"{\"type\":\"object\"}", "{}", NULL, "", NULL},
        {"{\"type\":\"object\"}", "[]", "schema_type", "", NULL},
        {"{\"type\":\"array\"}", "[]", NULL, "", NULL},
        {"{\"type\":\"array\"}", "{}", "schema_type", "", NULL},
        {"{\"type\":\"string\"}", "\"\"", NULL, "", NULL},
        {"{\"type\":\"string\"}", "1", "schema_type", "", NULL},
        {"{\"type\":\"number\"}", "-1.5e3", NULL, "", NULL},
        {"{\"type\":\"number\"}", "\"1\"", "schema_type", "", NULL},
        {"{\"type\":\"integer\"}", "1", NULL, "", NULL},
        {"{\"type\":\"integer\"}", "1.0", NULL, "", NULL},
        {"{\"type\":\"integer\"}", "12.5e1", NULL, "", NULL},
        {"{\"type\":\"integer\"}", "-0.0", NULL, "", NULL},
        {"{\"type\":\"integer\"}", "1.5", "schema_type", "", NULL},
        {"{\"type\":\"integer\"}", "1e-1", "schema_type", "", NULL},
        {"{\"type\":\"integer\"}", "true", "schema_type", "", NULL},
        {"{\"type\":[\"integer\",\"number\"]}", "1.5", NULL, "", NULL},
        {"{\"type\":[\"null\",\"integer\"]}", "null", NULL, "", NULL},
        {"{\"type\":[\"null\",\"integer\"]}", "1.5", "schema_type", "", NULL},
        {"{\"type\":[\"null\",\"integer\"]}", "[]", "schema_type", "", NULL},
        /* enum and const */
        {"{\"enum\":[\"a\",\"b\",1,true,null]}", "\"b\"", NULL, "", NULL},
        {"{\"enum\":[\"a\",\"b\",1,true,null]}", "\"\\u0061\"", NULL, "", NULL},
        {"{\"enum\":[\"a\",\"b\",1,true,null]}", "1.0", NULL, "", NULL},
        {"{\"enum\":[\"a\",\"b\",1,true,null]}", "true", NULL, "", NULL},
        {"{\"enum\":[\"a\",\"b\",1,true,null]}", "null", NULL, "", NULL},
        {"{\"enum\":[\"a\",\"b\",1,true,null]}", "\"c\"", "schema_enum", "",
         NULL},
        {"{\"enum\":[\"a\",\"b\",1,true,null]}", "false", "schema_enum", "",
         NULL},
        {"{\"enum\":[\"a\",\"b\",1,true,null]}", "0", "schema_enum", "", NULL},
        {"{\"enum\":[\"a\",\"b\",1,true,null]}", "\"1\"", "schema_enum", "",
         NULL},
        {"{\"enum\":[\"a\"]}", "[\"a\"]", "schema_enum", "", NULL},
        {"{\"enum\":[\"a\"]}", "{}", "schema_enum", "", NULL},
        {"{\"enum\":[\"\\u00e4\",\"\\\"\"]}", "\"\xc3\xa4\"", NULL, "", NULL},
        {"{\"enum\":[\"\\u00e4\",\"\\\"\"]}", "\"\\\"\"", NULL, "", NULL},
        {"{\"enum\":[9007199254740993]}", "9007199254740992", "schema_enum", "",
         NULL},
        {"{\"const\":\"a\"}", "\"a\"", NULL, "", NULL},
        {"{\"const\":\"a\"}", "\"A\"", "schema_const", "", NULL},
        {"{\"const\":null}", "null", NULL, "", NULL},
        {"{\"const\":null}", "false", "schema_const", "", NULL},
        {"{\"const\":0}", "-0.0", NULL, "", NULL},
        {"{\"const\":0}", "false", "schema_const", "", NULL},
        {"{\"const\":1}", "[1]", "schema_const", "", NULL},
        {"{\"const\":1,\"enum\":[2]}", "1", "schema_enum", "", NULL},
        /* numbers */
        {"{\"minimum\":0.1}", "0.1", NULL, "", NULL},
        {"{\"minimum\":0.1}", "0.09999999999999999999999", "schema_minimum", "",
         NULL},
        {"{\"maximum\":9007199254740992}", "9007199254740992.0", NULL, "",
         NULL},
        {"{\"maximum\":9007199254740992}", "9007199254740993", "schema_maximum",
         "", NULL},
        {"{\"exclusiveMinimum\":0}", "1e-300", NULL, "", NULL},
        {"{\"exclusiveMinimum\":0}", "-0", "schema_exclusive_minimum", "",
         NULL},
        {"{\"exclusiveMaximum\":-1}", "-1.01", NULL, "", NULL},
        {"{\"exclusiveMaximum\":-1}", "-1.0", "schema_exclusive_maximum", "",
         NULL},
        {"{\"minimum\":1}", "\"0\"", NULL, "", NULL},
        /* strings */
        {"{\"minLength\":2,\"maxLength\":3}", "\"\xc3\xa4\\ud83d\\ude00\"",
         NULL, "", NULL},
        {"{\"minLength\":2,\"maxLength\":3}", "\"a\"", "schema_min_length", "",
         NULL},
        {"{\"minLength\":2,\"maxLength\":3}", "\"abc\"", NULL, "", NULL},
        {"{\"minLength\":2,\"maxLength\":3}", "\"abcd\"", "schema_max_length",
         "", NULL},
        {"{\"minLength\":2}", "1", NULL, "", NULL},
        {"{\"maxLength\":0}", "\"\"", NULL, "", NULL},
        {"{\"pattern\":\"^\\\\d+$\"}", "\"12\"", NULL, "", NULL},
        {"{\"pattern\":\"^\\\\d+$\"}", "\"1\\u0032\"", NULL, "", NULL},
        {"{\"pattern\":\"^\\\\d+$\"}", "\"1a\"", "schema_pattern", "", NULL},
        {"{\"pattern\":\"^\\\\d+$\"}", "[]", NULL, "", NULL},
        {"{\"format\":\"date-time\"}", "\"2024-02-29T00:00:00Z\"", NULL, "",
         NULL},
        {"{\"format\":\"date-time\"}", "\"2024\\u002d02-29T00:00:00Z\"", NULL,
         "", NULL},
        {"{\"format\":\"date-time\"}", "\"2023-02-29T00:00:00Z\"",
         "schema_format", "", NULL},
        {"{\"format\":\"date-time\"}", "\"\"", "schema_format", "", NULL},
        {"{\"format\":\"date\"}", "\"2024-02-29\"", NULL, "", NULL},
        {"{\"format\":\"date\"}", "\"2024-02-30\"", "schema_format", "", NULL},
        {"{\"format\":\"uuid\"}", "\"8e03978e-40d5-43dd-BC93-6894a57f9324\"",
         NULL, "", NULL},
        {"{\"format\":\"uuid\"}", "\"8e03978e40d543ddbc936894a57f9324\"",
         "schema_format", "", NULL},
        {"{\"format\":\"uuid\"}", "1", NULL, "", NULL},
        /* arrays */
        {"{\"minItems\":1,\"maxItems\":2}", "[]", "schema_min_items", "", NULL},
        {"{\"minItems\":1,\"maxItems\":2}", "[1,2]", NULL, "", NULL},
        {"{\"minItems\":1,\"maxItems\":2}", "[1,2,3]", "schema_max_items", "",
         NULL},
        {"{\"items\":{\"type\":\"string\"}}", "[\"a\",\"b\"]", NULL, "", NULL},
        {"{\"items\":{\"type\":\"string\"}}", "[\"a\", 5 ]", "schema_type",
         "/1", "5 ]"},
        {"{\"items\":{\"items\":{\"maximum\":3}}}",
         "[[],[1,2],[0,0,0,0,0,0,0,0,0,0,4]]", "schema_maximum", "/2/10",
         "4]]"},
        {"{\"items\":false}", "[]", NULL, "", NULL},
        {"{\"items\":false}", "[0]", "schema_false", "/0", NULL},
        {"{\"items\":true,\"maxItems\":1}", "[[[[1]]]]", NULL, "", NULL},
        /* objects */
        {"{\"minProperties\":1,\"maxProperties\":2}", "{}",
         "schema_min_properties", "", NULL},
        {"{\"minProperties\":1,\"maxProperties\":2}", "{\"a\":1,\"b\":1}", NULL,
         "", NULL},
        {"{\"minProperties\":1,\"maxProperties\":2}",
         "{\"a\":1,\"b\":1,\"c\":1}", "schema_max_properties", "", NULL},
        {"{\"required\":[\"b\",\"a\"]}", "{}", "schema_required", "/a", NULL},
        {"{\"required\":[\"b\",\"a\"]}", "{\"a\":{\"b\":1}}", "schema_required",
         "/b", NULL},
        {"{\"required\":[\"\"]}", "{\"a\":1}", "schema_required", "/", NULL},
        {"{\"required\":[\"a\"]}", "{\"\\u0061\":null}", NULL, "", NULL},
        {"{\"required\":[\"a\"]}", "[]", NULL, "", NULL},
        {"{\"required\":[\"a\"],\"additionalProperties\":false}", "{\"a\":1}",
         "schema_additional", "/a", "1}"},
        {"{\"additionalProperties\":false}", "{}", NULL, "", NULL},
        {"{\"additionalProperties\":false}", "{\"x\":1}", "schema_additional",
         "/x", NULL},
        {"{\"properties\":{\"a\":{}},\"additionalProperties\":true}",
         "{\"x\":1}", NULL, "", NULL},
        {"{\"properties\":{\"a\":{}}}", "{\"a\":1,\"a\":2}", "schema_duplicate",
         "/a", "2}"},
        {"{\"properties\":{\"a\":{}}}", "{\"b\":1,\"b\":2}", NULL, "", NULL},
        {"{\"required\":[\"a\"]}", "{\"a\":1,\"\\u0061\":2}",
         "schema_duplicate", "/a", NULL},
        /* together */
        {ORDER, "{\"id\":\"a\",\"lines\":[{\"sku\":\"b\",\"n\":1,\"x\":0}]}",
         NULL, "", NULL},
        {ORDER,
         "{\"id\":\"a\",\"note\":[{}],\"lines\":[{\"sku\":\"b\","
         "\"n\":1}]}",
         NULL, "", NULL},
        {ORDER, "{\"id\":\"A\",\"lines\":[]}", "schema_pattern", "/id",
         "\"A\",\"lines\":[]}"},
        {ORDER, "{\"id\":\"a\",\"lines\":[]}", "schema_min_items", "/lines",
         "[]}"},
        {ORDER, "{\"lines\":[{\"sku\":\"b\",\"n\":1},{\"n\":1}]}",
         "schema_required", "/lines/1/sku", "{\"n\":1}]}"},
        {ORDER, "{\"lines\":[{\"sku\":\"b\",\"n\":0}]}", "schema_minimum",
         "/lines/0/n", "0}]}"},
        {ORDER, "{\"lines\":[{\"sku\":\"b\",\"n\":1}]}", "schema_required",
         "/id", NULL},
        {ORDER, "{\"a/b~c\":1}", "schema_type", "/a~1b~0c", "1}"},
        {ORDER, "{\"a\\u002fb~c\":1}", "schema_type", "/a~1b~0c", "1}"},
        {ORDER, "{\"\xc3\xa4\\\"\":1}", "schema_additional", "/\xc3\xa4\"",
         NULL},
        {ORDER, "[]", "schema_type", "", NULL},
        /* the same definition in two places, one inside the other's reach */
        {"{\"$defs\":{\"a\":{\"items\":{\"$ref\":\"#/$defs/b\"}},\"b\":"
         "{\"type\":\"number\"}},\"properties\":{\"x\":{\"$ref\":"
         "\"#/$defs/a\"},\"y\":{\"$ref\":\"#/$defs/b\"}}}",
         "{\"x\":[1,2],\"y\":\"z\"}", "schema_type", "/y", NULL},
        {"{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\","
         "\"$id\":\"x\",\"title\":\"t\",\"description\":\"d\",\"$comment\":"
         "\"c\",\"default\":[{}],\"examples\":[1],\"$ref\":\"#/$defs/a\","
         "\"$defs\":{\"a\":{\"const\":1,\"title\":\"t\"}}}",
         "2", "schema_const", "", NULL},
    };

    hp_schema_violation_t violation;
    hp_schema_status_t status;
    const hp_schema_t *schema;
    hp_schema_error_t error;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        schema = compile(cases[i].schema, strlen(cases[i].schema), &error);

        if (schema == NULL) {
            fail_msg("%s: %s", cases[i].schema, error.message);
        }

        status = check(schema, cases[i].value, &violation);

        if ((status == HP_SCHEMA_OK) != (cases[i].code == NULL) ||
            (status != HP_SCHEMA_OK &&
             (strcmp(hp_schema_code(status), cases[i].code) != 0 ||
              violation.pointer_len != strlen(cases[i].pointer) ||
              memcmp(violation.pointer, cases[i].pointer,
                     violation.pointer_len) != 0))) {
            fail_msg("%s on %s: %s at '%.*s'", cases[i].schema, cases[i].value,
                     hp_schema_code(status), (int)violation.pointer_len,
                     violation.pointer);
        }

        if (cases[i].at != NULL) {
            assert_string_equal(cases[i].value + violation.offset, cases[i].at);
        }

        empty();
    }
}

static void test_refused(void **state)
{
    static const struct {
        const char *schema;
        const char *message; /* a part of it */
        const char *at;      /* the schema from the error on begins so */
    } cases[] = {
        {"", "not valid JSON: json_empty", ""},
        {"{\"type\":}", "not valid JSON: json_syntax", "}"},
        {"1", "a schema is", "1"},
        {"[]", "a schema is", "[]"},
        {"{\"properties\":{\"a\":null}}", "a schema is", "null"},
        /* keywords */
        {"{\"multipleOf\":2}", "multipleOf: ", "\"multipleOf\""},
        {"{\"oneOf\":[]}", "oneOf: ", "\"oneOf\""},
        {"{\"anyOf\":[]}", "anyOf: ", "\"anyOf\""},
        {"{\"allOf\":[]}", "allOf: ", "\"allOf\""},
        {"{\"not\":{}}", "not: ", "\"not\""},
        {"{\"if\":{}}", "if: ", "\"if\""},
        {"{\"patternProperties\":{}}", "patternProperties: ", "\"pattern"},
        {"{\"propertyNames\":{}}", "propertyNames: ", "\"property"},
        {"{\"dependentRequired\":{}}", "dependentRequired: ", "\"depend"},
        {"{\"uniqueItems\":true}", "uniqueItems: ", "\"unique"},
        {"{\"prefixItems\":[]}", "prefixItems: ", "\"prefix"},
        {"{\"contains\":{}}", "contains: ", "\"contains\""},
        {"{\"unevaluatedProperties\":false}", "unevaluatedProperties: ", "\""},
        {"{\"$anchor\":\"a\"}", "$anchor: ", "\"$anchor\""},
        {"{\"$dynamicRef\":\"#a\"}", "$dynamicRef: ", "\"$dynamicRef\""},
        {"{\"definitions\":{}}", "definitions: ", "\"definitions\""},
        {"{\"Type\":\"string\"}", "Type: ", "\"Type\""},
        {"{\"properties\":{\"a\":{\"x\":1}}}", "x: this keyword", "\"x\""},
        {"{\"a0123456789b0123456789c0123456789d0123456789e0123456789f012345678"
         "9\":1}",
         "keyword is not", "\"a0"},
        {"{\"type\":\"null\",\"type\":\"null\"}",
         "type: the keyword is there "
         "twice",
         "\"type\":\"null\"}"},
        /* values of keywords */
        {"{\"type\":\"text\"}", "type: this is no type", "\"text\""},
        {"{\"type\":1}", "type: this is no type", "1"},
        {"{\"type\":{}}", "type: this is no type", "{}"},
        {"{\"type\":[]}", "type: must not be empty", "[]"},
        {"{\"type\":[\"null\",\"null\"]}", "type: a type is there twice",
         "\"null\"]"},
        {"{\"type\":[\"null\",[\"null\"]]}", "type: this is no type",
         "[\"null\"]"},
        {"{\"enum\":[]}", "enum: must be a list", "[]"},
        {"{\"enum\":{\"a\":1}}", "enum: must be a list", "{"},
        {"{\"enum\":\"a\"}", "enum: must be a list", "\"a\""},
        {"{\"enum\":[1,[]]}", "enum: only strings", "[]]"},
        {"{\"const\":{}}", "const: only strings", "{}"},
        {"{\"minimum\":\"1\"}", "minimum: must be a number", "\"1\""},
        {"{\"maximum\":null}", "maximum: must be a number", "null"},
        {"{\"exclusiveMinimum\":true}", "exclusiveMinimum: must be", "true"},
        {"{\"exclusiveMaximum\":[]}", "exclusiveMaximum: must be", "[]"},
        {"{\"minLength\":-1}", "minLength: must be an integer", "-1"},
        {"{\"maxLength\":1.0}", "maxLength: must be an integer", "1.0"},
        {"{\"minItems\":\"1\"}", "minItems: must be an integer", "\"1\""},
        {"{\"maxItems\":1e2}", "maxItems: must be an integer", "1e2"},
        {"{\"minProperties\":1000000001}", "minProperties: must be", "1"},
        {"{\"maxProperties\":99999999999999999999999}", "maxProperties: must",
         "9"},
        {"{\"pattern\":1}", "pattern: must be a string", "1"},
        {"{\"pattern\":\"(\"}", "pattern: a group is not closed", "\"(\""},
        {"{\"pattern\":\"(?=a)\"}", "pattern: only groups", "\"("},
        {"{\"format\":\"email\"}", "format: only date-time", "\"email\""},
        {"{\"format\":1}", "format: only date-time", "1"},
        {"{\"properties\":[]}", "properties: must be an object", "[]"},
        {"{\"properties\":1}", "properties: must be an object", "1"},
        {"{\"properties\":{\"a\":{},\"\\u0061\":{}}}",
         "properties: a name is there twice", "\"\\u0061\""},
        {"{\"required\":{}}", "required: must be a list", "{}"},
        {"{\"required\":\"a\"}", "required: must be a list", "\"a\""},
        {"{\"required\":[1]}", "required: must be a list", "1]"},
        {"{\"required\":[\"a\",\"a\"]}", "required: a name is there twice",
         "\"a\"]"},
        {"{\"additionalProperties\":{}}", "additionalProperties: only true",
         "{}"},
        {"{\"items\":[{}]}", "a schema is", "[{}]"},
        {"{\"title\":1}", "title: must be a string", "1"},
        {"{\"description\":1}", "description: must be a string", "1"},
        {"{\"$comment\":1}", "$comment: must be a string", "1"},
        {"{\"examples\":{}}", "examples: must be an array", "{}"},
        {"{\"$schema\":\"http://json-schema.org/draft-07/schema#\"}",
         "$schema: must be https://json-schema.org/draft/2020-12/schema",
         "\"http"},
        {"{\"$id\":1}", "$id: must be a string", "1"},
        {"{\"items\":{\"$id\":\"a\"}}", "$id: only the root", "\"a\""},
        {"{\"items\":{\"$defs\":{}}}", "$defs: only the root", "{}}}"},
        /* references */
        {"{\"$ref\":1}", "$ref: must be a string", "1"},
        {"{\"$ref\":\"#\"}", "$ref: must be \"#/$defs/NAME\"", "\"#\""},
        {"{\"$ref\":\"#/properties/a\"}", "$ref: must be", "\"#/"},
        {"{\"$ref\":\"other.json\"}", "$ref: must be", "\"other"},
        {"{\"$ref\":\"#/$defs/a\"}", "$ref: names no definition", "\"#/"},
        {"{\"$ref\":\"#/$defs/a/b\",\"$defs\":{\"a\":{}}}", "$ref: names with",
         "\"#/"},
        {"{\"$ref\":\"#/$defs/a\",\"minimum\":1,\"$defs\":{\"a\":{}}}",
         "minimum: may not stand beside $ref", "1,"},
        {"{\"$defs\":{\"a\":{\"$ref\":\"#/$defs/a\"}}}",
         "$ref: it leads back to itself", "\"#/$defs/a\"}}}"},
        {"{\"$defs\":{\"a\":{\"items\":{\"$ref\":\"#/$defs/b\"}},\"b\":"
         "{\"properties\":{\"x\":{\"$ref\":\"#/$defs/a\"}}}}}",
         "$ref: it leads back to itself", "\"#/$defs/a\""},
        {"{\"$defs\":[]}", "$defs: must be an object", "[]"},
        {"{\"$defs\":{\"a\":{},\"a\":{}}}", "$defs: a name is there twice",
         "\"a\":{}}}"},
        {"{\"$defs\":{\"a\":{\"oneOf\":[]}}}", "oneOf: ", "\"oneOf\""},
        {"{\"$defs\":{\"a\":5}}", "a schema is", "5"},
    };

    const hp_schema_t *schema;
    hp_schema_error_t error;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        schema = compile(cases[i].schema, strlen(cases[i].schema), &error);

        if (schema != NULL || strstr(error.message, cases[i].message) == NULL ||
            strncmp(cases[i].schema + error.offset, cases[i].at,
                    strlen(cases[i].at)) != 0) {
            fail_msg("%s: '%s' at %zu", cases[i].schema,
                     schema == NULL ? error.message : "accepted", error.offset);
        }

        empty();
    }
}

static void test_codes(void **state)
{
    int i, j;

    (void)state;

    for (i = 0; i <= HP_SCHEMA_DUPLICATE; i++) {
        assert_non_null(hp_schema_code((hp_schema_status_t)i));
        assert_memory_equal(hp_schema_code((hp_schema_status_t)i), "schema_",
                            7);

        for (j = 0; j < i; j++) {
            assert_string_not_equal(hp_schema_code((hp_schema_status_t)i),
                                    hp_schema_code((hp_schema_status_t)j));
        }
    }

    assert_string_equal(hp_schema_code((hp_schema_status_t)i),
                        "schema_unknown");
}

/* head, then each of unit with the number in it, joined with commas, tail. */
static char *listed(const char *head, const char *unit, unsigned count,
                    const char *tail)
{
    char *text, *p;
    unsigned i;

    text =
        malloc(strlen(head) + count * (strlen(unit) + 24) + strlen(tail) + 1);
    assert_non_null(text);
    p = text + sprintf(text, "%s", head);

    for (i = 0; i < count; i++) {
        p += sprintf(p, "%s", i == 0 ? "" : ",");
        p += sprintf(p, unit, i, i + 1);
    }

    sprintf(p, "%s", tail);
    return text;
}

/* The message, or "" where the text is accepted. Frees it. */
static const char *message_of(char *text)
{
    static hp_schema_error_t error;

    (void)compile(text, strlen(text), &error);
    free(text);
    empty();
    return error.message;
}

/* Arrays inside arrays, `depth` schemas in all. */
static char *nested(unsigned depth, const char *innermost)
{
    char *text, *p;
    unsigned i;

    text = malloc(depth * 16 + strlen(innermost) + 1);
    assert_non_null(text);

    for (i = 1, p = text; i < depth; i++) {
        p += sprintf(p, "{\"items\":");
    }

    p += sprintf(p, "%s", innermost);

    for (i = 1; i < depth; i++) {
        *p++ = '}';
    }

    *p = '\0';
    return text;
}

static void test_limits(void **state)
{
    (void)state;

    assert_string_equal(message_of(nested(HP_SCHEMA_DEPTH_MAX, "{}")), "");
    assert_string_equal(message_of(nested(HP_SCHEMA_DEPTH_MAX, "true")), "");
    assert_string_equal(message_of(nested(HP_SCHEMA_DEPTH_MAX, "false")), "");
    assert_string_equal(message_of(nested(HP_SCHEMA_DEPTH_MAX + 1, "{}")),
                        "schemas are nested too deeply");
    assert_string_equal(message_of(nested(HP_SCHEMA_DEPTH_MAX + 1, "true")),
                        "schemas are nested too deeply");
    assert_string_equal(message_of(nested(HP_SCHEMA_DEPTH_MAX + 1, "false")),
                        "schemas are nested too deeply");

    /* the depth of definitions adds up: 20 arrays each in the one before */
    assert_string_equal(
        message_of(listed("{\"$defs\":{\"d30\":{},",
                          "\"d%u\":{\"items\":{\"$ref\":\"#/$defs/d%u\"}}", 30,
                          "},\"$ref\":\"#/$defs/d15\"}")),
        "");
    assert_string_equal(
        message_of(listed("{\"$defs\":{\"d40\":{},",
                          "\"d%u\":{\"items\":{\"$ref\":\"#/$defs/d%u\"}}", 40,
                          "}}")),
        "schemas are nested too deeply");
    assert_string_equal(
        message_of(listed("{\"$defs\":{\"d20\":{},",
                          "\"d%u\":{\"items\":{\"items\":{\"$ref\":"
                          "\"#/$defs/d%u\"}}}",
                          20, "},\"items\":{\"$ref\":\"#/$defs/d0\"}}")),
        "schemas are nested too deeply");

    assert_string_equal(
        message_of(listed("{\"properties\":{", "\"p%u\":true", 256, "}}")), "");
    assert_string_equal(
        message_of(listed("{\"properties\":{", "\"p%u\":true", 257, "}}")),
        "properties: an object has more than 256 names");
    assert_string_equal(
        message_of(listed("{\"required\":[", "\"p%u\"", 10000, "]}")),
        "properties: an object has more than 256 names");
    assert_string_equal(message_of(listed("{\"enum\":[", "\"v%u\"",
                                          HP_SCHEMA_VALUES_MAX, "]}")),
                        "");
    assert_string_equal(
        message_of(listed("{\"enum\":[", "%u", HP_SCHEMA_VALUES_MAX + 1, "]}")),
        "enum: has more than 1024 values");
    assert_string_equal(message_of(listed("{\"$defs\":{", "\"d%u\":true",
                                          HP_SCHEMA_DEFS_MAX, "}}")),
                        "");
    assert_string_equal(message_of(listed("{\"$defs\":{", "\"d%u\":true",
                                          HP_SCHEMA_DEFS_MAX + 1, "}}")),
                        "$defs: has more than 256 definitions");
}

/* Many names and many values are all found, and none that is not there. */
static void test_many(void **state)
{
    hp_schema_violation_t violation;
    const hp_schema_t *schema;
    hp_schema_error_t error;
    char *text, value[64];
    unsigned i;

    (void)state;

    text = listed("{\"additionalProperties\":false,\"properties\":{",
                  "\"p%u\":{\"const\":%u}", 256, "}}");
    schema = compile(text, strlen(text), &error);
    assert_non_null(schema);
    free(text);

    for (i = 0; i < 300; i++) {
        snprintf(value, sizeof(value), "{\"p%u\":%u}", i, i + 1);
        assert_int_equal(check(schema, value, &violation),
                         i < 256 ? HP_SCHEMA_OK : HP_SCHEMA_ADDITIONAL);
        snprintf(value, sizeof(value), "{\"\\u0070%u\":%u}", i, i);
        assert_int_equal(check(schema, value, &violation),
                         i < 256 ? HP_SCHEMA_CONST : HP_SCHEMA_ADDITIONAL);
    }

    empty();
    text = listed("{\"enum\":[", "\"v%u\",%u.50", 500, "]}");
    schema = compile(text, strlen(text), &error);
    assert_non_null(schema);
    free(text);

    for (i = 0; i < 600; i++) {
        snprintf(value, sizeof(value), "\"v%u\"", i);
        assert_int_equal(check(schema, value, &violation),
                         i < 500 ? HP_SCHEMA_OK : HP_SCHEMA_ENUM);
        snprintf(value, sizeof(value), "%u5e-1", i + 1);
        assert_int_equal(check(schema, value, &violation),
                         i < 500 ? HP_SCHEMA_OK : HP_SCHEMA_ENUM);
    }

    empty();
}

/* A pointer that does not fit names the nearest value around. */
static void test_pointer_bound(void **state)
{
    char name[HP_SCHEMA_POINTER_MAX + 8], schema_text[1024], value[1024];
    hp_schema_violation_t violation;
    const hp_schema_t *schema;
    hp_schema_error_t error;
    unsigned len;

    (void)state;

    for (len = 250; len < 260; len++) {
        memset(name, 'x', sizeof(name));
        name[len] = '\0';
        snprintf(schema_text, sizeof(schema_text),
                 "{\"properties\":{\"a\":{\"properties\":{\"%s\":{\"type\":"
                 "\"null\"}}}}}",
                 name);
        snprintf(value, sizeof(value), "{\"a\":{\"%s\":1}}", name);
        schema = compile(schema_text, strlen(schema_text), &error);
        assert_non_null(schema);
        assert_int_equal(check(schema, value, &violation), HP_SCHEMA_TYPE);

        /* "/a/" and the name */
        if (len + 3 <= HP_SCHEMA_POINTER_MAX) {
            assert_int_equal(violation.pointer_len, len + 3);
        } else {
            assert_int_equal(violation.pointer_len, 2);
            assert_memory_equal(violation.pointer, "/a", 2);
        }

        empty();
    }

    /* as deep as a schema goes */
    {
        char *text = nested(HP_SCHEMA_DEPTH_MAX, "{\"required\":[\"q\"]}");

        schema = compile(text, strlen(text), &error);
        assert_non_null(schema);
        free(text);
        memset(value, '[', HP_SCHEMA_DEPTH_MAX - 1);
        strcpy(value + HP_SCHEMA_DEPTH_MAX - 1, "{}");
        memset(value + HP_SCHEMA_DEPTH_MAX + 1, ']', HP_SCHEMA_DEPTH_MAX - 1);
        value[2 * HP_SCHEMA_DEPTH_MAX] = '\0';
        assert_int_equal(check(schema, value, &violation), HP_SCHEMA_REQUIRED);
        assert_int_equal(violation.pointer_len,
                         2 * (HP_SCHEMA_DEPTH_MAX - 1) + 2);
        assert_memory_equal(violation.pointer + violation.pointer_len - 4,
                            "/0/q", 4);
        empty();
    }
}

static void test_no_memory(void **state)
{
    const hp_schema_t *schema;
    hp_schema_error_t error;
    size_t left;

    (void)state;

    for (left = 0, schema = NULL; schema == NULL; left++) {
        pool.left = left;
        schema = compile(ORDER, strlen(ORDER), &error);
        assert_true(schema != NULL ||
                    strstr(error.message, "no memory") != NULL);
        empty();
    }

    assert_true(left > 10);
}

/* Every cut of a schema is refused, and one byte changed ends somehow. */
static void test_cut_and_changed(void **state)
{
    static const char bytes[] = "{}[]\",:1xt";

    hp_schema_violation_t violation;
    const hp_schema_t *schema;
    hp_schema_error_t error;
    char text[sizeof(ORDER)];
    size_t i, j;

    (void)state;

    for (i = 0; i < strlen(ORDER); i++) {
        assert_null(compile(ORDER, i, &error));
        empty();

        for (j = 0; j < strlen(bytes); j++) {
            memcpy(text, ORDER, sizeof(ORDER));
            text[i] = bytes[j];
            schema = compile(text, strlen(text), &error);

            if (schema != NULL) {
                (void)check(
                    schema,
                    "{\"id\":\"a\",\"lines\":[{\"sku\":\"b\",\"n\":1}]}",
                    &violation);
            }

            empty();
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checks),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_codes),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_pointer_bound),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_cut_and_changed),
    };

    empty();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
