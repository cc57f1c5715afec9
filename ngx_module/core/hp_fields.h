/*
 * hp_fields.h: the members of a document that a client asked for.
 *
 * fields=a,b,c gives an object with these direct members only, in the order of
 * the document, their values byte for byte. For the path of a cached answer:
 * one pass, no tree, no allocation, never more bytes than the document has.
 * Unit tests: tests/unit/test_fields.c; fuzzed: tests/fuzz/fuzz_param.c.
 */
#ifndef HP_FIELDS_H
#define HP_FIELDS_H

#include "hp_base.h"

#define HP_FIELDS_MAX 32
#define HP_FIELD_NAME_MAX 64

/* Points into the value it was read from. */
typedef struct {
    unsigned count;
    hp_str_t names[HP_FIELDS_MAX];
} hp_fields_t;

/* Reads a decoded value: names separated by commas, each 1 to HP_FIELD_NAME_MAX
 * bytes of UTF-8 without controls; one that is repeated counts once. 0, or -1
 * where it is anything else or has more than HP_FIELDS_MAX different names. */
int hp_fields_parse(hp_fields_t *fields, hp_str_t value);

/* Writes the selection from a checked object; dst holds at least object.len
 * bytes, or is object.data itself. Names of members are compared with their
 * escapes resolved. Names that the object has not are left out, so the result
 * may be {}; of a name that it has several times all come. Returns the length,
 * at most object.len; 0 where the value is no object. */
size_t hp_fields_write(unsigned char *dst, hp_str_t object,
                       const hp_fields_t *fields);

/* The same for a page of objects: the whole object, with the selection in place
 * of each object in the array that its member list is. */
size_t hp_fields_write_list(unsigned char *dst, hp_str_t object, hp_str_t list,
                            const hp_fields_t *fields);

/* A number that two selections of the same names share, in whatever order they
 * stand, and others, as good as always, do not. */
uint64_t hp_fields_hash(const hp_fields_t *fields);

#endif
