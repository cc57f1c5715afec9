/*
 * hp_schema_compile.h: from the text of a JSON Schema to what hp_schema.h
 * checks by.
 *
 * Keywords, of draft 2020-12, and nothing else:
 *
 *   type, enum, const (scalars only)
 *   minimum, maximum, exclusiveMinimum, exclusiveMaximum
 *   minLength, maxLength, pattern (hp_pattern.h says which)
 *   format: date-time, date, uuid
 *   properties, required, additionalProperties (true or false)
 *   minProperties, maxProperties
 *   items (one schema), minItems, maxItems
 *   $ref to "#/$defs/NAME" (no ~, / or % in it), $defs of the root;
 *   true and false as schemas
 *   title, description, $comment, default, examples: no meaning
 *   $schema: that of 2020-12; $id: of the root, no meaning
 *
 * Any other keyword is an error that names it, so is a value that a keyword
 * cannot have. Beside $ref only $defs and what has no meaning may stand; a
 * $ref that leads back to itself is an error. Not for the event loop.
 * Unit tests: tests/unit/test_schema.c.
 */
#ifndef HP_SCHEMA_COMPILE_H
#define HP_SCHEMA_COMPILE_H

#include "hp_schema.h"

#define HP_SCHEMA_MESSAGE_MAX 256
#define HP_SCHEMA_DEFS_MAX 256

typedef struct {
    char message[HP_SCHEMA_MESSAGE_MAX]; /* terminated; names the keyword */
    size_t offset;                       /* in the text */
} hp_schema_error_t;

/* Compiles any text; it may go away afterwards. All memory comes from alloc
 * and belongs to the caller, also what was taken before an error. NULL with
 * *error set where it is refused. */
const hp_schema_t *hp_schema_compile(hp_str_t text, hp_alloc_t alloc,
                                     void *pool, hp_schema_error_t *error);

#endif
