/*
 * fuzz_header.c: libFuzzer target of ngx_module/core/hp_header.c.
 *
 * Each grammar against its second form: traceparent and host names against a
 * POSIX regular expression, bracketed hosts against inet_pton(), a parsed
 * Idempotency-Key against the regular expression of the draft's grammar and
 * against itself written as a quoted string, the walk through
 * X-Forwarded-For against a split at the commas from the left. Values with a
 * zero byte, which regular expressions cannot see, must simply be refused.
 *
 * A wrong answer aborts. libFuzzer gives every input in a block of its size, so
 * that AddressSanitizer sees a byte read too far. Seeds: seeds.py. Run by
 * make -C tests/fuzz.
 */
#include <arpa/inet.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hp_header.h"

#define MUST(condition)                                                        \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);            \
            abort();                                                           \
        }                                                                      \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int matches(regex_t *compiled, int *ready, const char *pattern,
                   const char *text)
{
    if (!*ready) {
        MUST(regcomp(compiled, pattern, REG_EXTENDED | REG_NOSUB) == 0);
        *ready = 1;
    }

    return regexec(compiled, text, 0, NULL, 0) == 0;
}

/* The value as the parser has to see it and as the regular expressions do. */
static void check_traceparent(hp_str_t value, const char *text)
{
    static regex_t form, zero;
    static int form_ready, zero_ready;

    int expected;

    expected = matches(&form, &form_ready,
                       "^(00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"
                       "|([1-9a-e][0-9a-f]|0[1-9a-f]|f[0-9a-e])-[0-9a-f]{32}-"
                       "[0-9a-f]{16}-[0-9a-f]{2}(-.*)?)$",
                       text) &&
               !matches(&zero, &zero_ready, "^..-0{32}|^..-.{32}-0{16}", text);

    /* what stands behind the '-' of a later version is not ours to judge */
    if (strlen(text) == value.len) {
        MUST(hp_traceparent_valid(value) == expected);
    } else if (strlen(text) <= HP_TRACE_LEN) {
        MUST(hp_traceparent_valid(value) == 0);
    }
}

static void check_host(hp_str_t value, const char *text)
{
    static regex_t name, bracket;
    static int name_ready, bracket_ready;

    struct in6_addr address;
    char inside[64];
    const char *end, *port;
    int expected;

    if (strlen(text) != value.len) {
        MUST(hp_host_valid(value) == 0);
        return;
    }

    expected =
        matches(&name, &name_ready, "^[0-9A-Za-z._-]+(:[0-9]{1,5})?$", text);
    port = strchr(text, ':');

    if (!expected && matches(&bracket, &bracket_ready,
                             "^\\[[^]]{2,45}\\](:[0-9]{1,5})?$", text)) {
        end = strchr(text, ']');
        snprintf(inside, sizeof(inside), "%.*s", (int)(end - text - 1),
                 text + 1);
        expected = inet_pton(AF_INET6, inside, &address) == 1;
        port = end[1] == ':' ? end + 1 : NULL;
    }

    expected = expected && value.len <= 255 &&
               (port == NULL || strtol(port + 1, NULL, 10) <= 65535);
    MUST(hp_host_valid(value) == expected);
}

/* A string of RFC 8941 with nothing behind it, or the bare form: printable
 * ASCII without space, quotes, commas and semicolons. */
static int key_form(const char *text)
{
    static regex_t quoted, bare;
    static int quoted_ready, bare_ready;

    return matches(&quoted, &quoted_ready,
                   "^[ \t]*\"([]!#-[^-~]|\\\\[\"\\\\])"
                   "(([] !#-[^-~]|\\\\[\"\\\\])*"
                   "([]!#-[^-~]|\\\\[\"\\\\]))?\"[ \t]*$",
                   text) ||
           matches(&bare, &bare_ready, "^[ \t]*[-!#-+.-:<-~]+[ \t]*$", text);
}

static void check_key(hp_str_t value, const char *text)
{
    unsigned char *key, *quoted, *again;
    hp_str_t whole;
    size_t i, len;
    int rc;

    key = malloc(value.len + 1);
    MUST(key != NULL);
    rc = hp_key_parse(key, value);
    MUST(rc == -1 || (rc >= 1 && rc <= HP_KEY_MAX));
    MUST(rc <= (int)value.len);

    if (strlen(text) != value.len) {
        MUST(rc == -1);
    } else if (rc > 0) {
        MUST(key_form(text));
    } else if (value.len <= HP_KEY_MAX) {
        MUST(!key_form(text));
    }

    if (rc > 0) {
        whole.data = key;
        whole.len = (size_t)rc;
        MUST(hp_key_valid(whole));

        quoted = malloc(2 * whole.len + 2);
        again = malloc(2 * whole.len + 2);
        MUST(quoted != NULL && again != NULL);
        len = 0;
        quoted[len++] = '"';

        for (i = 0; i < whole.len; i++) {
            if (key[i] == '"' || key[i] == '\\') {
                quoted[len++] = '\\';
            }

            quoted[len++] = key[i];
        }

        quoted[len++] = '"';
        whole.data = quoted;
        whole.len = len;
        MUST(hp_key_parse(again, whole) == rc);
        MUST(memcmp(again, key, (size_t)rc) == 0);
        free(quoted);
        free(again);
    }

    free(key);
}

static void check_forwarded(hp_str_t value)
{
    hp_str_t rest, element;
    size_t commas, seen, i, left;
    int rc;

    for (i = 0, commas = 0; i < value.len; i++) {
        commas += value.data[i] == ',';
    }

    rest = value;
    seen = 0;
    left = value.len;

    while ((rc = hp_forwarded_previous(&rest, &element)) != 0) {
        MUST(rc == 1 || rc == -1);
        MUST(rest.len < left);
        left = rest.len;
        seen++;

        /* rest ends where the comma before the element stands */
        MUST(rest.len == 0 || rest.data[rest.len] == ',');

        if (rc == 1) {
            MUST(element.len >= 1 && element.len <= 64);
            MUST(element.data >= rest.data + rest.len);
            MUST(element.data + element.len <= value.data + value.len);
            MUST(memchr(element.data, ',', element.len) == NULL);
        }
    }

    MUST(rest.len == 0);
    MUST(seen <= commas + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hp_str_t value;
    char *text;

    text = malloc(size + 1);
    MUST(text != NULL);

    if (size != 0) {
        memcpy(text, data, size);
    }

    text[size] = '\0';
    value.data = data;
    value.len = size;

    check_traceparent(value, text);
    check_host(value, text);
    check_key(value, text);
    check_forwarded(value);
    free(text);
    return 0;
}
