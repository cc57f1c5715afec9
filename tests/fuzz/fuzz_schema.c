/*
 * fuzz_schema.c: libFuzzer target of ngx_module/core/hp_schema.c,
 * hp_schema_compile.c, hp_pattern.c and hp_pattern_parse.c.
 *
 * The first line is the schema, the rest the value. Whatever the schema is, it
 * compiles or is refused with a message inside the text. A value that the
 * strict scanner takes must get the same answer compacted as it was sent, and
 * its pointer must lead to what the offset names, by a second way through the
 * text (hp_json_member()). A value that is no JSON may get any answer, but
 * must not be left.
 *
 * A wrong answer aborts. libFuzzer gives every input in a block of its size, so
 * that AddressSanitizer sees a byte read too far; all memory of a schema is
 * freed after each, so that LeakSanitizer sees what the compiler forgets.
 * Seeds: seeds_event.py. Run by make -C tests/fuzz.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hp_json.h"
#include "hp_schema_compile.h"
#include "hp_walk.h"

#define DEPTH 50

#define MUST(condition)                                                        \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);            \
            abort();                                                           \
        }                                                                      \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct piece_s {
    struct piece_s *next;
} piece_t;

static void *take(void *pool, size_t size)
{
    piece_t *piece, **list = pool;

    piece = malloc(sizeof(*piece) + size);
    MUST(piece != NULL);
    piece->next = *list;
    *list = piece;
    return piece + 1;
}

static void drop_all(piece_t *list)
{
    piece_t *next;

    for (/* void */; list != NULL; list = next) {
        next = list->next;
        free(list);
    }
}

/* Follows one token of a pointer; 1 with *value moved, or 0. */
static int follow(hp_str_t *value, const unsigned char *token, size_t len)
{
    unsigned char name[HP_SCHEMA_POINTER_MAX];
    hp_json_slice_t found;
    hp_walk_t walk;
    hp_str_t wanted;
    int is_string;
    size_t i, n;

    (void)hp_walk_open(&walk, value->data, value->data + value->len);

    for (i = 0, n = 0; i < len; i++) {
        name[n++] = token[i] != '~' ? token[i] : token[++i] == '0' ? '~' : '/';
    }

    wanted.data = name;
    wanted.len = n;

    if (walk.object) {
        if (!hp_json_member(*value, wanted, &found, &is_string)) {
            return 0;
        }

        value->data = found.raw.data - is_string;
        value->len = found.raw.len + (is_string ? 2 : 0);
        return 1;
    }

    for (i = 0, n = 0; i < len; i++) {
        n = n * 10 + (token[i] - '0');
    }

    for (i = 0; hp_walk_next(&walk); i++) {
        value->data = walk.pos;
        walk.pos = hp_walk_value(walk.pos, walk.end, NULL);
        value->len = (size_t)(walk.pos - value->data);

        if (i == n) {
            return 1;
        }
    }

    return 0;
}

/* Whether any name stands twice in one object; jsonb and hp_json_member() take
 * the last, a violation may be in the first. */
static int has_duplicate(hp_str_t value, unsigned depth)
{
    hp_json_slice_t found;
    hp_walk_t walk;
    hp_str_t inside, name;
    unsigned char *text;
    int is_string, duplicate;

    if (depth == 0 ||
        !hp_walk_open(&walk, value.data, value.data + value.len)) {
        return 0;
    }

    for (duplicate = 0; !duplicate && hp_walk_next(&walk);) {
        inside.data = walk.pos;
        walk.pos = hp_walk_value(walk.pos, walk.end, NULL);
        inside.len = (size_t)(walk.pos - inside.data);

        if (walk.object) {
            text = malloc(walk.name.len + 1);
            MUST(text != NULL);
            name.data = text;
            name.len = hp_json_unescape(text, walk.name);
            MUST(hp_json_member(value, name, &found, &is_string));
            duplicate = found.raw.data - is_string != inside.data;
            free(text);
        }

        duplicate = duplicate || has_duplicate(inside, depth - 1);
    }

    return duplicate;
}

static void check_pointer(hp_schema_status_t status, hp_str_t text,
                          const hp_schema_violation_t *violation)
{
    const unsigned char *p, *end, *token;
    hp_str_t value;
    int found;

    value = hp_walk_trim(text);
    p = violation->pointer;
    end = p + violation->pointer_len;
    found = 1;

    while (p < end) {
        MUST(found && *p == '/');

        for (token = ++p; p < end && *p != '/'; p++) {
            /* to the end of the token */
        }

        found = follow(&value, token, (size_t)(p - token));
    }

    if (status == HP_SCHEMA_REQUIRED && !found) {
        MUST(value.data == text.data + violation->offset);
    } else if (violation->pointer_len + 40 < HP_SCHEMA_POINTER_MAX &&
               status != HP_SCHEMA_REQUIRED) {
        MUST(found && value.data == text.data + violation->offset);
    }
}

static void check_value(const hp_schema_t *schema, hp_str_t text)
{
    hp_schema_violation_t first, second;
    hp_schema_status_t status;
    unsigned char *dst;
    hp_str_t compact;
    size_t error;

    memset(&first, 0xa5, sizeof(first));
    status = hp_schema_check(schema, text, &first);
    MUST(strcmp(hp_schema_code(status), "schema_unknown") != 0);
    MUST(status == HP_SCHEMA_OK ||
         (first.offset <= text.len &&
          first.pointer_len <= sizeof(first.pointer)));

    if (hp_json_check(text, DEPTH, &error) != HP_JSON_OK) {
        return;
    }

    dst = malloc(text.len);
    MUST(dst != NULL);
    compact.data = dst;
    compact.len = hp_json_compact(dst, text);
    MUST(hp_schema_check(schema, compact, &second) == status);

    if (status != HP_SCHEMA_OK) {
        MUST(first.pointer_len == second.pointer_len &&
             memcmp(first.pointer, second.pointer, first.pointer_len) == 0);

        if (!has_duplicate(hp_walk_trim(text), DEPTH)) {
            MUST(status != HP_SCHEMA_DUPLICATE);
            check_pointer(status, text, &first);
        }
    }

    free(dst);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const hp_schema_t *schema;
    hp_schema_error_t error;
    const uint8_t *end;
    piece_t *pieces;
    hp_str_t text;

    text.data = data;
    end = size == 0 ? NULL : memchr(data, '\n', size);
    text.len = end == NULL ? size : (size_t)(end - data);
    pieces = NULL;
    schema = hp_schema_compile(text, take, &pieces, &error);

    if (schema == NULL) {
        MUST(error.message[0] != '\0' && error.offset <= text.len);
        MUST(memchr(error.message, '\0', sizeof(error.message)) != NULL);
    } else if (end != NULL) {
        text.data = end + 1;
        text.len = size - (size_t)(end + 1 - data);
        check_value(schema, text);
    }

    drop_all(pieces);
    return 0;
}
