/*
 * fuzz_http.c: libFuzzer target of ngx_module/core/hp_http.c and hp_date.c.
 *
 * The first byte chooses a grammar, the rest is the value. If-None-Match and
 * HTTP-dates against POSIX regular expressions (values with a zero byte must
 * simply not match); Cache-Control against its own writer, which has to say the
 * same again; Accept-Encoding and Prefer against an element put in front, which
 * has to count first; Vary against a split at the commas; Cache-Status must be
 * printable, bounded and never cut inside a parameter.
 *
 * A wrong answer aborts. libFuzzer gives every input in a block of its size, so
 * that AddressSanitizer sees a byte read too far. Run by make -C tests/fuzz.
 */
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hp_date.h"
#include "hp_http.h"

#define MUST(condition)                                                        \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);            \
            abort();                                                           \
        }                                                                      \
    } while (0)

#define NOW 784111777

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

/* prefix and value in a block of their own; the caller frees it. */
static hp_str_t joined(const char *prefix, hp_str_t value)
{
    unsigned char *block;
    hp_str_t text;
    size_t len;

    len = strlen(prefix);
    block = malloc(len + value.len + 1);
    MUST(block != NULL);
    memcpy(block, prefix, len);

    if (value.len != 0) {
        memcpy(block + len, value.data, value.len);
    }

    block[len + value.len] = '\0';
    text.data = block;
    text.len = len + value.len;
    return text;
}

#define TAG "(W/)?\"[!#-~\x80-\xff]*\""
#define GAP "[ \t,]*"

static void check_none_match(hp_str_t value, const char *text)
{
    static const hp_str_t etag = HP_STR("\"v1\"");
    static regex_t list, star, own;
    static int list_ready, star_ready, own_ready;

    int expected;

    expected = strlen(text) == value.len &&
               (matches(&star, &star_ready, "^[ \t]*\\*[ \t]*$", text) ||
                (matches(&list, &list_ready,
                         "^" GAP TAG "([ \t]*," GAP TAG ")*" GAP "$", text) &&
                 matches(&own, &own_ready, "(^|,)[ \t]*(W/)?\"v1\"[ \t]*(,|$)",
                         text)));

    /* a tag may hold what looks like the other to the last expression */
    if (hp_none_match(value, etag) != expected) {
        MUST(expected && strstr(text, ",") != NULL);
    }

    MUST(!hp_match(value, etag) || hp_none_match(value, etag));
}

static void check_date(hp_str_t value, const char *text)
{
    static regex_t form;
    static int ready;

    char again[HP_HTTP_DATE_LEN];
    int64_t unix_s, second;
    hp_str_t written;

    if (hp_http_date_parse(&unix_s, value, NOW) == 0) {
        MUST(strlen(text) == value.len);
        MUST(matches(&form, &ready,
                     "^((Sun|Mon|Tue|Wed|Thu|Fri|Sat), [0-9]{2} [A-Z][a-z]{2} "
                     "[0-9]{4} [0-9:]{8} GMT|[A-Z][a-z]{5,8}, [0-9]{2}-[A-Z]"
                     "[a-z]{2}-[0-9]{2} [0-9:]{8} GMT|[A-Z][a-z]{2} [A-Z]"
                     "[a-z]{2} [ 0-9][0-9] [0-9:]{8} [0-9]{4})$",
                     text));
        MUST(unix_s >= HP_DATE_MIN_S && unix_s <= HP_DATE_MAX_S + 1);

        if (unix_s <= HP_DATE_MAX_S) {
            hp_http_date_format(again, unix_s);
            written.data = (unsigned char *)again;
            written.len = sizeof(again);
            MUST(hp_http_date_parse(&second, written, NOW) == 0);
            MUST(second == unix_s);
        }
    }
}

static int in_range(int64_t seconds)
{
    return seconds >= -1 && seconds <= HP_SECONDS_MAX;
}

static void check_control(hp_str_t value)
{
    hp_response_control_t control, again;
    unsigned char text[HP_CACHE_CONTROL_MAX];
    hp_request_control_t request;
    hp_str_t written;
    size_t len;

    hp_request_control(&request, value);
    MUST(in_range(request.max_age_s) && in_range(request.max_stale_s) &&
         in_range(request.min_fresh_s));

    hp_response_control(&control, value);
    MUST(in_range(control.max_age_s) && in_range(control.s_maxage_s) &&
         in_range(control.stale_while_revalidate_s) &&
         in_range(control.stale_if_error_s));

    len = hp_cache_control_write(text, sizeof(text), &control);
    written.data = text;
    written.len = len;
    hp_response_control(&again, written);
    MUST(memcmp(&control, &again, sizeof(control)) == 0);
    MUST(len == 0 || hp_cache_control_write(text, len - 1, &control) == 0);

    /* whatever stands behind it, what forbids is seen */
    written = joined("no-store,", value);
    hp_response_control(&again, written);
    MUST(again.no_store && !hp_shared_storable(&again, 0));
    MUST(again.max_age_s == control.max_age_s);
    free((void *)written.data);
}

static void check_coding(hp_str_t value)
{
    unsigned available, chosen;
    hp_str_t longer;

    for (available = 0; available < 8; available++) {
        chosen = hp_coding_choose(&value, available);
        MUST((chosen & ~available) == 0 && (chosen & (chosen - 1)) == 0);
    }

    longer = joined("gzip;q=0,br;q=0,identity;q=0,", value);
    MUST(hp_coding_choose(&longer, 7) == 0);
    free((void *)longer.data);

    longer = joined("identity;q=0.001,gzip;q=1,br;q=0.002,", value);
    MUST(hp_coding_choose(&longer, 7) == HP_CODING_GZIP);
    free((void *)longer.data);
}

static void check_lists(hp_str_t value)
{
    size_t commas, seen, i, left;
    hp_str_t rest, name, longer;
    hp_prefer_t prefer;
    int rc;

    for (i = 0, commas = 0; i < value.len; i++) {
        commas += value.data[i] == ',';
    }

    rest = value;
    seen = 0;
    left = value.len + 1;

    while ((rc = hp_vary_next(&rest, &name)) != 0) {
        MUST(rest.len < left);
        left = rest.len;
        seen++;
        MUST(rest.len == 0 || rest.data[0] == ',');
        MUST(rc == -1 || (rc == 1 && name.len != 0));
    }

    MUST(rest.len == 0 && seen <= commas + 1);

    hp_prefer(&prefer, value);
    MUST(in_range(prefer.wait_s));
    MUST(!(prefer.respond_async && prefer.respond_sync));

    longer = joined("wait=7;a=\",\",respond-sync,", value);
    hp_prefer(&prefer, longer);
    MUST(prefer.wait_s == 7 && prefer.respond_sync);
    free((void *)longer.data);
}

static void check_status(hp_str_t value, unsigned char flags)
{
    static const hp_str_t name = HP_STR("hotpath");

    hp_cache_status_t status;
    unsigned char *text;
    size_t size, len, i, quotes;

    memset(&status, 0, sizeof(status));
    status.cache = (flags & 1) && value.len != 0 ? value : name;
    status.key = value;
    status.detail = value;
    status.hit = flags >> 1 & 1;
    status.fwd = (hp_fwd_t)(flags >> 2 & 15);
    status.fwd_status = flags * 8u;
    status.has_ttl = 1;
    status.ttl_s = flags & 64 ? INT64_MIN : -3;

    size = HP_CACHE_STATUS_MAX(3 * value.len + name.len);
    size = flags & 128 ? size / 3 : size;
    text = malloc(size);
    MUST(text != NULL);
    len = hp_cache_status_write(text, size, &status);
    MUST(len <= size);
    MUST((flags & 128) || len > value.len);

    for (i = 0, quotes = 0; i < len; i++) {
        MUST(text[i] >= ' ' && text[i] <= '~');

        if (text[i] == '\\') {
            i++;
        } else {
            quotes += text[i] == '"';
        }
    }

    MUST(quotes % 2 == 0);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char *block;
    hp_str_t value, copy;

    if (size == 0) {
        return 0;
    }

    copy.data = data + 1;
    copy.len = size - 1;
    copy = joined("", copy);

    /* not the terminated copy: the parsers get a block that ends with it */
    block = malloc(size);
    MUST(block != NULL);
    memcpy(block, data + 1, size - 1);
    value.data = block;
    value.len = size - 1;

    switch (data[0] % 6) {
    case 0:
        check_none_match(value, (const char *)copy.data);
        break;
    case 1:
        check_date(value, (const char *)copy.data);
        break;
    case 2:
        check_control(value);
        break;
    case 3:
        check_coding(value);
        break;
    case 4:
        check_lists(value);
        break;
    default:
        check_status(value, value.len != 0 ? value.data[0] : 0);
    }

    free(block);
    free((void *)copy.data);
    return 0;
}
