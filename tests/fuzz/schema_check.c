/*
 * schema_check.c: hp_schema.c as a program, for schema_differential.py.
 *
 * One job: reads lines from standard input and answers each with one. A line
 * "S" and a schema sets the schema: "ok" or "refused MESSAGE". A line "V" and
 * a value checks it: "ok" or "CODE OFFSET POINTER". Ends with standard input;
 * 2 where a line is neither or a value is no JSON. Lines may be as long as
 * memory allows; the schema before is freed with the next one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hp_json.h"
#include "hp_schema_compile.h"

typedef struct piece_s {
    struct piece_s *next;
} piece_t;

static void *take(void *pool, size_t size)
{
    piece_t *piece, **list = pool;

    piece = malloc(sizeof(*piece) + size);

    if (piece == NULL) {
        return NULL;
    }

    piece->next = *list;
    *list = piece;
    return piece + 1;
}

static void drop_all(piece_t **list)
{
    piece_t *next;

    while (*list != NULL) {
        next = (*list)->next;
        free(*list);
        *list = next;
    }
}

static int answer_value(const hp_schema_t *schema, hp_str_t text)
{
    hp_schema_violation_t violation;
    hp_schema_status_t status;
    size_t error;

    if (schema == NULL || hp_json_check(text, 100, &error) != HP_JSON_OK) {
        return -1;
    }

    status = hp_schema_check(schema, text, &violation);

    if (status == HP_SCHEMA_OK) {
        puts("ok");
    } else {
        printf("%s %zu %.*s\n", hp_schema_code(status), violation.offset,
               (int)violation.pointer_len, violation.pointer);
    }

    return 0;
}

int main(void)
{
    const hp_schema_t *schema;
    hp_schema_error_t error;
    piece_t *pieces;
    char *line;
    size_t size;
    ssize_t len;
    hp_str_t text;
    int rc;

    schema = NULL;
    pieces = NULL;
    line = NULL;
    size = 0;
    rc = 0;

    while (rc == 0 && (len = getline(&line, &size, stdin)) > 0) {
        len -= line[len - 1] == '\n';
        text.data = (const unsigned char *)line + 1;
        text.len = len == 0 ? 0 : (size_t)len - 1;

        if (line[0] == 'S') {
            drop_all(&pieces);
            schema = hp_schema_compile(text, take, &pieces, &error);

            if (schema == NULL) {
                printf("refused %s\n", error.message);
            } else {
                puts("ok");
            }
        } else {
            rc = line[0] == 'V' ? answer_value(schema, text) : -1;
        }

        fflush(stdout);
    }

    drop_all(&pieces);
    free(line);
    return rc == 0 ? 0 : 2;
}
