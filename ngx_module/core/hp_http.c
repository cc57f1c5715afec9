/*
 * hp_http.c: what header values mean to a cache.
 *
 * One job: RFC 9110, 9111, 9211 and 7240 as far as a cache in front of a
 * service needs them, on bytes that strangers sent. Nothing here decides what
 * is done: it reads and writes values, nginx and the rooms act on them. Owns
 * nothing, allocates nothing, keeps no state; any process, any thread; on the
 * path of every cached answer, so one pass over each value and no second.
 *
 * Lists are read element by element through next_element(), which goes on at
 * the next comma after whatever it did not understand. A quotation mark that
 * is never closed hides nothing: a no-store behind it is still seen.
 *
 * Contract: hp_http.h. Tests: tests/unit/test_http.c, tests/fuzz/fuzz_http.c.
 */
#include "hp_http.h"

#include <string.h>

#include "hp_char.h"
#include "hp_date.h"

/* tchar of RFC 9110 section 5.6.2 */
static const unsigned char token_char[256] = {
    ['!'] = 1,         ['#' ... '\''] = 1, ['*' ... '+'] = 1,
    ['-' ... '.'] = 1, ['0' ... '9'] = 1,  ['A' ... 'Z'] = 1,
    ['^' ... 'z'] = 1, ['|'] = 1,          ['~'] = 1,
};

/* One element of a list: name, name=value or name="value". */
typedef struct {
    hp_str_t name;
    hp_str_t value; /* of a quoted one what is inside, backslashes and all */
    unsigned has_value : 1;
    unsigned bad : 1; /* something followed that the grammar does not have */
} element_t;

typedef struct {
    unsigned char *start;
    unsigned char *p;
    unsigned char *end;
    int full;
} writer_t;

static inline const unsigned char *skip_blank(const unsigned char *p,
                                              const unsigned char *end)
{
    while (p < end && (*p == ' ' || *p == '\t')) {
        p++;
    }

    return p;
}

static inline const unsigned char *skip_token(const unsigned char *p,
                                              const unsigned char *end)
{
    while (p < end && token_char[*p]) {
        p++;
    }

    return p;
}

static inline const unsigned char *skip_to_comma(const unsigned char *p,
                                                 const unsigned char *end)
{
    while (p < end && *p != ',') {
        p++;
    }

    return p;
}

/* Over the commas and the white space before an element: empty ones count for
 * nothing (RFC 9110 section 5.6.1.2). */
static inline const unsigned char *skip_empty(const unsigned char *p,
                                              const unsigned char *end)
{
    while (p < end && (*p == ',' || *p == ' ' || *p == '\t')) {
        p++;
    }

    return p;
}

static hp_str_t between(const unsigned char *start, const unsigned char *end)
{
    hp_str_t text;

    text.data = start;
    text.len = (size_t)(end - start);
    return text;
}

static int is(hp_str_t text, const char *name)
{
    unsigned char c;
    size_t i;

    for (i = 0; i < text.len; i++) {
        c = text.data[i];

        if (c >= 'A' && c <= 'Z') {
            c |= 0x20;
        }

        /* also where name ends here: c is a character of a token, never 0 */
        if (c != (unsigned char)name[i]) {
            return 0;
        }
    }

    return name[i] == '\0';
}

/* ---- validators ---- */

/* The end of the entity tag at p, or NULL; *opaque is without the W/. */
static const unsigned char *
read_etag(const unsigned char *p, const unsigned char *end, hp_str_t *opaque)
{
    const unsigned char *start;

    if (end - p >= 2 && p[0] == 'W' && p[1] == '/') {
        p += 2;
    }

    if (p == end || *p != '"') {
        return NULL;
    }

    start = p++;

    while (p < end && *p != '"') {
        if (*p <= ' ' || *p == 0x7f) {
            return NULL;
        }

        p++;
    }

    if (p == end) {
        return NULL;
    }

    *opaque = between(start, ++p);
    return p;
}

/* strong: a weak tag is no tag that can match. */
static int names_etag(hp_str_t value, hp_str_t etag, int strong)
{
    const unsigned char *p, *end, *start;
    hp_str_t own, tag;
    int found;

    if (value.len == 0) {
        return 0;
    }

    p = value.data;
    end = p + value.len;
    found = 0;
    own.data = NULL;
    own.len = 0;

    if (etag.len != 0 && !(strong && etag.data[0] == 'W') &&
        read_etag(etag.data, etag.data + etag.len, &own) == NULL) {
        own.len = 0;
    }

    p = skip_empty(p, end);

    if (p < end && *p == '*') {
        /* alone: "*" is no member of a list */
        return skip_blank(p + 1, end) == end &&
               skip_blank(value.data, end) == p;
    }

    while (p < end) {
        start = p;
        p = read_etag(p, end, &tag);

        if (p == NULL) {
            return 0;
        }

        found |= !(strong && *start == 'W') && own.len == tag.len &&
                 memcmp(own.data, tag.data, tag.len) == 0;
        p = skip_blank(p, end);

        if (p < end && *p != ',') {
            return 0;
        }

        p = skip_empty(p, end);
    }

    return found;
}

int hp_none_match(hp_str_t value, hp_str_t etag)
{
    return names_etag(value, etag, 0);
}

int hp_match(hp_str_t value, hp_str_t etag)
{
    return names_etag(value, etag, 1);
}

int hp_not_modified(const hp_str_t *none_match, const hp_str_t *modified_since,
                    hp_str_t etag, int64_t modified_s, int64_t now_s)
{
    int64_t since_s;

    if (none_match != NULL) {
        return hp_none_match(*none_match, etag);
    }

    return modified_since != NULL && modified_s != HP_NO_TIME &&
           hp_http_date_parse(&since_s, *modified_since, now_s) == 0 &&
           modified_s <= since_s;
}

/* ---- lists of name[=value] ---- */

/* The end of the quoted string at p, or NULL; *inside is without the quotes. */
static const unsigned char *
read_quoted(const unsigned char *p, const unsigned char *end, hp_str_t *inside)
{
    const unsigned char *start;

    start = ++p;

    while (p < end && *p != '"') {
        p += *p == '\\' && end - p > 1 ? 2 : 1;
    }

    if (p == end) {
        return NULL;
    }

    *inside = between(start, p);
    return p + 1;
}

/* "=" and a word at p, if they are there; blanks: white space may stand around
 * the sign. Always gives how far it came. */
static const unsigned char *read_value(const unsigned char *p,
                                       const unsigned char *end, int blanks,
                                       element_t *element)
{
    const unsigned char *sign, *after;

    sign = blanks ? skip_blank(p, end) : p;

    if (sign == end || *sign != '=') {
        return p;
    }

    p = blanks ? skip_blank(sign + 1, end) : sign + 1;
    element->has_value = 1;

    if (p < end && *p == '"') {
        after = read_quoted(p, end, &element->value);
    } else {
        after = skip_token(p, end);
        element->value = between(p, after);
        after = after == p ? NULL : after;
    }

    if (after == NULL) {
        element->bad = 1;
        element->value.len = 0;
        return p;
    }

    return after;
}

/* 1 with the next element that begins with a token, 0 at the end. parameters:
 * the grammar of Prefer, where white space may stand around "=" and parameters
 * follow; they are read over. */
static int next_element(hp_str_t *rest, int parameters, element_t *element)
{
    const unsigned char *p, *end, *start;
    element_t parameter;

    if (rest->len == 0) {
        return 0;
    }

    p = rest->data;
    end = p + rest->len;
    memset(element, 0, sizeof(*element));

    for (;;) {
        start = skip_empty(p, end);
        p = skip_token(start, end);

        if (p != start) {
            break;
        }

        if (p == end) {
            rest->len = 0;
            return 0;
        }

        p = skip_to_comma(p, end);
    }

    element->name = between(start, p);
    p = read_value(p, end, parameters, element);
    p = skip_blank(p, end);

    while (parameters && !element->bad && p < end && *p == ';') {
        start = skip_blank(p + 1, end);
        p = skip_token(start, end);

        if (p != start) {
            memset(&parameter, 0, sizeof(parameter));
            p = read_value(p, end, 1, &parameter);
            element->bad |= parameter.bad;
        }

        p = skip_blank(p, end);
    }

    if (p < end && *p != ',') {
        element->bad = 1;
        p = skip_to_comma(p, end);
    }

    *rest = between(p, end);
    return 1;
}

/* delta-seconds, or -1 where it is none. */
static int64_t seconds(const element_t *element)
{
    const unsigned char *p, *end;
    int64_t value;

    if (element->bad || !element->has_value || element->value.len == 0) {
        return -1;
    }

    p = element->value.data;
    end = p + element->value.len;
    value = 0;

    while (p < end) {
        /* only inside quotes: a token has no backslash; never the last one */
        p += *p == '\\';

        if (!hp_is_digit(*p)) {
            return -1;
        }

        value = value * 10 + (*p++ - '0');

        if (value > HP_SECONDS_MAX) {
            value = HP_SECONDS_MAX;
        }
    }

    return value;
}

/* ---- Cache-Control ---- */

/* Of the same directive the first counts; `otherwise` where it is no number. */
static void set_seconds(int64_t *field, const element_t *element,
                        int64_t otherwise)
{
    if (*field < 0) {
        *field = seconds(element);

        if (*field < 0) {
            *field = otherwise;
        }
    }
}

void hp_request_control(hp_request_control_t *control, hp_str_t value)
{
    element_t element;

    memset(control, 0, sizeof(*control));
    control->max_age_s = -1;
    control->max_stale_s = -1;
    control->min_fresh_s = -1;

    while (next_element(&value, 0, &element)) {
        if (is(element.name, "no-cache")) {
            control->no_cache = 1;
        } else if (is(element.name, "max-age")) {
            set_seconds(&control->max_age_s, &element, 0);
        } else if (is(element.name, "no-store")) {
            control->no_store = 1;
        } else if (is(element.name, "only-if-cached")) {
            control->only_if_cached = 1;
        } else if (is(element.name, "no-transform")) {
            control->no_transform = 1;
        } else if (is(element.name, "min-fresh")) {
            set_seconds(&control->min_fresh_s, &element, -1);
        } else if (is(element.name, "max-stale")) {
            set_seconds(&control->max_stale_s, &element,
                        element.has_value || element.bad ? -1 : HP_SECONDS_MAX);
        }
    }
}

void hp_response_control(hp_response_control_t *control, hp_str_t value)
{
    element_t element;

    memset(control, 0, sizeof(*control));
    control->max_age_s = -1;
    control->s_maxage_s = -1;
    control->stale_while_revalidate_s = -1;
    control->stale_if_error_s = -1;

    while (next_element(&value, 0, &element)) {
        if (is(element.name, "max-age")) {
            set_seconds(&control->max_age_s, &element, 0);
        } else if (is(element.name, "public")) {
            /* the one that allows: only as it is written */
            control->is_public |= !element.bad && !element.has_value;
        } else if (is(element.name, "private")) {
            control->is_private = 1;
        } else if (is(element.name, "no-store")) {
            control->no_store = 1;
        } else if (is(element.name, "no-cache")) {
            control->no_cache = 1;
        } else if (is(element.name, "s-maxage")) {
            set_seconds(&control->s_maxage_s, &element, 0);
        } else if (is(element.name, "must-revalidate")) {
            control->must_revalidate = 1;
        } else if (is(element.name, "proxy-revalidate")) {
            control->proxy_revalidate = 1;
        } else if (is(element.name, "no-transform")) {
            control->no_transform = 1;
        } else if (is(element.name, "stale-while-revalidate")) {
            set_seconds(&control->stale_while_revalidate_s, &element, 0);
        } else if (is(element.name, "stale-if-error")) {
            set_seconds(&control->stale_if_error_s, &element, 0);
        }
    }
}

int hp_shared_storable(const hp_response_control_t *control, int authorized)
{
    if (control->no_store || control->is_private) {
        return 0;
    }

    return !authorized || control->is_public || control->must_revalidate ||
           control->s_maxage_s >= 0;
}

int64_t hp_shared_lifetime_s(const hp_response_control_t *control)
{
    return control->s_maxage_s >= 0 ? control->s_maxage_s : control->max_age_s;
}

int hp_stale_allowed(const hp_response_control_t *control)
{
    return !control->no_cache && !control->must_revalidate &&
           !control->proxy_revalidate && control->s_maxage_s < 0;
}

/* ---- writers ---- */

static void writer_begin(writer_t *writer, unsigned char *dst, size_t size)
{
    writer->start = dst;
    writer->p = dst;
    writer->end = dst + size;
    writer->full = 0;
}

static void put(writer_t *writer, const void *data, size_t len)
{
    if ((size_t)(writer->end - writer->p) < len) {
        writer->full = 1;
    }

    if (!writer->full && len != 0) {
        memcpy(writer->p, data, len);
        writer->p += len;
    }
}

static void put_text(writer_t *writer, const char *text)
{
    put(writer, text, strlen(text));
}

static void put_number(writer_t *writer, int64_t value)
{
    char digits[20], *p;
    uint64_t left;

    p = digits + sizeof(digits);
    left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

    do {
        *--p = (char)('0' + left % 10);
        left /= 10;
    } while (left != 0);

    if (value < 0) {
        *--p = '-';
    }

    put(writer, p, (size_t)(digits + sizeof(digits) - p));
}

static void put_directive(writer_t *writer, int set, const char *name)
{
    if (set) {
        put_text(writer, writer->p == writer->start ? "" : ", ");
        put_text(writer, name);
    }
}

/* name ends in "=" */
static void put_seconds(writer_t *writer, const char *name, int64_t value)
{
    if (value >= 0) {
        put_directive(writer, 1, name);
        put_number(writer, value > HP_SECONDS_MAX ? HP_SECONDS_MAX : value);
    }
}

size_t hp_cache_control_write(unsigned char *dst, size_t size,
                              const hp_response_control_t *control)
{
    writer_t writer;

    writer_begin(&writer, dst, size);
    put_directive(&writer, control->is_public, "public");
    put_directive(&writer, control->is_private, "private");
    put_directive(&writer, control->no_store, "no-store");
    put_directive(&writer, control->no_cache, "no-cache");
    put_seconds(&writer, "max-age=", control->max_age_s);
    put_seconds(&writer, "s-maxage=", control->s_maxage_s);
    put_directive(&writer, control->must_revalidate, "must-revalidate");
    put_directive(&writer, control->proxy_revalidate, "proxy-revalidate");
    put_directive(&writer, control->no_transform, "no-transform");
    put_seconds(&writer,
                "stale-while-revalidate=", control->stale_while_revalidate_s);
    put_seconds(&writer, "stale-if-error=", control->stale_if_error_s);

    return writer.full ? 0 : (size_t)(writer.p - dst);
}

/* A token of RFC 8941 section 3.3.4. */
static int is_token(hp_str_t text)
{
    unsigned char c;
    size_t i;

    c = text.data[0];

    if (c != '*' && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z')) {
        return 0;
    }

    for (i = 1; i < text.len; i++) {
        c = text.data[i];

        if (!token_char[c] && c != ':' && c != '/') {
            return 0;
        }
    }

    return 1;
}

static void put_string(writer_t *writer, hp_str_t text)
{
    unsigned char piece[3], c;
    size_t i, len;

    put_text(writer, "\"");

    for (i = 0; i < text.len && !writer->full; i++) {
        c = text.data[i];
        len = 1;
        piece[0] = c;

        if (c == '"' || c == '\\') {
            piece[0] = '\\';
            piece[1] = c;
            len = 2;

        } else if (c < 0x20 || c > 0x7e) {
            piece[0] = '%';
            piece[1] = hp_hex_digit(c >> 4);
            piece[2] = hp_hex_digit(c);
            len = 3;
        }

        put(writer, piece, len);
    }

    put_text(writer, "\"");
}

static void put_item(writer_t *writer, hp_str_t text)
{
    if (is_token(text)) {
        put(writer, text.data, text.len);
    } else {
        put_string(writer, text);
    }
}

/* What was written since `p` stays only where all of it fitted. */
static unsigned char *commit(writer_t *writer, unsigned char *p)
{
    if (writer->full) {
        writer->p = p;
    }

    return writer->p;
}

static void put_forward(writer_t *writer, const hp_cache_status_t *status,
                        unsigned char **done)
{
    static const char *const names[] = {
        "",     "bypass",  "method", "uri-miss", "vary-miss",
        "miss", "request", "stale",  "partial",
    };

    if (status->fwd > HP_FWD_NONE && status->fwd <= HP_FWD_PARTIAL) {
        put_text(writer, "; fwd=");
        put_text(writer, names[status->fwd]);
        *done = commit(writer, *done);
    }

    if (status->fwd_status >= 100 && status->fwd_status <= 999) {
        put_text(writer, "; fwd-status=");
        put_number(writer, status->fwd_status);
        *done = commit(writer, *done);
    }

    if (status->stored) {
        put_text(writer, "; stored");
        *done = commit(writer, *done);
    }

    if (status->collapsed) {
        put_text(writer, "; collapsed");
        *done = commit(writer, *done);
    }
}

size_t hp_cache_status_write(unsigned char *dst, size_t size,
                             const hp_cache_status_t *status)
{
    static const int64_t limit = 999999999999999; /* RFC 8941 section 3.3.1 */

    unsigned char *done;
    writer_t writer;

    if (status->cache.len == 0) {
        return 0;
    }

    writer_begin(&writer, dst, size);
    put_item(&writer, status->cache);
    done = commit(&writer, dst);

    if (status->hit) {
        put_text(&writer, "; hit");
        done = commit(&writer, done);
    } else {
        put_forward(&writer, status, &done);
    }

    if (status->has_ttl) {
        put_text(&writer, "; ttl=");
        put_number(&writer, status->ttl_s > limit    ? limit
                            : status->ttl_s < -limit ? -limit
                                                     : status->ttl_s);
        done = commit(&writer, done);
    }

    if (status->key.len != 0) {
        put_text(&writer, "; key=");
        put_string(&writer, status->key);
        done = commit(&writer, done);
    }

    if (status->detail.len != 0) {
        put_text(&writer, "; detail=");
        put_item(&writer, status->detail);
        done = commit(&writer, done);
    }

    return (size_t)(done - dst);
}

/* ---- Accept-Encoding ---- */

/* A qvalue in thousandths at *p, which moves behind it; -1 where it is none. */
static int read_weight(const unsigned char **p, const unsigned char *end)
{
    const unsigned char *q;
    int value, scale;

    q = *p;

    if (q == end || (*q != '0' && *q != '1')) {
        return -1;
    }

    value = (*q++ - '0') * 1000;

    if (q < end && *q == '.') {
        q++;

        for (scale = 100; scale != 0 && q < end && hp_is_digit(*q);
             scale /= 10) {
            value += (*q++ - '0') * scale;
        }
    }

    *p = q;
    return value > 1000 ? -1 : value;
}

/* The element at p; -1 in *weight where it does not count. */
static const unsigned char *read_coding(const unsigned char *p,
                                        const unsigned char *end,
                                        hp_str_t *name, int *weight)
{
    const unsigned char *start;

    start = p;
    p = skip_token(p, end);
    *name = between(start, p);
    *weight = name->len == 0 ? -1 : 1000;
    p = skip_blank(p, end);

    if (p < end && *p == ';') {
        p = skip_blank(p + 1, end);

        if (end - p >= 2 && (p[0] | 0x20) == 'q' && p[1] == '=') {
            p += 2;
            *weight = *weight < 0 ? -1 : read_weight(&p, end);
            p = skip_blank(p, end);

        } else {
            *weight = -1;
        }
    }

    if (p < end && *p != ',') {
        *weight = -1;
        p = skip_to_comma(p, end);
    }

    return p;
}

unsigned hp_coding_choose(const hp_str_t *accept, unsigned available)
{
    enum { IDENTITY, GZIP, BR, CODINGS, ANY = CODINGS, NAMES, UNKNOWN = NAMES };

    const unsigned char *p, *end;
    int weight, weights[NAMES], best;
    unsigned i, choice;
    hp_str_t name;

    for (i = 0; i < NAMES; i++) {
        weights[i] = -1;
    }

    if (accept == NULL) {
        /* anything goes: first what costs the client nothing */
        return available &
               (HP_CODING_IDENTITY | HP_CODING_GZIP | HP_CODING_BR) &
               (0u - available);
    }

    p = accept->len == 0 ? (const unsigned char *)"" : accept->data;
    end = p + accept->len;

    for (p = skip_empty(p, end); p < end; p = skip_empty(p, end)) {
        p = read_coding(p, end, &name, &weight);

        i = is(name, "gzip") || is(name, "x-gzip") ? GZIP
            : is(name, "br")                       ? BR
            : is(name, "identity")                 ? IDENTITY
            : is(name, "*")                        ? ANY
                                                   : UNKNOWN;

        if (weight >= 0 && i != UNKNOWN && weights[i] < 0) {
            weights[i] = weight;
        }
    }

    choice = 0;
    best = 0;

    for (i = BR; i > IDENTITY; i--) {
        weight = weights[i] < 0 ? weights[ANY] : weights[i];

        if ((available & 1u << i) && weight > best) {
            best = weight;
            choice = 1u << i;
        }
    }

    if (!(available & HP_CODING_IDENTITY)) {
        return choice;
    }

    weight = weights[IDENTITY] < 0 ? weights[ANY] : weights[IDENTITY];

    /* neither named nor refused: acceptable, but not asked for */
    return weight > best || (weight < 0 && choice == 0) ? HP_CODING_IDENTITY
                                                        : choice;
}

/* ---- Vary, Prefer ---- */

int hp_vary_next(hp_str_t *rest, hp_str_t *name)
{
    const unsigned char *p, *end, *start;

    if (rest->len == 0) {
        return 0;
    }

    end = rest->data + rest->len;
    start = skip_empty(rest->data, end);

    if (start == end) {
        rest->len = 0;
        return 0;
    }

    p = skip_token(start, end);
    *name = between(start, p);
    p = skip_blank(p, end);

    if (name->len == 0 || (p < end && *p != ',')) {
        *rest = between(skip_to_comma(p, end), end);
        return -1;
    }

    *rest = between(p, end);
    return 1;
}

void hp_prefer(hp_prefer_t *prefer, hp_str_t value)
{
    element_t element;
    int waited;

    memset(prefer, 0, sizeof(*prefer));
    prefer->wait_s = -1;
    waited = 0;

    while (next_element(&value, 1, &element)) {
        if (element.bad) {
            continue;
        }

        if (is(element.name, "wait")) {
            if (!waited) {
                prefer->wait_s = seconds(&element);
                waited = 1;
            }

        } else if (element.value.len != 0) {
            /* these two have none, and an empty one is none */
            continue;

        } else if (is(element.name, "respond-async")) {
            prefer->respond_async = !prefer->respond_sync;
        } else if (is(element.name, "respond-sync")) {
            prefer->respond_sync = !prefer->respond_async;
        }
    }
}
