/*
 * hp_pattern_parse.c: a regular expression's text becomes a program.
 *
 * One job, in two steps: the text is parsed into a tree (parse_...), and the
 * tree is written down as a program (emit_...), a counted repetition as often
 * as it counts. The dialect is stated in hp_pattern.h; whatever is not in it
 * is refused by name and never read as something else.
 *
 * Runs at configuration time only, in the process that reads the
 * configuration. Owns nothing, allocates nothing: the tree is on the stack (32
 * KB), the program is the caller's. Bounded in all: nodes, classes, ranges,
 * instructions, groups one inside the other; so is the time, as no step is
 * made that does not fill one of them.
 *
 * Contract: hp_pattern_parse.h. Tests: tests/unit/test_pattern.c,
 * tests/fuzz/fuzz_schema.c.
 */
#include "hp_pattern_parse.h"

#include <stdlib.h>
#include <string.h>

#include "hp_char.h"
#include "hp_pattern.h"
#include "hp_walk.h"

#define NODES_MAX 1024
#define GROUPS_MAX 32 /* one inside the other */
#define UNBOUNDED (HP_PATTERN_REPEAT_MAX + 1)

/* Ends a chain of instructions that are still to learn where to go. */
#define NOWHERE HP_PATTERN_PROGRAM_MAX

typedef enum {
    NODE_CLASS,
    NODE_START,
    NODE_END,
    NODE_LIST,   /* its children one after the other */
    NODE_CHOICE, /* one of its children */
    NODE_REPEAT  /* its child, least to most times */
} node_kind_t;

typedef struct {
    node_kind_t kind;
    int child; /* the first, or -1 */
    int next;  /* the parent's next child, or -1 */
    int class;
    unsigned least;
    unsigned most;
} node_t;

typedef struct {
    const unsigned char *p, *end;
    const char *error;
    unsigned depth;
    node_t nodes[NODES_MAX];
    unsigned node_count;
    hp_pattern_range_t parts[HP_PATTERN_RANGES_MAX]; /* of the class at hand */
    unsigned part_count;
    hp_pattern_program_t *program;
} parser_t;

static int parse_choice(parser_t *parser);

static int refuse(parser_t *parser, const char *error)
{
    if (parser->error == NULL) {
        parser->error = error;
    }

    return -1;
}

static int add_node(parser_t *parser, node_kind_t kind)
{
    node_t *node;

    if (parser->node_count == NODES_MAX) {
        return refuse(parser, "it is too long");
    }

    node = &parser->nodes[parser->node_count];
    memset(node, 0, sizeof(*node));
    node->kind = kind;
    node->child = -1;
    node->next = -1;
    return (int)parser->node_count++;
}

/* Sets of code points */

static int add_part(parser_t *parser, uint32_t low, uint32_t high)
{
    if (parser->part_count == HP_PATTERN_RANGES_MAX) {
        return refuse(parser, "its classes are too long");
    }

    parser->parts[parser->part_count].low = low;
    parser->parts[parser->part_count].high = high;
    parser->part_count++;
    return 0;
}

static int by_low(const void *left, const void *right)
{
    const hp_pattern_range_t *a = left, *b = right;

    return (a->low > b->low) - (a->low < b->low);
}

/* Orders the parts from `from` on, joins those that touch, and where `negate`
 * is set turns them into what is left of all code points. */
static int settle_parts(parser_t *parser, unsigned from, int negate)
{
    unsigned i, kept, count;
    hp_pattern_range_t *parts;
    uint32_t low;

    parts = parser->parts + from;
    count = parser->part_count - from;
    qsort(parts, count, sizeof(*parts), by_low);

    for (i = 0, kept = 0; i < count; i++) {
        if (kept != 0 && parts[i].low <= parts[kept - 1].high + 1) {
            if (parts[i].high > parts[kept - 1].high) {
                parts[kept - 1].high = parts[i].high;
            }
        } else {
            parts[kept++] = parts[i];
        }
    }

    parser->part_count = from + kept;

    if (!negate) {
        return 0;
    }

    /* what stands between them, written over them: never ahead of reading */
    count = kept;
    low = 0;

    for (i = 0, kept = 0; i < count; i++) {
        hp_pattern_range_t part = parts[i];

        if (part.low > low) {
            parts[kept].low = low;
            parts[kept].high = part.low - 1;
            kept++;
        }

        low = part.high + 1;
    }

    parser->part_count = from + kept;
    return low <= HP_PATTERN_CODE_MAX
               ? add_part(parser, low, HP_PATTERN_CODE_MAX)
               : 0;
}

/* The parts that were read become a class, or an equal one that there is. */
static int add_class(parser_t *parser)
{
    hp_pattern_class_t *class;
    unsigned i;
    int node;

    node = add_node(parser, NODE_CLASS);

    if (node < 0) {
        return -1;
    }

    for (i = 0; i < parser->program->class_count; i++) {
        class = &parser->program->classes[i];

        if (class->count == parser->part_count &&
            memcmp(parser->program->ranges + class->first, parser->parts,
                   class->count * sizeof(hp_pattern_range_t)) == 0) {
            parser->nodes[node].class = (int)i;
            return node;
        }
    }

    if (parser->program->class_count == HP_PATTERN_CLASSES_MAX ||
        parser->part_count >
            HP_PATTERN_RANGES_MAX - parser->program->range_count) {
        return refuse(parser, "it has too many different classes");
    }

    class = &parser->program->classes[parser->program->class_count];
    class->first = parser->program->range_count;
    class->count = parser->part_count;
    memcpy(parser->program->ranges + class->first, parser->parts,
           class->count * sizeof(hp_pattern_range_t));
    parser->program->range_count += class->count;
    parser->nodes[node].class = (int)parser->program->class_count++;
    return node;
}

/* Adds what \d, \w, \s or their opposites stand for; 1 where c is none. */
static int add_shorthand(parser_t *parser, unsigned char c)
{
    static const hp_pattern_range_t digit[] = {{'0', '9'}};
    static const hp_pattern_range_t word[] = {
        {'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
    static const hp_pattern_range_t space[] = {
        {'\t', '\r'},     {' ', ' '},       {0xa0, 0xa0},     {0x1680, 0x1680},
        {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f},
        {0x3000, 0x3000}, {0xfeff, 0xfeff}};

    const hp_pattern_range_t *set;
    unsigned i, count, from;

    switch (c | 0x20) {
    case 'd':
        set = digit;
        count = sizeof(digit) / sizeof(digit[0]);
        break;
    case 'w':
        set = word;
        count = sizeof(word) / sizeof(word[0]);
        break;
    case 's':
        set = space;
        count = sizeof(space) / sizeof(space[0]);
        break;
    default:
        return 1;
    }

    from = parser->part_count;

    for (i = 0; i < count; i++) {
        if (add_part(parser, set[i].low, set[i].high) != 0) {
            return -1;
        }
    }

    return settle_parts(parser, from, (c & 0x20) == 0);
}

/* Parsing */

static int at(const parser_t *parser, char c)
{
    return parser->p < parser->end && *parser->p == (unsigned char)c;
}

static int take(parser_t *parser, char c)
{
    if (!at(parser, c)) {
        return 0;
    }

    parser->p++;
    return 1;
}

static int32_t parse_hex(parser_t *parser, unsigned digits)
{
    int32_t code;
    int value;

    for (code = 0; digits != 0; digits--) {
        value = parser->p < parser->end ? hp_hex_value(*parser->p) : -1;

        if (value < 0) {
            return refuse(parser, "an escape lacks hexadecimal digits");
        }

        code = code * 16 + value;
        parser->p++;
    }

    return code;
}

/* What stands behind \u. */
static int32_t parse_unicode(parser_t *parser)
{
    int32_t code, low;

    if (take(parser, '{')) {
        code = 0;

        do {
            low = parse_hex(parser, 1);

            if (low < 0) {
                return -1;
            }

            code = code * 16 + low;

            if (code > HP_PATTERN_CODE_MAX) {
                return refuse(parser, "\\u{...} is no code point");
            }
        } while (!take(parser, '}'));

    } else {
        code = parse_hex(parser, 4);

        if (code >= 0xd800 && code <= 0xdbff && parser->end - parser->p > 1 &&
            parser->p[0] == '\\' && parser->p[1] == 'u') {
            parser->p += 2;
            low = parse_hex(parser, 4);

            if (low < 0xdc00 || low > 0xdfff) {
                return refuse(parser, "an escape is half a surrogate pair");
            }

            code = 0x10000 + ((code & 0x3ff) << 10) + (low & 0x3ff);
        }
    }

    if (code >= 0xd800 && code <= 0xdfff) {
        return refuse(parser, "an escape is half a surrogate pair");
    }

    return code;
}

/* The one character that an escape stands for; p is behind the backslash, and
 * it is no shorthand. */
static int32_t parse_escape(parser_t *parser, int in_class)
{
    static const char controls[] = "tnvfr";
    static const char values[] = "\t\n\v\f\r";

    const char *control;
    unsigned char c;

    if (parser->p == parser->end) {
        return refuse(parser, "it ends with a backslash");
    }

    c = *parser->p++;

    if (c == 'x') {
        return parse_hex(parser, 2);
    }

    if (c == 'u') {
        return parse_unicode(parser);
    }

    if (c == 'b' && in_class) {
        return '\b';
    }

    control = c == '\0' ? NULL : strchr(controls, c);

    if (control != NULL) {
        return values[control - controls];
    }

    if (c != '\0' &&
        (strchr("^$\\.*+?()[]{}|/", c) != NULL || (c == '-' && in_class))) {
        return c;
    }

    return refuse(parser, "an escape is not supported");
}

/* The character at p, as it stands. */
static int32_t parse_plain(parser_t *parser)
{
    unsigned len;

    len = hp_utf8_length(parser->p, parser->end);

    if (len == 0) {
        return refuse(parser, "it is not UTF-8");
    }

    if (len == 1) {
        return *parser->p++;
    }

    return (int32_t)hp_walk_char(&parser->p, parser->end);
}

/* One side of a range in a class. 1: *code; 0: a shorthand, added; or -1. */
static int parse_member(parser_t *parser, int32_t *code)
{
    int rc;

    if (parser->p == parser->end) {
        return refuse(parser, "a class is not closed");
    }

    if (!take(parser, '\\')) {
        *code = parse_plain(parser);
        return *code < 0 ? -1 : 1;
    }

    if (parser->p < parser->end) {
        rc = add_shorthand(parser, *parser->p);

        if (rc <= 0) {
            parser->p++;
            return rc;
        }
    }

    *code = parse_escape(parser, 1);
    return *code < 0 ? -1 : 1;
}

/* p is behind the '['. */
static int parse_class(parser_t *parser)
{
    int32_t low, high;
    int negate, rc;

    parser->part_count = 0;
    negate = take(parser, '^');

    while (!take(parser, ']')) {
        rc = parse_member(parser, &low);

        if (rc < 0) {
            return -1;
        }

        high = low;

        if (parser->end - parser->p > 1 && parser->p[0] == '-' &&
            parser->p[1] != ']') {
            parser->p++;

            /* neither side may be a shorthand */
            if (rc == 0 || parse_member(parser, &high) != 1 || high < low) {
                return refuse(parser, "a range in a class is no range");
            }
        }

        if (rc == 1 && add_part(parser, (uint32_t)low, (uint32_t)high) != 0) {
            return -1;
        }
    }

    return settle_parts(parser, 0, negate) == 0 ? add_class(parser) : -1;
}

/* p is behind the '('. */
static int parse_group(parser_t *parser)
{
    int node;

    if (take(parser, '?') && !take(parser, ':')) {
        return refuse(parser, "only groups (...) and (?:...) are supported");
    }

    if (parser->depth == GROUPS_MAX) {
        return refuse(parser, "its groups are nested too deeply");
    }

    parser->depth++;
    node = parse_choice(parser);
    parser->depth--;

    if (node >= 0 && !take(parser, ')')) {
        return refuse(parser, "a group is not closed");
    }

    return node;
}

static int parse_character(parser_t *parser)
{
    int32_t code;
    int rc;

    parser->part_count = 0;

    if (take(parser, '.')) {
        if (add_part(parser, '\n', '\n') != 0 ||
            add_part(parser, '\r', '\r') != 0 ||
            add_part(parser, 0x2028, 0x2029) != 0 ||
            settle_parts(parser, 0, 1) != 0) {
            return -1;
        }

        return add_class(parser);
    }

    if (take(parser, '\\')) {
        if (parser->p < parser->end) {
            rc = add_shorthand(parser, *parser->p);

            if (rc <= 0) {
                parser->p++;
                return rc == 0 ? add_class(parser) : -1;
            }
        }

        code = parse_escape(parser, 0);

    } else if (strchr("*+?{}])", *parser->p) != NULL) {
        return refuse(parser, "a character with a meaning stands where it has "
                              "none; write a backslash before it");
    } else {
        code = parse_plain(parser);
    }

    if (code < 0 || add_part(parser, (uint32_t)code, (uint32_t)code) != 0) {
        return -1;
    }

    return add_class(parser);
}

/* The digits at p; UNBOUNDED, and refused, where there are none or too many. */
static unsigned parse_count(parser_t *parser)
{
    unsigned count;

    if (parser->p == parser->end || !hp_is_digit(*parser->p)) {
        (void)refuse(parser, "a repetition {...} is no {n}, {n,} or {n,m}");
        return UNBOUNDED;
    }

    for (count = 0; parser->p < parser->end && hp_is_digit(*parser->p);
         parser->p++) {
        count = count * 10 + (*parser->p - '0');

        if (count > HP_PATTERN_REPEAT_MAX) {
            (void)refuse(parser, "a repetition is more than 1000");
            return UNBOUNDED;
        }
    }

    return count;
}

/* What may stand behind an atom. */
static int parse_repeat(parser_t *parser, int atom)
{
    unsigned least, most;
    int node;

    least = 0;
    most = UNBOUNDED;

    if (take(parser, '?')) {
        most = 1;
    } else if (take(parser, '+')) {
        least = 1;
    } else if (take(parser, '{')) {
        least = parse_count(parser);
        most = least;

        if (parser->error == NULL && take(parser, ',')) {
            most = at(parser, '}') ? UNBOUNDED : parse_count(parser);
        }

        if (parser->error != NULL || !take(parser, '}') || most < least) {
            return refuse(parser,
                          "a repetition {...} is no {n}, {n,} or {n,m}");
        }
    } else if (!take(parser, '*')) {
        return atom;
    }

    /* to prefer fewer changes what is found, not whether something is */
    (void)take(parser, '?');

    node = add_node(parser, NODE_REPEAT);

    if (node >= 0) {
        parser->nodes[node].child = atom;
        parser->nodes[node].least = least;
        parser->nodes[node].most = most;
    }

    return node;
}

static int parse_list(parser_t *parser)
{
    int list, node, last;

    list = add_node(parser, NODE_LIST);
    last = -1;

    while (list >= 0 && parser->p < parser->end && !at(parser, '|') &&
           !at(parser, ')')) {
        if (take(parser, '^')) {
            node = add_node(parser, NODE_START);
        } else if (take(parser, '$')) {
            node = add_node(parser, NODE_END);
        } else {
            node = take(parser, '(')   ? parse_group(parser)
                   : take(parser, '[') ? parse_class(parser)
                                       : parse_character(parser);
            node = node < 0 ? -1 : parse_repeat(parser, node);
        }

        if (node < 0) {
            return -1;
        }

        if (last < 0) {
            parser->nodes[list].child = node;
        } else {
            parser->nodes[last].next = node;
        }

        last = node;
    }

    return list;
}

static int parse_choice(parser_t *parser)
{
    int choice, node, last;

    choice = add_node(parser, NODE_CHOICE);
    last = -1;

    do {
        node = choice < 0 ? -1 : parse_list(parser);

        if (node < 0) {
            return -1;
        }

        if (last < 0) {
            parser->nodes[choice].child = node;
        } else {
            parser->nodes[last].next = node;
        }

        last = node;
    } while (take(parser, '|'));

    return choice;
}

/* The program. Whatever is emitted goes on with what is emitted next. */

static unsigned emit_one(parser_t *parser, hp_pattern_op_t op, unsigned a,
                         unsigned b)
{
    if (parser->program->length == HP_PATTERN_PROGRAM_MAX) {
        (void)refuse(parser, "it is too complex");
        return 0; /* nobody runs this program */
    }

    parser->program->code[parser->program->length].op = op;
    parser->program->code[parser->program->length].a = a;
    parser->program->code[parser->program->length].b = b;
    return parser->program->length++;
}

static void emit(parser_t *parser, int number);

static void emit_choice(parser_t *parser, int child)
{
    unsigned split, jump, chain;

    /* the jumps to the end, each naming the one before it until then */
    chain = NOWHERE;

    for (/* void */; parser->nodes[child].next >= 0;
         child = parser->nodes[child].next) {
        split =
            emit_one(parser, HP_PATTERN_SPLIT, parser->program->length + 1, 0);
        emit(parser, child);
        chain = emit_one(parser, HP_PATTERN_JUMP, chain, 0);
        parser->program->code[split].b = parser->program->length;
    }

    emit(parser, child);

    while (parser->error == NULL && chain != NOWHERE) {
        jump = chain;
        chain = parser->program->code[jump].a;
        parser->program->code[jump].a = parser->program->length;
    }
}

static void emit_repeat(parser_t *parser, const node_t *node)
{
    unsigned i, split, chain, start;

    for (i = 0; i < node->least && parser->error == NULL; i++) {
        start = parser->program->length;
        emit(parser, node->child);

        if (parser->program->length == start) {
            return; /* of nothing, any number is nothing */
        }
    }

    if (node->most == UNBOUNDED) {
        split =
            emit_one(parser, HP_PATTERN_SPLIT, parser->program->length + 1, 0);
        emit(parser, node->child);
        (void)emit_one(parser, HP_PATTERN_JUMP, split, 0);
        parser->program->code[split].b = parser->program->length;
        return;
    }

    chain = NOWHERE;

    for (/* void */; i < node->most && parser->error == NULL; i++) {
        chain = emit_one(parser, HP_PATTERN_SPLIT, parser->program->length + 1,
                         chain);
        emit(parser, node->child);
    }

    while (parser->error == NULL && chain != NOWHERE) {
        split = chain;
        chain = parser->program->code[split].b;
        parser->program->code[split].b = parser->program->length;
    }
}

static void emit(parser_t *parser, int number)
{
    const node_t *node;
    int child;

    if (parser->error != NULL) {
        return;
    }

    node = &parser->nodes[number];

    switch (node->kind) {
    case NODE_CLASS:
        (void)emit_one(parser, HP_PATTERN_CLASS, (unsigned)node->class, 0);
        break;
    case NODE_START:
        (void)emit_one(parser, HP_PATTERN_START, 0, 0);
        break;
    case NODE_END:
        (void)emit_one(parser, HP_PATTERN_END, 0, 0);
        break;
    case NODE_LIST:
        for (child = node->child; child >= 0;
             child = parser->nodes[child].next) {
            emit(parser, child);
        }
        break;
    case NODE_CHOICE:
        emit_choice(parser, node->child);
        break;
    case NODE_REPEAT:
        emit_repeat(parser, node);
        break;
    }
}

int hp_pattern_parse(hp_str_t text, hp_pattern_program_t *program,
                     const char **error)
{
    parser_t parser;
    int root;

    memset(&parser, 0, sizeof(parser));
    memset(program, 0, sizeof(*program));
    parser.p = text.data;
    parser.end = text.len == 0 ? text.data : text.data + text.len;
    parser.program = program;
    root = parse_choice(&parser);

    if (root >= 0 && parser.p != parser.end) {
        root = refuse(&parser, "a ) closes no group");
    }

    if (root >= 0) {
        emit(&parser, root);
        (void)emit_one(&parser, HP_PATTERN_MATCH, 0, 0);
    }

    *error = parser.error;
    return parser.error == NULL ? 0 : -1;
}
