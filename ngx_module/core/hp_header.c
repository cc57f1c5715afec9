/*
 * hp_header.c: the grammars of the request headers that Hotpath reads.
 *
 * One job: to say yes or no to bytes that a stranger sent, and to cut out what
 * counts. Everything not named in a grammar is refused; nothing is repaired
 * beyond the white space around a value. Owns nothing, allocates nothing, never
 * reads outside the value given; results point into it. Any process, any
 * thread; in nginx it runs for every request, before anything is believed.
 *
 * Who may set X-Forwarded-For is not decided here: the caller walks it only as
 * long as the peer is a proxy it trusts.
 *
 * Contract: hp_header.h. Tests: tests/unit/test_header.c,
 * tests/fuzz/fuzz_header.c.
 */
#include "hp_header.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "hp_char.h"

#define HP_FORWARDED_MAX 64
#define HP_HOST_MAX 255
#define HP_PORT_DIGITS 5

static int is_blank(unsigned char c)
{
    return c == ' ' || c == '\t';
}

static int is_lower_hex(unsigned char c)
{
    return hp_is_digit(c) || (c >= 'a' && c <= 'f');
}

/* Without the white space at both ends. */
static hp_str_t trim(hp_str_t text)
{
    while (text.len != 0 && is_blank(text.data[text.len - 1])) {
        text.len--;
    }

    while (text.len != 0 && is_blank(text.data[0])) {
        text.data++;
        text.len--;
    }

    return text;
}

int hp_key_valid(hp_str_t key)
{
    size_t i;

    if (key.len == 0 || key.len > HP_KEY_MAX || key.data[0] == ' ' ||
        key.data[key.len - 1] == ' ') {
        return 0;
    }

    for (i = 0; i < key.len; i++) {
        if (key.data[i] < 0x20 || key.data[i] > 0x7e) {
            return 0;
        }
    }

    return 1;
}

int hp_key_parse(unsigned char *dst, hp_str_t value)
{
    unsigned char c;
    hp_str_t key;
    size_t i;

    value = trim(value);
    key.data = dst;
    key.len = 0;

    if (value.len == 0) {
        return -1;
    }

    if (value.data[0] != '"') {
        for (i = 0; i < value.len; i++) {
            c = value.data[i];

            if (c == ' ' || c == '"' || c == ',' || c == ';') {
                return -1;
            }

            dst[key.len++] = c;
        }

        return hp_key_valid(key) ? (int)key.len : -1;
    }

    for (i = 1; i < value.len; i++) {
        c = value.data[i];

        if (c == '"') {
            /* parameters, or whatever else follows, are refused */
            return i + 1 == value.len && hp_key_valid(key) ? (int)key.len : -1;
        }

        if (c == '\\') {
            if (++i == value.len) {
                return -1;
            }

            c = value.data[i];

            if (c != '"' && c != '\\') {
                return -1;
            }
        }

        dst[key.len++] = c;
    }

    return -1;
}

/* Whether all of text is a port: 1 to 5 digits. */
static int is_port(const unsigned char *data, size_t len)
{
    uint32_t port;
    size_t i;

    if (len == 0 || len > HP_PORT_DIGITS) {
        return 0;
    }

    port = 0;

    for (i = 0; i < len; i++) {
        if (!hp_is_digit(data[i])) {
            return 0;
        }

        port = port * 10 + (data[i] - '0');
    }

    return port <= 65535;
}

/* The host of host, host:port, [host] or [host]:port. What is none of these
 * stays whole: no address parser will take it. */
static hp_str_t without_port(hp_str_t text)
{
    const unsigned char *mark;
    size_t host;

    if (text.data[0] == '[') {
        mark = memchr(text.data, ']', text.len);

        if (mark == NULL) {
            return text;
        }

        host = (size_t)(mark - text.data);

        if (host + 1 != text.len &&
            (mark[1] != ':' || !is_port(mark + 2, text.len - host - 2))) {
            return text;
        }

        text.data++;
        text.len = host - 1;
        return text;
    }

    mark = memchr(text.data, ':', text.len);

    if (mark != NULL) {
        host = (size_t)(mark - text.data);

        /* a second colon makes it a bare IPv6 address, not a port */
        if (is_port(mark + 1, text.len - host - 1)) {
            text.len = host;
        }
    }

    return text;
}

int hp_forwarded_previous(hp_str_t *rest, hp_str_t *element)
{
    hp_str_t text;
    size_t start;

    text = trim(*rest);

    if (text.len == 0) {
        rest->len = 0;
        return 0;
    }

    start = text.len;

    while (start != 0 && text.data[start - 1] != ',') {
        start--;
    }

    rest->data = text.data;
    rest->len = start == 0 ? 0 : start - 1;

    text.data += start;
    text.len -= start;
    text = trim(text);

    if (text.len == 0 || text.len > HP_FORWARDED_MAX) {
        return -1;
    }

    *element = without_port(text);
    return element->len == 0 ? -1 : 1;
}

static int all_zero(const unsigned char *p, size_t len)
{
    while (len != 0 && *p == '0') {
        p++;
        len--;
    }

    return len == 0;
}

int hp_traceparent_valid(hp_str_t value)
{
    const unsigned char *p;
    size_t i;

    if (value.len < HP_TRACE_LEN) {
        return 0;
    }

    p = value.data;

    for (i = 0; i < HP_TRACE_LEN; i++) {
        if (i == 2 || i == 35 || i == 52) {
            if (p[i] != '-') {
                return 0;
            }

        } else if (!is_lower_hex(p[i])) {
            return 0;
        }
    }

    if (all_zero(p + 3, 32) || all_zero(p + 36, 16)) {
        return 0;
    }

    if (p[0] == 'f' && p[1] == 'f') {
        return 0;
    }

    if (value.len == HP_TRACE_LEN) {
        return 1;
    }

    /* only a later version may have more, and that behind a '-' */
    return !all_zero(p, 2) && p[HP_TRACE_LEN] == '-';
}

static int is_ipv6(const unsigned char *data, size_t len)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;

    if (len >= sizeof(text) || memchr(data, '\0', len) != NULL) {
        return 0;
    }

    memcpy(text, data, len);
    text[len] = '\0';

    return inet_pton(AF_INET6, text, &address) == 1;
}

int hp_host_valid(hp_str_t value)
{
    const unsigned char *mark;
    unsigned char c;
    size_t i;

    if (value.len == 0 || value.len > HP_HOST_MAX) {
        return 0;
    }

    if (value.data[0] == '[') {
        mark = memchr(value.data, ']', value.len);

        if (mark == NULL) {
            return 0;
        }

        i = (size_t)(mark - value.data);

        if (!is_ipv6(value.data + 1, i - 1)) {
            return 0;
        }

        i++;

    } else {
        for (i = 0; i < value.len; i++) {
            c = value.data[i];

            if (!hp_is_digit(c) && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z') &&
                c != '-' && c != '.' && c != '_') {
                break;
            }
        }

        if (i == 0) {
            return 0;
        }
    }

    if (i == value.len) {
        return 1;
    }

    return value.data[i] == ':' &&
           is_port(value.data + i + 1, value.len - i - 1);
}
