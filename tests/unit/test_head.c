/*
 * test_head.c: unit tests of ngx_module/ngx_http_hotpath_head.c and _rules.c.
 *
 * Heads written and read again, in blocks of exactly their size; heads cut and
 * changed at every byte, which are none or lie inside the text; which bodies
 * may be coded; what a field is to 304. The times of an entry: windows one
 * behind the other, lifetimes drawn over the whole range and never out of it.
 *
 * The rooms are included as source and run on nginx_shim.h. One process.
 */
#include "support.h"

#include "nginx_shim.h"

volatile ngx_time_t *ngx_cached_time;

ngx_int_t ngx_strncasecmp(u_char *s1, u_char *s2, size_t n)
{
    return strncasecmp((char *)s1, (char *)s2, n);
}

u_char *ngx_strlcasestrn(u_char *s1, u_char *last, u_char *s2, size_t n)
{
    for (; last - s1 > (ptrdiff_t)n; s1++) {
        if (strncasecmp((char *)s1, (char *)s2, n + 1) == 0) {
            return s1;
        }
    }

    return NULL;
}

#include "ngx_http_hotpath_head.c"
#include "ngx_http_hotpath_rules.c"

#define NOW_S 1769860800

static ngx_time_t now;

static ngx_str_t str(const char *text)
{
    ngx_str_t value;

    value.data = (u_char *)text;
    value.len = strlen(text);
    return value;
}

/* name, value, name, value, ..., NULL */
static ngx_str_t fields_of(u_char *space, const char *const *texts)
{
    ngx_str_t name, value, fields;
    u_char *p;

    p = space;

    for (; *texts != NULL; texts += 2) {
        name = str(texts[0]);
        value = str(texts[1]);
        p = ngx_http_hotpath_field_write(p, &name, &value);
    }

    fields.data = space;
    fields.len = (size_t)(p - space);
    return fields;
}

/* As written, in a block of its own. */
static hp_str_t written(ngx_http_hotpath_head_t *head)
{
    static const u_char nothing[256];

    hp_str_t text;
    u_char *p;

    assert_true(ngx_http_hotpath_head_size(head) <= sizeof(nothing));
    text = exact(nothing, ngx_http_hotpath_head_size(head));
    p = ngx_http_hotpath_head_write((u_char *)text.data, head);
    assert_int_equal(p - text.data, text.len);
    return text;
}

static ngx_int_t read_head(ngx_http_hotpath_head_t *head, hp_str_t text)
{
    ngx_str_t view;

    view.data = (u_char *)text.data;
    view.len = text.len;
    return ngx_http_hotpath_head_read(head, &view);
}

static void assert_str(ngx_str_t got, ngx_str_t expected)
{
    assert_int_equal(got.len, expected.len);
    assert_memory_equal(got.data, expected.data, got.len);
}

static ngx_http_hotpath_head_t make_head(const char *type)
{
    ngx_http_hotpath_head_t head;

    memset(&head, 0, sizeof(head));
    head.status = 200;
    head.type = str(type);
    return head;
}

static void test_write_and_read(void **state)
{
    static const char *const some[] = {"Link", "<a>; rel=next", "X-Empty", "",
                                       NULL};

    ngx_http_hotpath_head_t head, again;
    ngx_str_t rest, name, value;
    u_char space[64];
    hp_str_t text;

    (void)state;
    head = make_head("application/json");
    head.etag = str("\"0123456789abcdef\"");
    head.last_modified = str("Sat, 31 Jan 2026 12:00:00 GMT");
    head.fields = fields_of(space, some);
    text = written(&head);
    assert_int_equal(read_head(&again, text), NGX_OK);
    assert_int_equal(again.status, 200);
    assert_int_equal(again.media_len, head.type.len);
    assert_int_equal(again.codable, 1);
    assert_str(again.type, head.type);
    assert_str(again.etag, head.etag);
    assert_str(again.last_modified, head.last_modified);
    assert_str(again.fields, head.fields);

    rest = again.fields;
    assert_int_equal(ngx_http_hotpath_field_next(&rest, &name, &value), NGX_OK);
    assert_str(name, str("Link"));
    assert_str(value, str("<a>; rel=next"));
    assert_int_equal(ngx_http_hotpath_field_next(&rest, &name, &value), NGX_OK);
    assert_str(name, str("X-Empty"));
    assert_int_equal(value.len, 0);
    assert_int_equal(ngx_http_hotpath_field_next(&rest, &name, &value),
                     NGX_DONE);
    drop(&text);

    /* nothing but a status */
    memset(&head, 0, sizeof(head));
    head.status = 204;
    text = written(&head);
    assert_int_equal(read_head(&again, text), NGX_OK);
    assert_int_equal(again.status, 204);
    assert_int_equal(again.type.len + again.etag.len + again.fields.len, 0);
    drop(&text);
}

static void test_media(void **state)
{
    static const struct {
        const char *type;
        size_t media;
        unsigned codable;
    } cases[] = {
        {"application/json", 16, 1},
        {"application/json; charset=utf-8", 16, 1},
        {"application/json \t;x", 16, 1},
        {"text/html;charset=utf-8", 9, 1},
        {"TEXT/HTML", 9, 1},
        {"image/svg+xml", 13, 1},
        {"application/ld+JSON", 19, 1},
        {"application/wasm", 16, 1},
        {"application/javascript", 22, 1},
        {"image/jpeg", 10, 0},
        {"application/octet-stream", 24, 0},
        {"video/mp4; x=y", 9, 0},
        {"text", 4, 0},
        {"", 0, 0},
        {";", 0, 0},
    };

    ngx_http_hotpath_head_t head, again;
    hp_str_t text;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        head = make_head(cases[i].type);
        text = written(&head);
        assert_int_equal(read_head(&again, text), NGX_OK);

        if (again.media_len != cases[i].media ||
            again.codable != cases[i].codable) {
            fail_msg("%s", cases[i].type);
        }

        drop(&text);
    }
}

static void test_codable(void **state)
{
    static const struct {
        unsigned status;
        const char *fields[5];
        unsigned codable;
    } cases[] = {
        {200, {"Link", "a", NULL}, 1},
        {200, {"Cache-Control", "max-age=1", NULL}, 1},
        {200, {"Cache-Control", "public, No-Transform", NULL}, 0},
        {200, {"Content-Encoding", "gzip", NULL}, 0},
        {200, {"Link", "a", "content-encoding", "br", NULL}, 0},
        {404, {NULL}, 0},
        {206, {NULL}, 0},
    };

    ngx_http_hotpath_head_t head, again;
    u_char space[128];
    hp_str_t text;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        head = make_head("text/plain");
        head.status = cases[i].status;
        head.fields = fields_of(space, cases[i].fields);
        text = written(&head);
        assert_int_equal(read_head(&again, text), NGX_OK);
        assert_int_equal(again.codable, cases[i].codable);
        drop(&text);
    }
}

static void test_document(void **state)
{
    static const struct {
        int64_t modified_us;
        const char *date;
    } cases[] = {
        {(int64_t)NOW_S * 1000000 - 1, "Sat, 31 Jan 2026 11:59:59 GMT"},
        {(int64_t)NOW_S * 1000000 + 999999, "Sat, 31 Jan 2026 12:00:00 GMT"},
        /* a clock that is ahead of ours */
        {(int64_t)NOW_S * 1000000 + 60000000, "Sat, 31 Jan 2026 12:00:00 GMT"},
        {INT64_MAX, "Sat, 31 Jan 2026 12:00:00 GMT"},
        {0, ""},
        {-1, ""},
        {INT64_MIN, ""},
    };

    u_char space[NGX_HTTP_HOTPATH_HEAD_DOCUMENT], *end;
    ngx_http_hotpath_head_t head;
    ngx_str_t text;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        end = ngx_http_hotpath_head_document(space, 0xfedcba9876543210,
                                             cases[i].modified_us);
        assert_in_range(end - space, 1, sizeof(space));
        text.data = space;
        text.len = (size_t)(end - space);
        assert_int_equal(ngx_http_hotpath_head_read(&head, &text), NGX_OK);
        assert_int_equal(head.status, 200);
        assert_int_equal(head.codable, 1);
        assert_str(head.type, str("application/json"));
        assert_str(head.etag, str("\"fedcba9876543210\""));
        assert_str(head.last_modified, str(cases[i].date));
        assert_int_equal(head.fields.len, 0);
    }
}

/* Whatever stands there: none, or something inside of the text. */
static void check_bounds(hp_str_t text)
{
    ngx_http_hotpath_head_t head;
    ngx_str_t rest, name, value;
    const u_char *end;
    unsigned n;

    if (read_head(&head, text) != NGX_OK) {
        return;
    }

    end = text.data + text.len;
    assert_true(head.media_len <= head.type.len);
    assert_true(head.type.data >= text.data && head.fields.data <= end);
    assert_ptr_equal(head.fields.data + head.fields.len, end);
    rest = head.fields;

    for (n = 0; ngx_http_hotpath_field_next(&rest, &name, &value) == NGX_OK;
         n++) {
        assert_true(value.data + value.len <= end);
        (void)ngx_http_hotpath_field_kind(&name);
        assert_true(n < text.len);
    }
}

static void test_garbled(void **state)
{
    static const char *const some[] = {"Vary", "a", "Date", "b", NULL};

    ngx_http_hotpath_head_t head, again;
    u_char space[64];
    hp_str_t text, cut;
    size_t at, value;

    (void)state;
    head = make_head("text/html; a=b");
    head.etag = str("\"1\"");
    head.fields = fields_of(space, some);
    text = written(&head);

    for (at = 0; at < text.len; at++) {
        cut = exact(text.data, at);
        assert_int_equal(read_head(&again, cut), NGX_ERROR);
        drop(&cut);

        for (value = 0; value < 256; value += at < 16 ? 1 : 15) {
            cut = exact(text.data, text.len);
            ((u_char *)cut.data)[at] = (u_char)value;
            check_bounds(cut);
            drop(&cut);
        }
    }

    /* another version of the layout */
    ((u_char *)text.data)[0]++;
    assert_int_equal(read_head(&again, text), NGX_ERROR);
    drop(&text);
}

static void test_field_kinds(void **state)
{
    static const struct {
        const char *name;
        ngx_http_hotpath_field_e kind;
    } cases[] = {
        {"Cache-Control", ngx_http_hotpath_field_control},
        {"cache-control", ngx_http_hotpath_field_control},
        {"EXPIRES", ngx_http_hotpath_field_kept},
        {"Content-Location", ngx_http_hotpath_field_kept},
        {"Vary", ngx_http_hotpath_field_vary},
        {"Date", ngx_http_hotpath_field_date},
        {"Server", ngx_http_hotpath_field_server},
        {"Content-Encoding", ngx_http_hotpath_field_encoding},
        {"Content-Language", ngx_http_hotpath_field_other},
        {"Var", ngx_http_hotpath_field_other},
        {"Varyy", ngx_http_hotpath_field_other},
        {"", ngx_http_hotpath_field_other},
    };

    ngx_str_t name;
    size_t i;

    (void)state;

    for (i = 0; i < COUNT_OF(cases); i++) {
        name = str(cases[i].name);
        assert_int_equal(ngx_http_hotpath_field_kind(&name), cases[i].kind);
    }
}

static void test_times(void **state)
{
    ngx_http_hotpath_cache_rules_t rules;
    ngx_http_hotpath_cache_meta_t meta;
    uint64_t now_ms, life_ms, low_ms, high_ms;
    int i;

    (void)state;
    now_ms = (uint64_t)NOW_S * 1000 + 250;
    memset(&rules, 0, sizeof(rules));
    memset(&meta, 0, sizeof(meta));
    rules.ttl = 60000;
    rules.negative_ttl = 5000;
    rules.revalidate = 30000;
    rules.stale = 10000;

    ngx_http_hotpath_rules_times(&rules, &meta);
    assert_true(meta.stored_ms == now_ms);
    assert_true(meta.fresh_ms == now_ms + 60000);
    assert_true(meta.revalidate_ms == meta.fresh_ms + 30000);
    /* what may be used while it is renewed may be used where it cannot be */
    assert_true(meta.stale_ms == meta.fresh_ms + 30000);

    rules.stale = 90000;
    meta.negative = 1;
    ngx_http_hotpath_rules_times(&rules, &meta);
    assert_true(meta.fresh_ms == now_ms + 5000);
    assert_true(meta.stale_ms == meta.fresh_ms + 90000);

    meta.negative = 0;
    rules.jitter = 25;
    low_ms = UINT64_MAX;
    high_ms = 0;

    for (i = 0; i < 100000; i++) {
        ngx_http_hotpath_rules_times(&rules, &meta);
        life_ms = meta.fresh_ms - now_ms;
        low_ms = ngx_min(low_ms, life_ms);
        high_ms = ngx_max(high_ms, life_ms);
    }

    assert_in_range(low_ms, 45000, 45010);
    assert_in_range(high_ms, 59990, 60000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_and_read),
        cmocka_unit_test(test_media),
        cmocka_unit_test(test_codable),
        cmocka_unit_test(test_document),
        cmocka_unit_test(test_garbled),
        cmocka_unit_test(test_field_kinds),
        cmocka_unit_test(test_times),
    };

    ngx_cached_time = &now;
    now.sec = NOW_S;
    now.msec = 250;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
