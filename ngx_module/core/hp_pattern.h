/*
 * hp_pattern.h: regular expressions that cost the same for every input.
 *
 * A pattern is compiled once, at configuration time, into a table with one
 * state per row; matching then takes one step per character, whatever pattern
 * and text are. That is why this is no library: a backtracking matcher needs a
 * limit, at which good data would be refused, and a copy of the text without
 * its escapes. Unit tests: tests/unit/test_pattern.c.
 *
 * The dialect is that of ECMA-262 with the u flag (which JSON Schema asks
 * for), less what is no regular language or depends on neighbours:
 *
 *   .  [...]  [^...]  \d \D \w \W \s \S  \t \n \v \f \r  \xHH \uHHHH \u{H...}
 *   (...)  (?:...)  |  ^  $  * + ? {n} {n,} {n,m}  and each with ? behind it
 *
 * Not accepted: back references, look-around, \b \B, \p{...}, named groups,
 * \c and octal escapes. As in ECMA-262 a pattern is searched for anywhere in
 * the text unless it is anchored, $ is only the very end, and \d and \w are
 * ASCII.
 */
#ifndef HP_PATTERN_H
#define HP_PATTERN_H

#include "hp_base.h"

/* A pattern that needs more than this is refused when it is compiled. */
#define HP_PATTERN_STATES_MAX 1024
#define HP_PATTERN_SYMBOLS_MAX 256
#define HP_PATTERN_REPEAT_MAX 1000

/* Memory that lives as long as what is compiled; NULL where there is none. */
typedef void *(*hp_alloc_t)(void *pool, size_t size);

typedef struct {
    unsigned states;
    unsigned symbols;            /* ranges of code points that differ */
    const uint32_t *first;       /* of each symbol; ascending, first[0] is 0 */
    unsigned char ascii[128];    /* symbol of a byte */
    const uint16_t *next;        /* [state * symbols + symbol] */
    const unsigned char *ending; /* [state]: a text may end here */
    unsigned always;             /* even the empty text matches at its start */
} hp_pattern_t;

/* pattern is UTF-8. NULL with *error, a constant text, where it is refused
 * ("no memory" included). Not for the event loop: it takes milliseconds, and
 * memory of its own while it runs. */
const hp_pattern_t *hp_pattern_compile(hp_str_t pattern, hp_alloc_t alloc,
                                       void *pool, const char **error);

/* Whether the inside of a checked JSON string, its escapes resolved, matches.
 * Linear in raw.len, and often done earlier. */
int hp_pattern_match(const hp_pattern_t *pattern, hp_str_t raw);

#endif
