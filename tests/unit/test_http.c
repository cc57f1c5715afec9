/*
 * test_http.c: unit tests of ngx_module/core/hp_http.c.
 *
 * Each field by a list of values and what they have to mean, taken from the
 * examples and rules of RFC 9110, 9111, 9211, 5861 and 7240; every value also
 * cut at every length, in a block of exactly that size, so that a read behind
 * its end is seen by AddressSanitizer. The writers into buffers of every size
 * up to what is needed.
 *
 * One process, no files; tests/unit/Makefile.
 */
#include "support.h"

#include "hp_http.h"

#define NOW 784111777 /* Sun, 06 Nov 1994 08:49:37 GMT */
#define DATE "Sun, 06 Nov 1994 08:49:37 GMT"

/* ---- validators ---- */

static int none_match(const char *value, size_t len, const char *etag)
{
    hp_str_t copy, own;
    int rc;

    copy = exact(value, len);
    own = exact_text(etag);
    rc = hp_none_match(copy, own);
    drop(&copy);
    drop(&own);
    assert_in_range(rc, 0, 1);
    return rc;
}

static void test_none_match(void **state)
{
    static const struct {
        const char *value;
        const char *etag;
        int matches;
    } cases[] = {
        {"\"xyzzy\"", "\"xyzzy\"", 1},
        {"\"xyzzy\", \"r2d2xxxx\", \"c3piozzzz\"", "\"c3piozzzz\"", 1},
        {"\"xyzzy\",\"r2d2xxxx\"\t,\"c3piozzzz\"", "\"r2d2xxxx\"", 1},
        {"*", "\"xyzzy\"", 1},
        {" * \t", "\"xyzzy\"", 1},
        {"*", "", 1},
        {"W/\"xyzzy\"", "\"xyzzy\"", 1},
        {"\"xyzzy\"", "W/\"xyzzy\"", 1},
        {"W/\"xyzzy\"", "W/\"xyzzy\"", 1},
        {"W/\"xyzzy\", W/\"r2d2xxxx\"", "\"r2d2xxxx\"", 1},
        {"\"\"", "\"\"", 1},
        {"\"a,b\"", "\"a,b\"", 1},
        {"\"a,\", \"b\"", "\"b\"", 1},
        {"\"a\\\"", "\"a\\\"", 1}, /* a backslash escapes nothing here */
        {"\"\xe4\xff\"", "\"\xe4\xff\"", 1},
        {",, \"a\" ,,", "\"a\"", 1},
        {"\"W/\"", "\"W/\"", 1},

        {"", "\"a\"", 0},
        {" , ", "\"a\"", 0},
        {"\"xyzzY\"", "\"xyzzy\"", 0},
        {"\"xyzz\"", "\"xyzzy\"", 0},
        {"\"xyzzy\"", "", 0},
        {"\"a,b\"", "\"a\"", 0},
        {"\"a,b\"", "\"b\"", 0},
        {"\"x\", \"W/\"", "W/\"\"", 0},
        /* not of the grammar, so nothing matches */
        {"xyzzy", "\"xyzzy\"", 0},
        {"\"xyzzy", "\"xyzzy\"", 0},
        {"xyzzy\"", "\"xyzzy\"", 0},
        {"\"xyzzy\" \"a\"", "\"xyzzy\"", 0},
        {"\"xyzzy\", a", "\"xyzzy\"", 0},
        {"\"xyzzy\"; q=1", "\"xyzzy\"", 0},
        {"\"xyzzy\", *", "\"xyzzy\"", 0},
        {"*, \"xyzzy\"", "\"xyzzy\"", 0},
        {"**", "\"xyzzy\"", 0},
        {"\"*\"", "\"xyzzy\"", 0},
        {",*", "\"xyzzy\"", 0},
        {"w/\"xyzzy\"", "\"xyzzy\"", 0},
        {"W\"xyzzy\"", "\"xyzzy\"", 0},
        {"W/ \"xyzzy\"", "\"xyzzy\"", 0},
        {"W/xyzzy", "\"xyzzy\"", 0},
        {"W/", "\"xyzzy\"", 0},
        {"\"a b\"", "\"a b\"", 0},
        {"\"a\tb\"", "\"a\tb\"", 0},
        {"\"a\x7f\"", "\"a\x7f\"", 0},
        {"\"a\"", "a", 0}, /* an entity tag of ours that is none */
        {"\"\"", "\"", 0},
    };

    size_t i, len;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        if (none_match(cases[i].value, strlen(cases[i].value), cases[i].etag) !=
            cases[i].matches) {
            fail_msg("%s with %s", cases[i].value, cases[i].etag);
        }

        for (len = 0; len < strlen(cases[i].value); len++) {
            (void)none_match(cases[i].value, len, cases[i].etag);
        }
    }

    /* a cut tag is not the tag, whatever its beginning is */
    for (len = 0; len < 7; len++) {
        assert_int_equal(none_match("\"xyzzy\"", len, "\"xyzzy\""), 0);
    }

    assert_int_equal(none_match("\"a\0b\"", 5, "\"a\0b\""), 0);
}

/* If-Match: what is weak on either side is no match. */
static void test_match(void **state)
{
    static const struct {
        const char *value;
        const char *etag;
        int matches;
    } cases[] = {
        {"\"a\"", "\"a\"", 1},
        {"\"b\", \"a\"", "\"a\"", 1},
        {"W/\"a\", \"a\"", "\"a\"", 1},
        {"\"W\"", "\"W\"", 1},
        {"*", "\"a\"", 1},
        {"*", "W/\"a\"", 1},
        {"W/\"a\"", "\"a\"", 0},
        {"\"a\"", "W/\"a\"", 0},
        {"W/\"a\"", "W/\"a\"", 0},
        {"\"a\"", "\"b\"", 0},
        {"\"a\"", "", 0},
        {"\"a\", a", "\"a\"", 0},
        {"", "\"a\"", 0},
    };

    hp_str_t value, etag;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        value = exact_text(cases[i].value);
        etag = exact_text(cases[i].etag);

        if (hp_match(value, etag) != cases[i].matches) {
            fail_msg("%s with %s", cases[i].value, cases[i].etag);
        }

        drop(&value);
        drop(&etag);
    }
}

static void test_not_modified(void **state)
{
    static const struct {
        const char *none_match;
        const char *since;
        int64_t modified_s;
        int expected;
    } cases[] = {
        {NULL, NULL, NOW, 0},
        {NULL, DATE, NOW, 1},
        {NULL, DATE, NOW - 1, 1},
        {NULL, DATE, NOW + 1, 0},
        {NULL, "Sunday, 06-Nov-94 08:49:37 GMT", NOW, 1},
        {NULL, "Sun Nov  6 08:49:37 1994", NOW, 1},
        {NULL, DATE, HP_NO_TIME, 0},
        {NULL, "yesterday", NOW, 0},
        {NULL, "", NOW, 0},
        {NULL, DATE ", " DATE, NOW, 0},
        {"\"v1\"", NULL, NOW, 1},
        {"\"v2\"", NULL, NOW, 0},
        {"\"v1\"", "Thu, 01 Jan 1970 00:00:00 GMT", NOW, 1},
        {"\"v2\"", DATE, NOW, 0},
        {"", DATE, NOW, 0},
        {"v1", DATE, NOW, 0},
        {"*", DATE, HP_NO_TIME, 1},
    };

    hp_str_t etag, none, since;
    size_t i;

    (void)state;
    etag = exact_text("\"v1\"");

    for (i = 0; i < COUNT_OF(cases); i++) {
        none = exact_text(cases[i].none_match ? cases[i].none_match : "");
        since = exact_text(cases[i].since ? cases[i].since : "");
        assert_int_equal(hp_not_modified(cases[i].none_match ? &none : NULL,
                                         cases[i].since ? &since : NULL, etag,
                                         cases[i].modified_s, NOW),
                         cases[i].expected);
        drop(&none);
        drop(&since);
    }

    drop(&etag);
}

/* ---- Cache-Control ---- */

enum {
    NO_CACHE = 0x01,
    NO_STORE = 0x02,
    ONLY_IF_CACHED = 0x04,
    NO_TRANSFORM = 0x08,
    PUBLIC = 0x10,
    PRIVATE = 0x20,
    MUST_REVALIDATE = 0x40,
    PROXY_REVALIDATE = 0x80,
};

static void test_request_control(void **state)
{
    static const struct {
        const char *value;
        int flags;
        int64_t max_age_s, max_stale_s, min_fresh_s;
    } cases[] = {
        {"", 0, -1, -1, -1},
        {" , ,", 0, -1, -1, -1},
        {"no-cache", NO_CACHE, -1, -1, -1},
        {"NO-CACHE,No-Store", NO_CACHE | NO_STORE, -1, -1, -1},
        {"only-if-cached", ONLY_IF_CACHED, -1, -1, -1},
        {"no-transform", NO_TRANSFORM, -1, -1, -1},
        {"max-age=0", 0, 0, -1, -1},
        {"max-age=60, max-stale=30, min-fresh=10", 0, 60, 30, 10},
        {"max-age=\"60\"", 0, 60, -1, -1},
        {"max-age=\"6\\0\"", 0, 60, -1, -1},
        {"max-stale", 0, -1, HP_SECONDS_MAX, -1},
        {"max-stale=", 0, -1, -1, -1},
        {"max-stale=x", 0, -1, -1, -1},
        {"max-stale=5, max-stale", 0, -1, 5, -1},
        {"min-fresh", 0, -1, -1, -1},
        {"min-fresh=-1", 0, -1, -1, -1},
        {"max-age", 0, 0, -1, -1},
        {"max-age=", 0, 0, -1, -1},
        {"max-age=1.5", 0, 0, -1, -1},
        {"max-age=-5", 0, 0, -1, -1},
        {"max-age = 5", 0, 0, -1, -1},
        {"max-age=5 5", 0, 0, -1, -1},
        {"max-age=\"\"", 0, 0, -1, -1},
        {"max-age=5, max-age=7", 0, 5, -1, -1},
        {"max-age=x, max-age=7", 0, 0, -1, -1},
        {"max-age=2147483647", 0, 2147483647, -1, -1},
        {"max-age=2147483648", 0, HP_SECONDS_MAX, -1, -1},
        {"max-age=2147483649", 0, HP_SECONDS_MAX, -1, -1},
        {"max-age=99999999999999999999999999", 0, HP_SECONDS_MAX, -1, -1},
        {"max-age=000000000000000000000000007", 0, 7, -1, -1},
        {"no-cachex, xno-cache, no_cache, max-agex=1", 0, -1, -1, -1},
        {"community=\"no-store, no-cache\", max-age=3", 0, 3, -1, -1},
        {"a=\"\\\"no-store, \", max-age=3", 0, 3, -1, -1},
        {"a=\"x, no-store", NO_STORE, -1, -1, -1},
        {"no-store foo, no-cache=1", NO_STORE | NO_CACHE, -1, -1, -1},
        {"@@, no-cache", NO_CACHE, -1, -1, -1},
        {"\"no-store\"", 0, -1, -1, -1},
        {"no-store;no-cache", NO_STORE, -1, -1, -1},
        {"\xff\xfe,no-cache", NO_CACHE, -1, -1, -1},
    };

    hp_request_control_t control;
    hp_str_t copy;
    size_t i, len;
    int flags;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        for (len = 0; len < strlen(cases[i].value); len++) {
            copy = exact(cases[i].value, len);
            hp_request_control(&control, copy);
            drop(&copy);
        }

        copy = exact_text(cases[i].value);
        hp_request_control(&control, copy);
        drop(&copy);
        flags = (control.no_cache ? NO_CACHE : 0) |
                (control.no_store ? NO_STORE : 0) |
                (control.only_if_cached ? ONLY_IF_CACHED : 0) |
                (control.no_transform ? NO_TRANSFORM : 0);

        if (flags != cases[i].flags ||
            control.max_age_s != cases[i].max_age_s ||
            control.max_stale_s != cases[i].max_stale_s ||
            control.min_fresh_s != cases[i].min_fresh_s) {
            fail_msg("%s: %x %lld %lld %lld", cases[i].value, (unsigned)flags,
                     (long long)control.max_age_s,
                     (long long)control.max_stale_s,
                     (long long)control.min_fresh_s);
        }
    }
}

static int response_flags(const hp_response_control_t *control)
{
    return (control->is_public ? PUBLIC : 0) |
           (control->is_private ? PRIVATE : 0) |
           (control->no_store ? NO_STORE : 0) |
           (control->no_cache ? NO_CACHE : 0) |
           (control->no_transform ? NO_TRANSFORM : 0) |
           (control->must_revalidate ? MUST_REVALIDATE : 0) |
           (control->proxy_revalidate ? PROXY_REVALIDATE : 0);
}

/* What is written has to say the same, and no smaller buffer may get a part of
 * it. */
static void check_written(const hp_response_control_t *control)
{
    unsigned char text[HP_CACHE_CONTROL_MAX];
    hp_response_control_t again;
    hp_str_t written, small;
    size_t size, len;

    len = hp_cache_control_write(text, sizeof(text), control);
    written = exact(text, len);
    hp_response_control(&again, written);
    assert_int_equal(response_flags(&again), response_flags(control));
    assert_true(again.max_age_s == control->max_age_s);
    assert_true(again.s_maxage_s == control->s_maxage_s);
    assert_true(again.stale_while_revalidate_s ==
                control->stale_while_revalidate_s);
    assert_true(again.stale_if_error_s == control->stale_if_error_s);

    for (size = 0; size < len; size++) {
        small = exact(text, size);
        assert_int_equal(
            hp_cache_control_write((unsigned char *)small.data, size, control),
            0);
        drop(&small);
    }

    drop(&written);
}

static void test_response_control(void **state)
{
    static const struct {
        const char *value;
        int flags;
        int64_t max_age_s, s_maxage_s, while_s, error_s;
        int storable, storable_authorized, stale;
        int64_t lifetime_s;
    } cases[] = {
        {"", 0, -1, -1, -1, -1, 1, 0, 1, -1},
        {"max-age=60", 0, 60, -1, -1, -1, 1, 0, 1, 60},
        {"public, max-age=60", PUBLIC, 60, -1, -1, -1, 1, 1, 1, 60},
        {"max-age=60, s-maxage=5", 0, 60, 5, -1, -1, 1, 1, 0, 5},
        {"s-maxage=0, max-age=60", 0, 60, 0, -1, -1, 1, 1, 0, 0},
        {"private, max-age=60", PRIVATE, 60, -1, -1, -1, 0, 0, 1, 60},
        {"private=\"x-user, x-b\"", PRIVATE, -1, -1, -1, -1, 0, 0, 1, -1},
        {"no-store", NO_STORE, -1, -1, -1, -1, 0, 0, 1, -1},
        {"no-cache=\"set-cookie\"", NO_CACHE, -1, -1, -1, -1, 1, 0, 0, -1},
        {"must-revalidate", MUST_REVALIDATE, -1, -1, -1, -1, 1, 1, 0, -1},
        {"proxy-revalidate", PROXY_REVALIDATE, -1, -1, -1, -1, 1, 0, 0, -1},
        {"no-transform", NO_TRANSFORM, -1, -1, -1, -1, 1, 0, 1, -1},
        {"max-age=600, stale-while-revalidate=30, stale-if-error=1200", 0, 600,
         -1, 30, 1200, 1, 0, 1, 600},
        {"stale-while-revalidate, stale-if-error=x", 0, -1, -1, 0, 0, 1, 0, 1,
         -1},
        {"max-age=99999999999, s-maxage=2147483648", 0, HP_SECONDS_MAX,
         HP_SECONDS_MAX, -1, -1, 1, 1, 0, HP_SECONDS_MAX},
        {"max-age=tomorrow", 0, 0, -1, -1, -1, 1, 0, 1, 0},
        {"MAX-AGE=5,Max-Age=6", 0, 5, -1, -1, -1, 1, 0, 1, 5},
        {"public max-age=60", 0, -1, -1, -1, -1, 1, 0, 1, -1},
        {"public=1", 0, -1, -1, -1, -1, 1, 0, 1, -1},
        {"no-store max-age=60", NO_STORE, -1, -1, -1, -1, 0, 0, 1, -1},
        {"private;max-age=60", PRIVATE, -1, -1, -1, -1, 0, 0, 1, -1},
        {"x=\"public, no-store\", max-age=1", 0, 1, -1, -1, -1, 1, 0, 1, 1},
        {"x=\"public, no-store", NO_STORE, -1, -1, -1, -1, 0, 0, 1, -1},
        {"immutable, must-understand, max-age=1", 0, 1, -1, -1, -1, 1, 0, 1, 1},
    };

    hp_response_control_t control;
    hp_str_t copy;
    size_t i, len;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        for (len = 0; len < strlen(cases[i].value); len++) {
            copy = exact(cases[i].value, len);
            hp_response_control(&control, copy);
            drop(&copy);
        }

        copy = exact_text(cases[i].value);
        hp_response_control(&control, copy);
        drop(&copy);

        if (response_flags(&control) != cases[i].flags ||
            control.max_age_s != cases[i].max_age_s ||
            control.s_maxage_s != cases[i].s_maxage_s ||
            control.stale_while_revalidate_s != cases[i].while_s ||
            control.stale_if_error_s != cases[i].error_s ||
            hp_shared_storable(&control, 0) != cases[i].storable ||
            hp_shared_storable(&control, 1) != cases[i].storable_authorized ||
            hp_stale_allowed(&control) != cases[i].stale ||
            hp_shared_lifetime_s(&control) != cases[i].lifetime_s) {
            fail_msg("%s", cases[i].value);
        }

        check_written(&control);
    }
}

static void test_cache_control_write(void **state)
{
    static const char longest[] =
        "public, private, no-store, no-cache, max-age=2147483648, "
        "s-maxage=2147483648, must-revalidate, proxy-revalidate, "
        "no-transform, stale-while-revalidate=2147483648, "
        "stale-if-error=2147483648";

    hp_response_control_t control;
    unsigned char text[HP_CACHE_CONTROL_MAX];
    size_t len;

    (void)state;
    memset(&control, 0, sizeof(control));
    control.max_age_s = 30;
    control.s_maxage_s = -1;
    control.stale_while_revalidate_s = 60;
    control.stale_if_error_s = -7;
    len = hp_cache_control_write(text, sizeof(text), &control);
    assert_same((hp_str_t){text, len},
                text_of("max-age=30, stale-while-revalidate=60"));

    control.max_age_s = INT64_MAX;
    control.s_maxage_s = INT64_MAX;
    control.stale_while_revalidate_s = INT64_MAX;
    control.stale_if_error_s = INT64_MAX;
    control.is_public = control.is_private = control.no_store = 1;
    control.no_cache = control.no_transform = 1;
    control.must_revalidate = control.proxy_revalidate = 1;
    len = hp_cache_control_write(text, sizeof(text), &control);
    assert_same((hp_str_t){text, len}, text_of(longest));
    assert_true(sizeof(longest) - 1 <= HP_CACHE_CONTROL_MAX);
}

/* ---- Cache-Status ---- */

static void test_cache_status(void **state)
{
    static const struct {
        hp_cache_status_t status;
        const char *text;
    } cases[] = {
        {{.cache = HP_STR("hotpath"), .hit = 1}, "hotpath; hit"},
        {{.cache = HP_STR("hotpath"), .hit = 1, .has_ttl = 1, .ttl_s = 376},
         "hotpath; hit; ttl=376"},
        {{.cache = HP_STR("hotpath"), .hit = 1, .has_ttl = 1, .ttl_s = -412},
         "hotpath; hit; ttl=-412"},
        /* hit and fwd exclude each other */
        {{.cache = HP_STR("hotpath"),
          .hit = 1,
          .fwd = HP_FWD_MISS,
          .fwd_status = 200,
          .stored = 1,
          .collapsed = 1},
         "hotpath; hit"},
        {{.cache = HP_STR("hotpath"), .fwd = HP_FWD_URI_MISS},
         "hotpath; fwd=uri-miss"},
        {{.cache = HP_STR("hotpath"),
          .fwd = HP_FWD_STALE,
          .fwd_status = 304,
          .stored = 1,
          .collapsed = 1,
          .has_ttl = 1,
          .ttl_s = 0},
         "hotpath; fwd=stale; fwd-status=304; stored; collapsed; ttl=0"},
        {{.cache = HP_STR("a"), .fwd = HP_FWD_BYPASS}, "a; fwd=bypass"},
        {{.cache = HP_STR("a"), .fwd = HP_FWD_METHOD}, "a; fwd=method"},
        {{.cache = HP_STR("a"), .fwd = HP_FWD_VARY_MISS}, "a; fwd=vary-miss"},
        {{.cache = HP_STR("a"), .fwd = HP_FWD_MISS}, "a; fwd=miss"},
        {{.cache = HP_STR("a"), .fwd = HP_FWD_REQUEST}, "a; fwd=request"},
        {{.cache = HP_STR("a"), .fwd = HP_FWD_PARTIAL}, "a; fwd=partial"},
        {{.cache = HP_STR("a"), .fwd_status = 99}, "a"},
        {{.cache = HP_STR("a"), .fwd_status = 1000}, "a"},
        {{.cache = HP_STR("a b\"\\"), .hit = 1}, "\"a b\\\"\\\\\"; hit"},
        {{.cache = HP_STR("*a:/!"), .hit = 1}, "*a:/!; hit"},
        {{.cache = HP_STR("1a"), .hit = 1}, "\"1a\"; hit"},
        {{.cache = HP_STR("@a"), .hit = 1}, "\"@a\"; hit"},
        {{.cache = HP_STR("a"), .key = HP_STR("/p/1?a=\"b\"\n\xc3\xa4")},
         "a; key=\"/p/1?a=\\\"b\\\"%0a%c3%a4\""},
        {{.cache = HP_STR("a"), .detail = HP_STR("redis")}, "a; detail=redis"},
        {{.cache = HP_STR("a"), .detail = HP_STR("not so")},
         "a; detail=\"not so\""},
        {{.cache = HP_STR("a"), .has_ttl = 1, .ttl_s = INT64_MAX},
         "a; ttl=999999999999999"},
        {{.cache = HP_STR("a"), .has_ttl = 1, .ttl_s = INT64_MIN},
         "a; ttl=-999999999999999"},
    };

    unsigned char text[256];
    hp_cache_status_t none;
    hp_str_t small;
    size_t i, len, size;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        len = hp_cache_status_write(text, sizeof(text), &cases[i].status);
        assert_same((hp_str_t){text, len}, text_of(cases[i].text));

        /* too small: whole parameters only, the first ones */
        for (size = 0; size < strlen(cases[i].text); size++) {
            small = exact(text, size);
            len = hp_cache_status_write((unsigned char *)small.data, size,
                                        &cases[i].status);
            assert_true(len <= size);
            assert_memory_equal(small.data, cases[i].text, len);
            assert_true(len == 0 || cases[i].text[len] == ';');
            drop(&small);
        }
    }

    memset(&none, 0, sizeof(none));
    assert_int_equal(hp_cache_status_write(text, sizeof(text), &none), 0);
}

static void test_cache_status_bound(void **state)
{
    unsigned char bytes[3][64], text[HP_CACHE_STATUS_MAX(3 * 64)];
    hp_cache_status_t status;
    size_t len;

    (void)state;
    memset(bytes, 0xff, sizeof(bytes));
    memset(&status, 0, sizeof(status));
    status.cache = (hp_str_t){bytes[0], 64};
    status.key = (hp_str_t){bytes[1], 64};
    status.detail = (hp_str_t){bytes[2], 64};
    status.fwd = HP_FWD_VARY_MISS;
    status.fwd_status = 999;
    status.stored = status.collapsed = status.has_ttl = 1;
    status.ttl_s = INT64_MIN;
    len = hp_cache_status_write(text, sizeof(text), &status);
    assert_true(len > 3 * 3 * 64);
    assert_int_equal(text[len - 1], '"');
    assert_memory_equal(text + len - 3 * 64 - 11, "; detail=\"%ff", 13);
}

/* ---- Accept-Encoding ---- */

static void test_coding_choose(void **state)
{
    enum { I = HP_CODING_IDENTITY, G = HP_CODING_GZIP, B = HP_CODING_BR };

    static const struct {
        const char *value; /* NULL: no such field */
        unsigned available;
        unsigned chosen;
    } cases[] = {
        {NULL, I | G | B, I},
        {NULL, G | B, G},
        {NULL, B, B},
        {NULL, 0, 0},
        {"", I | G | B, I},
        {"", G | B, 0},
        {"gzip", I | G | B, G},
        {"gzip", I | B, I},
        {"gzip", B, 0},
        {"GZip", I | G, G},
        {"x-gzip", I | G, G},
        {"br", I | G | B, B},
        {"gzip, deflate, br", I | G | B, B},
        {"gzip, deflate, br", I | G, G},
        {"gzip;q=1.0, br;q=0.8", I | G | B, G},
        {"gzip;q=0.5, br;q=0.8", I | G | B, B},
        {"compress, gzip", I | G | B, G},
        {"*", I | G | B, B},
        {"compress;q=0.5, gzip;q=1.0", I | G | B, G},
        {"gzip;q=1.0, identity; q=0.5, *;q=0", I | G | B, G},
        {"gzip;q=1.0, identity; q=0.5, *;q=0", I | B, I},
        {"identity;q=1, gzip;q=0.5", I | G, I},
        {"identity;q=0.5, gzip;q=0.5", I | G, G},
        {"identity;q=0", I | G | B, 0},
        {"*;q=0", I | G | B, 0},
        {"*;q=0, identity;q=0.001", I | G | B, I},
        {"*;q=0.5, br;q=0", I | G | B, G},
        {"*;q=0.5, gzip", I | G | B, G},
        {"gzip;q=0.1", I | G, G},
        {"gzip;q=0", I | G, I},
        {"gzip;q=0.000", I | G, I},
        {"gzip;q=0.001", I | G, G},
        {"gzip ; q=0.5 , br\t;\tQ=0.4", I | G | B, G},
        {"identity", I | G | B, I},
        {"gzip;q=0, gzip", I | G, I},
        {"gzip, gzip;q=0", I | G, G},
        {",,gzip,,", I | G, G},
        /* elements that are not of the grammar are not there */
        {"gzip;q=2", I | G, I},
        {"gzip;q=1.001", I | G, I},
        {"gzip;q=0.1234", I | G, I},
        {"gzip;q=", I | G, I},
        {"gzip;q", I | G, I},
        {"gzip;", I | G, I},
        {"gzip;q=.5", I | G, I},
        {"gzip;q = 0.5", I | G, I},
        {"gzip;level=1", I | G, I},
        {"gzip;q=-1", I | G, I},
        {"gzip br", I | G | B, I},
        {"gzip;q=x, br", I | G | B, B},
        {";q=1, br", I | G | B, B},
        {"\xff, br", I | G | B, B},
        {"gzipx, xgzip, b", I | G | B, I},
        {"gzip;q=1., br;q=0.5", I | G | B, G},
    };

    hp_str_t copy;
    unsigned chosen;
    size_t i, len;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        if (cases[i].value == NULL) {
            assert_int_equal(hp_coding_choose(NULL, cases[i].available),
                             cases[i].chosen);
            continue;
        }

        for (len = 0; len < strlen(cases[i].value); len++) {
            copy = exact(cases[i].value, len);
            chosen = hp_coding_choose(&copy, cases[i].available);
            assert_int_equal(chosen & ~cases[i].available, 0);
            assert_int_equal(chosen & (chosen - 1), 0);
            drop(&copy);
        }

        copy = exact_text(cases[i].value);
        chosen = hp_coding_choose(&copy, cases[i].available);
        drop(&copy);

        if (chosen != cases[i].chosen) {
            fail_msg("%s of %u: %u", cases[i].value, cases[i].available,
                     chosen);
        }
    }

    copy = (hp_str_t){NULL, 0};
    assert_int_equal(hp_coding_choose(&copy, I | G | B), I);
}

/* ---- Vary, Prefer ---- */

static void test_vary(void **state)
{
    static const struct {
        const char *value;
        const char *names; /* joined by '|', '!' where one is refused */
    } cases[] = {
        {"", ""},
        {" ,\t, ", ""},
        {"Accept-Encoding", "Accept-Encoding|"},
        {"accept-encoding, accept-language",
         "accept-encoding|accept-language|"},
        {" a ,b,, c ", "a|b|c|"},
        {"*", "*|"},
        {"a, *", "a|*|"},
        {"a b, c", "!|c|"},
        {"a, \"b\"", "a|!|"},
        {"a;q=1", "!|"},
        {"\xe4, b", "!|b|"},
    };

    hp_str_t rest, name, start;
    char names[128];
    size_t i, len;
    int rc;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        start = rest = exact_text(cases[i].value);
        len = 0;

        while ((rc = hp_vary_next(&rest, &name)) != 0) {
            assert_true(len + name.len + 2 < sizeof(names));

            if (rc < 0) {
                names[len++] = '!';
            } else {
                memcpy(names + len, name.data, name.len);
                len += name.len;
            }

            names[len++] = '|';
        }

        assert_same((hp_str_t){(unsigned char *)names, len},
                    text_of(cases[i].names));
        assert_int_equal(hp_vary_next(&rest, &name), 0);
        drop(&start);

        for (len = 0; len < strlen(cases[i].value); len++) {
            start = rest = exact(cases[i].value, len);

            while (hp_vary_next(&rest, &name) != 0) {
                assert_true(rest.len < len);
            }

            drop(&start);
        }
    }
}

static void test_prefer(void **state)
{
    enum { ASYNC = 1, SYNC = 2 };

    static const struct {
        const char *value;
        int64_t wait_s;
        int how;
    } cases[] = {
        {"", -1, 0},
        {"respond-async", -1, ASYNC},
        {"Respond-Async, Wait=10", 10, ASYNC},
        {"respond-sync", -1, SYNC},
        {"respond-sync, respond-async", -1, SYNC},
        {"respond-async, respond-sync", -1, ASYNC},
        {"wait=100", 100, 0},
        {"wait=\"100\"", 100, 0},
        {"wait = 100", 100, 0},
        {"wait\t=\t\"100\" ; a ; b = \"c, wait=1\" ;;", 100, 0},
        {"wait=5, wait=7", 5, 0},
        {"wait=x, wait=7", -1, 0},
        {"wait, wait=7", -1, 0},
        {"wait=99999999999", HP_SECONDS_MAX, 0},
        {"wait=-1", -1, 0},
        {"wait=1.5", -1, 0},
        {"respond-async=\"\"", -1, ASYNC},
        {"respond-async=1", -1, 0},
        {"respond-async=", -1, 0},
        {"respond-async; x=1, return=minimal", -1, ASYNC},
        {"foo; bar=\"respond-async, wait=1\", wait=2", 2, 0},
        {"handling=lenient, wait=20, respond-async", 20, ASYNC},
        {"wait 5, respond-async", -1, ASYNC},
        {"wait=5;x=\"", -1, 0},
        {"wait=5;x=", -1, 0},
        {"@, wait=3", 3, 0},
    };

    hp_prefer_t prefer;
    hp_str_t copy;
    size_t i, len;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        for (len = 0; len < strlen(cases[i].value); len++) {
            copy = exact(cases[i].value, len);
            hp_prefer(&prefer, copy);
            drop(&copy);
        }

        copy = exact_text(cases[i].value);
        hp_prefer(&prefer, copy);
        drop(&copy);

        if (prefer.wait_s != cases[i].wait_s ||
            ((prefer.respond_async ? ASYNC : 0) |
             (prefer.respond_sync ? SYNC : 0)) != cases[i].how) {
            fail_msg("%s: %lld %d %d", cases[i].value, (long long)prefer.wait_s,
                     prefer.respond_async, prefer.respond_sync);
        }
    }
}

/* Nothing here may take longer than in proportion to its input. */
static void test_long(void **state)
{
    static const char *const pieces[] = {
        "a=\"\\\",", "a=\"", ",", "\"", "a;q=", "wait=\"\\", "W/\"a\", "};

    hp_response_control_t control;
    unsigned char *text;
    hp_str_t view, rest, name;
    hp_prefer_t prefer;
    size_t i, at, len;

    (void)state;
    len = (size_t)1 << 20;
    text = malloc(len);
    assert_non_null(text);

    for (i = 0; i < COUNT_OF(pieces); i++) {
        for (at = 0; at < len; at++) {
            text[at] = (unsigned char)pieces[i][at % strlen(pieces[i])];
        }

        view = rest = (hp_str_t){text, len};
        hp_response_control(&control, view);
        hp_prefer(&prefer, view);
        assert_int_equal(hp_none_match(view, text_of("\"b\"")), 0);
        assert_int_equal(hp_coding_choose(&view, HP_CODING_GZIP), 0);

        while (hp_vary_next(&rest, &name) != 0) {
            assert_true(name.len <= 4);
        }
    }

    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_none_match),
        cmocka_unit_test(test_match),
        cmocka_unit_test(test_not_modified),
        cmocka_unit_test(test_request_control),
        cmocka_unit_test(test_response_control),
        cmocka_unit_test(test_cache_control_write),
        cmocka_unit_test(test_cache_status),
        cmocka_unit_test(test_cache_status_bound),
        cmocka_unit_test(test_coding_choose),
        cmocka_unit_test(test_vary),
        cmocka_unit_test(test_prefer),
        cmocka_unit_test(test_long),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
