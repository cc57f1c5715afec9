/*
 * hp_pattern_parse.h: a regular expression's text becomes a program.
 *
 * Private to hp_pattern.c: the first half of its work. The program is that of
 * a machine that may be at several places at once; hp_pattern.c turns it into
 * a table. Everything is inside the one structure, nothing is allocated.
 * Unit tests: tests/unit/test_pattern.c.
 */
#ifndef HP_PATTERN_PARSE_H
#define HP_PATTERN_PARSE_H

#include "hp_base.h"

#define HP_PATTERN_PROGRAM_MAX 2048
#define HP_PATTERN_CLASSES_MAX 256
#define HP_PATTERN_RANGES_MAX 1024 /* of all classes together */
#define HP_PATTERN_CODE_MAX 0x10ffff

typedef enum {
    HP_PATTERN_CLASS, /* one character of class a */
    HP_PATTERN_SPLIT, /* go on at a and at b */
    HP_PATTERN_JUMP,  /* go on at a */
    HP_PATTERN_START, /* only at the start of the text */
    HP_PATTERN_END,   /* only at its end */
    HP_PATTERN_MATCH  /* done; the last instruction, and only that */
} hp_pattern_op_t;

typedef struct {
    hp_pattern_op_t op;
    unsigned a;
    unsigned b;
} hp_pattern_instruction_t;

typedef struct {
    uint32_t low, high; /* code points, both included */
} hp_pattern_range_t;

typedef struct {
    unsigned first, count; /* in ranges[]; ascending, no two touch */
} hp_pattern_class_t;

typedef struct {
    hp_pattern_instruction_t code[HP_PATTERN_PROGRAM_MAX];
    unsigned length;
    hp_pattern_class_t classes[HP_PATTERN_CLASSES_MAX];
    unsigned class_count;
    hp_pattern_range_t ranges[HP_PATTERN_RANGES_MAX];
    unsigned range_count;
} hp_pattern_program_t;

/* 0 with the program, or -1 with *error, a constant text. */
int hp_pattern_parse(hp_str_t text, hp_pattern_program_t *program,
                     const char **error);

#endif
