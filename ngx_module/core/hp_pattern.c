/*
 * hp_pattern.c: regular expressions that cost the same for every input.
 *
 * One job: the program of hp_pattern_parse.c becomes a table, and texts are
 * matched by it. The code points are cut into symbols that no part of the
 * pattern tells apart (cut_symbols); the sets of places at which the program
 * may be between two characters become the rows (build). Where a pattern is
 * not anchored, the sets hold its beginning at every character, so that
 * nothing is ever tried again.
 *
 * Compiling runs at configuration time only: it uses scratch memory, which it
 * frees itself; the result is the caller's, from the caller's pool. Matching
 * is pure, allocates nothing and runs in nginx's event loop. Every step is
 * bounded (hp_pattern.h); a pattern beyond that is refused, never cut short.
 * What must never happen: a match that takes longer than its text.
 *
 * Contract: hp_pattern.h. Tests: tests/unit/test_pattern.c (against lists of
 * expected answers, and every limit), tests/fuzz/fuzz_schema.c.
 */
#include "hp_pattern.h"

#include <stdlib.h>
#include <string.h>

#include "hp_char.h"
#include "hp_pattern_parse.h"
#include "hp_walk.h"

#define PROGRAM_MAX HP_PATTERN_PROGRAM_MAX
#define WORDS (PROGRAM_MAX / 64)

/* Rows of the table that need none. */
#define MATCHED 0xffff
#define FAILED 0xfffe

typedef uint64_t set_t[WORDS];

/* All scratch of one compilation. */
typedef struct {
    const char *error;
    hp_pattern_program_t program;

    uint32_t first[HP_PATTERN_SYMBOLS_MAX];
    unsigned symbols;
    unsigned char has[HP_PATTERN_CLASSES_MAX][HP_PATTERN_SYMBOLS_MAX];

    set_t sets[HP_PATTERN_STATES_MAX];
    uint64_t hashes[HP_PATTERN_STATES_MAX];
    unsigned char ending[HP_PATTERN_STATES_MAX];
    unsigned states;
    uint16_t next[HP_PATTERN_STATES_MAX * HP_PATTERN_SYMBOLS_MAX];
    set_t waiting; /* the places at which a character or the end is awaited */
    unsigned stack[2 * PROGRAM_MAX + 1];
} work_t;

static int refuse(work_t *work, const char *error)
{
    if (work->error == NULL) {
        work->error = error;
    }

    return -1;
}

/* Symbols */

static int by_code(const void *left, const void *right)
{
    uint32_t a, b;

    memcpy(&a, left, sizeof(a));
    memcpy(&b, right, sizeof(b));
    return (a > b) - (a < b);
}

/* A new symbol begins wherever a range begins or has just ended. */
static int cut_symbols(work_t *work)
{
    uint32_t cuts[2 * HP_PATTERN_RANGES_MAX + 1];
    unsigned i, count;

    count = 0;
    cuts[count++] = 0;

    for (i = 0; i < work->program.range_count; i++) {
        cuts[count++] = work->program.ranges[i].low;

        if (work->program.ranges[i].high < HP_PATTERN_CODE_MAX) {
            cuts[count++] = work->program.ranges[i].high + 1;
        }
    }

    qsort(cuts, count, sizeof(cuts[0]), by_code);

    for (i = 0; i < count; i++) {
        if (i != 0 && cuts[i] == cuts[i - 1]) {
            continue;
        }

        if (work->symbols == HP_PATTERN_SYMBOLS_MAX) {
            return refuse(work, "it tells too many characters apart");
        }

        work->first[work->symbols++] = cuts[i];
    }

    return 0;
}

static int class_has(const work_t *work, unsigned class, uint32_t code)
{
    const hp_pattern_range_t *range;
    unsigned i;

    range = work->program.ranges + work->program.classes[class].first;

    for (i = 0; i < work->program.classes[class].count; i++, range++) {
        if (code >= range->low && code <= range->high) {
            return 1;
        }
    }

    return 0;
}

static void note_classes(work_t *work)
{
    unsigned index, symbol;

    for (index = 0; index < work->program.class_count; index++) {
        for (symbol = 0; symbol < work->symbols; symbol++) {
            work->has[index][symbol] =
                (unsigned char)class_has(work, index, work->first[symbol]);
        }
    }
}

/* The table */

static int in_set(const uint64_t *set, unsigned pc)
{
    return set[pc / 64] >> (pc % 64) & 1;
}

static void to_set(uint64_t *set, unsigned pc)
{
    set[pc / 64] |= (uint64_t)1 << (pc % 64);
}

/* Adds all places that can be reached from pc without a character: past the
 * start of the text only where `start` is set, past its end only with `end`.
 * 1 if the end of the program is among them. */
static int reach(work_t *work, uint64_t *set, unsigned pc, int start, int end)
{
    const hp_pattern_instruction_t *in;
    unsigned depth;
    int matched;

    matched = 0;
    depth = 0;
    work->stack[depth++] = pc;

    /* every place is looked at once and adds two at most */
    while (depth != 0) {
        pc = work->stack[--depth];

        if (in_set(set, pc)) {
            continue;
        }

        to_set(set, pc);
        in = &work->program.code[pc];

        switch (in->op) {
        case HP_PATTERN_SPLIT:
            work->stack[depth++] = in->b;
            work->stack[depth++] = in->a;
            break;
        case HP_PATTERN_JUMP:
            work->stack[depth++] = in->a;
            break;
        case HP_PATTERN_START:
        case HP_PATTERN_END:
            if (in->op == HP_PATTERN_START ? start : end) {
                work->stack[depth++] = pc + 1;
            }

            break;
        case HP_PATTERN_MATCH:
            matched = 1;
            break;
        case HP_PATTERN_CLASS:
            break;
        }
    }

    return matched;
}

/* Whether a text that ends in this state matches. */
static int ends_here(work_t *work, const uint64_t *set, int start)
{
    unsigned pc;
    set_t more;

    memset(more, 0, sizeof(more));

    for (pc = 0; pc < work->program.length; pc++) {
        if (in_set(set, pc) && work->program.code[pc].op == HP_PATTERN_END &&
            reach(work, more, pc + 1, start, 1)) {
            return 1;
        }
    }

    return 0;
}

/* The state with this set, an old or a new one; -1 where there are too many.
 * State 0 is none of them: only there the text has not begun. */
static int state_of(work_t *work, const uint64_t *set)
{
    uint64_t hash;
    unsigned i;

    for (i = 0, hash = 0; i < WORDS; i++) {
        hash = (hash ^ set[i]) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 29;
    }

    for (i = 1; i < work->states; i++) {
        if (work->hashes[i] == hash &&
            memcmp(work->sets[i], set, sizeof(set_t)) == 0) {
            return (int)i;
        }
    }

    if (work->states == HP_PATTERN_STATES_MAX) {
        return refuse(work, "it is too complex");
    }

    memcpy(work->sets[i], set, sizeof(set_t));
    work->hashes[i] = hash;
    work->ending[i] = (unsigned char)ends_here(work, set, 0);
    return (int)work->states++;
}

/* Where one symbol leads from a state: a state, MATCHED, FAILED, or -1. */
static int step(work_t *work, unsigned state, unsigned symbol)
{
    const hp_pattern_instruction_t *in;
    uint64_t word;
    unsigned i, pc;
    set_t set;

    memset(set, 0, sizeof(set));

    /* behind this symbol the pattern may also begin */
    if (reach(work, set, 0, 0, 0)) {
        return MATCHED;
    }

    for (i = 0; i < WORDS; i++) {
        for (word = work->sets[state][i]; word != 0; word &= word - 1) {
            pc = i * 64 + (unsigned)__builtin_ctzll(word);
            in = &work->program.code[pc];

            if (in->op == HP_PATTERN_CLASS && work->has[in->a][symbol] &&
                reach(work, set, pc + 1, 0, 0)) {
                return MATCHED;
            }
        }
    }

    /* the other places have led on already and tell no two states apart */
    for (i = 0, word = 0; i < WORDS; i++) {
        set[i] &= work->waiting[i];
        word |= set[i];
    }

    return word == 0 ? FAILED : state_of(work, set);
}

static int build(work_t *work, unsigned *always)
{
    unsigned state, symbol, pc;
    int next;

    for (pc = 0; pc < work->program.length; pc++) {
        if (work->program.code[pc].op == HP_PATTERN_CLASS ||
            work->program.code[pc].op == HP_PATTERN_END) {
            to_set(work->waiting, pc);
        }
    }

    *always = (unsigned)reach(work, work->sets[0], 0, 1, 0);
    work->ending[0] = (unsigned char)ends_here(work, work->sets[0], 1);
    work->states = 1;

    for (state = 0; state < work->states; state++) {
        for (symbol = 0; symbol < work->symbols; symbol++) {
            next = step(work, state, symbol);

            if (next < 0) {
                return -1;
            }

            work->next[state * work->symbols + symbol] = (uint16_t)next;
        }
    }

    return 0;
}

/* From scratch memory into the caller's. */
static const void *keep(work_t *work, hp_alloc_t alloc, void *pool,
                        const void *data, size_t size)
{
    void *copy;

    copy = alloc(pool, size);

    if (copy == NULL) {
        (void)refuse(work, "no memory");
        return NULL;
    }

    return memcpy(copy, data, size);
}

static const hp_pattern_t *compile(work_t *work, hp_str_t text,
                                   hp_alloc_t alloc, void *pool)
{
    hp_pattern_t pattern;
    unsigned symbol, byte;

    memset(&pattern, 0, sizeof(pattern));

    if (hp_pattern_parse(text, &work->program, &work->error) != 0 ||
        cut_symbols(work) != 0) {
        return NULL;
    }

    note_classes(work);

    if (build(work, &pattern.always) != 0) {
        return NULL;
    }

    pattern.states = work->states;
    pattern.symbols = work->symbols;

    for (symbol = 0, byte = 0; byte < sizeof(pattern.ascii); byte++) {
        symbol += symbol + 1 < work->symbols && work->first[symbol + 1] <= byte;
        pattern.ascii[byte] = (unsigned char)symbol;
    }

    pattern.first = keep(work, alloc, pool, work->first,
                         work->symbols * sizeof(work->first[0]));
    pattern.next =
        keep(work, alloc, pool, work->next,
             (size_t)work->states * work->symbols * sizeof(work->next[0]));
    pattern.ending = keep(work, alloc, pool, work->ending, work->states);

    return work->error != NULL
               ? NULL
               : keep(work, alloc, pool, &pattern, sizeof(pattern));
}

const hp_pattern_t *hp_pattern_compile(hp_str_t text, hp_alloc_t alloc,
                                       void *pool, const char **error)
{
    const hp_pattern_t *pattern;
    work_t *work;

    *error = NULL;
    work = calloc(1, sizeof(*work));

    if (work == NULL) {
        *error = "no memory";
        return NULL;
    }

    pattern = compile(work, text, alloc, pool);
    *error = work->error;
    free(work);
    return pattern;
}

static unsigned symbol_of(const hp_pattern_t *pattern, uint32_t code)
{
    unsigned low, high, middle;

    if (code < sizeof(pattern->ascii)) {
        return pattern->ascii[code];
    }

    low = 0;
    high = pattern->symbols;

    while (high - low > 1) {
        middle = (low + high) / 2;

        if (pattern->first[middle] <= code) {
            low = middle;
        } else {
            high = middle;
        }
    }

    return low;
}

int hp_pattern_match(const hp_pattern_t *pattern, hp_str_t raw)
{
    const unsigned char *p, *end;
    unsigned state;

    if (pattern->always) {
        return 1;
    }

    p = raw.data;
    end = raw.len == 0 ? p : p + raw.len;
    state = 0;

    while (p < end) {
        state = pattern->next[state * pattern->symbols +
                              symbol_of(pattern, hp_walk_char(&p, end))];

        if (state >= FAILED) {
            return state == MATCHED;
        }
    }

    return pattern->ending[state];
}
