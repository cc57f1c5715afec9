/*
 * hp_walk.h: goes through JSON that hp_json_check() has accepted.
 *
 * For whoever needs more than the sample envelope out of a text that is known
 * to be good: entries of an array or object one by one, the end of a value,
 * characters with their escapes resolved, strings and numbers compared. No
 * tree, no allocation, constant stack. Results point into the text. On a text
 * that was not checked the answers mean nothing, but nothing is read outside
 * of it and every loop ends. Unit tests: tests/unit/test_walk.c.
 */
#ifndef HP_WALK_H
#define HP_WALK_H

#include "hp_base.h"

/* One array or object while it is gone through. */
typedef struct {
    const unsigned char *pos; /* of the entry's value; at the end: behind it */
    const unsigned char *end;
    hp_str_t name;   /* of a member: raw, without the quotes */
    unsigned object; /* else an array */
    unsigned first;
} hp_walk_t;

/* 1 and ready before the first entry where the byte at pos opens an array or
 * object, else 0. */
int hp_walk_open(hp_walk_t *walk, const unsigned char *pos,
                 const unsigned char *end);

/* 1: pos is the first byte of the next entry's value, and the caller moves it
 * behind that value before the next call; 0: there is none, pos is behind the
 * closing bracket. */
int hp_walk_next(hp_walk_t *walk);

/* The byte behind the value that begins at pos. *spaced, where not NULL, is
 * set to 1 if white space stands between the value's tokens. */
const unsigned char *hp_walk_value(const unsigned char *pos,
                                   const unsigned char *end, unsigned *spaced);

/* The value of a whole text, without the white space around it. */
hp_str_t hp_walk_trim(hp_str_t text);

/* The inside of the string that begins with the quote at pos. */
hp_str_t hp_walk_string(const unsigned char *pos, const unsigned char *end);

/* The code point at *pos of a string's inside, an escape resolved; *pos moves
 * behind it. *pos is less than end. */
uint32_t hp_walk_char(const unsigned char **pos, const unsigned char *end);

/* How many code points a string's inside has. */
size_t hp_walk_length(hp_str_t raw);

/* The order (below, at or above 0) of a string's inside, escapes resolved, and
 * of plain text, by their bytes. */
int hp_walk_compare(hp_str_t raw, hp_str_t text);

/* The order of two numbers, exact whatever their length and exponent. */
int hp_walk_compare_numbers(hp_str_t a, hp_str_t b);

/* Whether a number is an integer in value (1.0 and 1e2 are). */
int hp_walk_is_integer(hp_str_t number);

#endif
