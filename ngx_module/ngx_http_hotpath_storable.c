/*
 * ngx_http_hotpath_storable.c: what of an upstream's answer a shared cache may
 * keep, for how long, and for whom.
 *
 * One job: to read the header of an answer, or of a 304 together with what the
 * zone has, and to make of it the head and the times of an entry. What counts
 * is what the upstream has sent, also where a directive hides it from clients;
 * what is stored is what clients get. In doubt nothing is stored: an answer
 * that sets a cookie, that varies by "*", or by what is no field name, that
 * has more tags than could be purged.
 *
 * The age of an answer is its Age and the time since the upstream was asked;
 * its Date is not compared with the clock here, because the cache stands
 * directly in front of the origin (RFC 9111, 4.2.3) and two clocks that differ
 * would make everything stale. Explicit lifetimes are kept to the millisecond,
 * the configured one is jittered.
 *
 * Owns nothing; all is in the request's pool. Runs in the header filter of
 * every worker. Reference: README.md, "In front of any upstream"; tests:
 * tests/integration/test_output_rules.py.
 */


#include "ngx_http_hotpath_storable.h"
#include "ngx_http_hotpath_kept.h"
#include "ngx_http_hotpath_variant.h"
#include "core/hp_date.h"


/* What decides. */
typedef struct {
    hp_response_control_t            control;
    ngx_str_t                        expires;
    ngx_str_t                        date;
    ngx_str_t                        age;
    ngx_str_t                        accel;      /* X-Accel-Expires */
    ngx_str_t                        vary;
    ngx_str_t                        connection;
    unsigned                         expires_set:1;
    unsigned                         cookie:1;
    unsigned                         stream:1;   /* has no end, it seems */
} ngx_http_hotpath_storable_facts_t;


static ngx_int_t ngx_http_hotpath_storable_facts(ngx_http_request_t *r,
    ngx_str_t *stored, ngx_http_hotpath_storable_facts_t *facts);
static void ngx_http_hotpath_storable_shown(ngx_http_request_t *r,
    ngx_http_hotpath_head_t *head);
static ngx_int_t ngx_http_hotpath_storable_value(ngx_http_request_t *r,
    ngx_str_t *name, ngx_str_t *stored, ngx_str_t *value);
static ngx_int_t ngx_http_hotpath_storable_times(ngx_http_request_t *r,
    ngx_http_hotpath_cache_rules_t *rules,
    ngx_http_hotpath_storable_facts_t *facts, ngx_uint_t status,
    uint64_t asked_ms, ngx_uint_t validators,
    ngx_http_hotpath_storable_t *storable);
static int64_t ngx_http_hotpath_storable_lifetime_s(
    ngx_http_hotpath_storable_facts_t *facts);
static ngx_int_t ngx_http_hotpath_storable_names(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf,
    ngx_http_hotpath_storable_facts_t *facts,
    ngx_http_hotpath_storable_t *storable);
static ngx_int_t ngx_http_hotpath_storable_head(ngx_http_request_t *r,
    ngx_http_hotpath_storable_facts_t *facts, ngx_str_t *stored,
    ngx_http_hotpath_head_t *head, ngx_http_hotpath_storable_t *storable);
static ngx_int_t ngx_http_hotpath_storable_tags(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_http_hotpath_storable_t *storable);


static ngx_str_t  ngx_http_hotpath_storable_control =
    ngx_string("Cache-Control");
static ngx_str_t  ngx_http_hotpath_storable_expires = ngx_string("Expires");
static ngx_str_t  ngx_http_hotpath_storable_date = ngx_string("Date");
static ngx_str_t  ngx_http_hotpath_storable_age = ngx_string("Age");
static ngx_str_t  ngx_http_hotpath_storable_accel =
    ngx_string("X-Accel-Expires");
static ngx_str_t  ngx_http_hotpath_storable_buffering =
    ngx_string("X-Accel-Buffering");
static ngx_str_t  ngx_http_hotpath_storable_vary = ngx_string("Vary");
static ngx_str_t  ngx_http_hotpath_storable_connection =
    ngx_string("Connection");
static ngx_str_t  ngx_http_hotpath_storable_cookie = ngx_string("Set-Cookie");
static ngx_str_t  ngx_http_hotpath_storable_encoding =
    ngx_string("Content-Encoding");
static ngx_str_t  ngx_http_hotpath_storable_accept =
    ngx_string("Accept-Encoding");


static ngx_inline hp_str_t
ngx_http_hotpath_storable_text(ngx_str_t *text)
{
    hp_str_t  s;

    s.data = text->data;
    s.len = text->len;

    return s;
}


static ngx_inline ngx_int_t
ngx_http_hotpath_storable_decline(ngx_http_hotpath_storable_t *storable,
    const char *why)
{
    storable->detail.data = (u_char *) why;
    storable->detail.len = ngx_strlen(why);

    return NGX_DECLINED;
}


ngx_int_t
ngx_http_hotpath_storable_judge(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, uint64_t asked_ms,
    ngx_http_hotpath_storable_t *storable)
{
    ngx_int_t                           rc;
    ngx_uint_t                          status;
    ngx_http_hotpath_head_t             head;
    ngx_http_hotpath_storable_facts_t   facts;

    ngx_memzero(storable, sizeof(ngx_http_hotpath_storable_t));
    ngx_memzero(&head, sizeof(ngx_http_hotpath_head_t));

    status = r->headers_out.status;

    if (ngx_http_hotpath_storable_facts(r, NULL, &facts) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ngx_http_hotpath_storable_names(r, lcf, &facts, storable);
    if (rc != NGX_OK) {
        return rc;
    }

    if (status < NGX_HTTP_OK || status == NGX_HTTP_PARTIAL_CONTENT
        || status == NGX_HTTP_NOT_MODIFIED)
    {
        return ngx_http_hotpath_storable_decline(storable, "status");
    }

    if (facts.stream) {
        return ngx_http_hotpath_storable_decline(storable, "stream");
    }

    if (facts.cookie) {
        return ngx_http_hotpath_storable_decline(storable, "set-cookie");
    }

    if (!hp_shared_storable(&facts.control,
                            r->headers_in.authorization != NULL))
    {
        if (facts.control.no_store) {
            return ngx_http_hotpath_storable_decline(storable, "no-store");
        }

        if (facts.control.is_private) {
            return ngx_http_hotpath_storable_decline(storable, "private");
        }

        return ngx_http_hotpath_storable_decline(storable, "authorization");
    }

    ngx_http_hotpath_storable_shown(r, &head);

    rc = ngx_http_hotpath_storable_times(r, &lcf->output.rules, &facts, status,
                                         asked_ms,
                                         head.etag.len
                                         || head.last_modified.len,
                                         storable);
    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_http_hotpath_storable_tags(r, lcf, storable);
    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_hotpath_storable_head(r, &facts, NULL, &head, storable);
}


/* What the answer says of itself in places of their own. */

static void
ngx_http_hotpath_storable_shown(ngx_http_request_t *r,
    ngx_http_hotpath_head_t *head)
{
    head->status = r->headers_out.status;
    head->type = r->headers_out.content_type;

    if (r->headers_out.etag && r->headers_out.etag->hash) {
        head->etag = r->headers_out.etag->value;
    }

    if (r->headers_out.last_modified && r->headers_out.last_modified->hash
        && r->headers_out.last_modified_time != -1)
    {
        head->last_modified = r->headers_out.last_modified->value;
    }
}


ngx_int_t
ngx_http_hotpath_storable_whole(ngx_http_request_t *r, ngx_str_t *text)
{
    ngx_str_t                 connection, date;
    ngx_http_hotpath_head_t   head;

    ngx_memzero(&head, sizeof(ngx_http_hotpath_head_t));
    ngx_http_hotpath_storable_shown(r, &head);

    if (ngx_http_hotpath_storable_value(r,
                                       &ngx_http_hotpath_storable_connection,
                                       NULL, &connection)
        == NGX_ERROR
        || ngx_http_hotpath_storable_value(r, &ngx_http_hotpath_storable_date,
                                           NULL, &date)
           == NGX_ERROR)
    {
        return NGX_ERROR;
    }

    return ngx_http_hotpath_kept_head(r, &head, &connection, &date, NULL,
                                      text);
}


ngx_int_t
ngx_http_hotpath_storable_renewed(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, uint64_t asked_ms,
    ngx_http_hotpath_copy_t *copy, ngx_http_hotpath_storable_t *storable)
{
    ngx_int_t                           rc;
    ngx_str_t                          *etag, stored;
    ngx_http_hotpath_head_t             head;
    ngx_http_hotpath_storable_facts_t   facts;

    ngx_memzero(storable, sizeof(ngx_http_hotpath_storable_t));

    if (ngx_http_hotpath_head_read(&head, &copy->head) != NGX_OK) {
        return NGX_DECLINED;
    }

    if (r->headers_out.etag && r->headers_out.etag->hash) {
        etag = &r->headers_out.etag->value;

        /* one tag was asked for, so it is good whatever the answer names: some
         * servers forget in a 304 what they append where they code a body */

        if (hp_none_match(ngx_http_hotpath_storable_text(etag),
                          ngx_http_hotpath_storable_text(&head.etag)))
        {
            head.etag = *etag;
        }
    }

    if (r->headers_out.last_modified && r->headers_out.last_modified->hash
        && r->headers_out.last_modified_time != -1)
    {
        head.last_modified = r->headers_out.last_modified->value;
    }

    if (ngx_http_hotpath_storable_facts(r, &head.fields, &facts) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ngx_http_hotpath_storable_names(r, lcf, &facts, storable);
    if (rc != NGX_OK) {
        return rc;
    }

    if (!hp_shared_storable(&facts.control,
                            r->headers_in.authorization != NULL))
    {
        return ngx_http_hotpath_storable_decline(storable, "no-store");
    }

    rc = ngx_http_hotpath_storable_times(r, &lcf->output.rules, &facts,
                                         head.status, asked_ms, 1, storable);
    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_http_hotpath_storable_tags(r, lcf, storable);
    if (rc != NGX_OK) {
        return rc;
    }

    stored = head.fields;

    return ngx_http_hotpath_storable_head(r, &facts, &stored, &head, storable);
}


/* stored: of a 304, the fields that the zone has; NULL: a whole answer. */

static ngx_int_t
ngx_http_hotpath_storable_facts(ngx_http_request_t *r, ngx_str_t *stored,
    ngx_http_hotpath_storable_facts_t *facts)
{
    ngx_int_t    rc;
    ngx_str_t    control, cookie, stream;
    ngx_uint_t   ignored;

    static ngx_str_t  events = ngx_string("text/event-stream");

    ngx_memzero(facts, sizeof(ngx_http_hotpath_storable_facts_t));
    ngx_str_null(&control);

    /* of proxy_ignore_headers */
    ignored = r->upstream->conf->ignore_headers;

    if (!(ignored & NGX_HTTP_UPSTREAM_IGN_CACHE_CONTROL)
        && ngx_http_hotpath_storable_value(r,
                                       &ngx_http_hotpath_storable_control,
                                       stored, &control)
           == NGX_ERROR)
    {
        return NGX_ERROR;
    }

    hp_response_control(&facts->control,
                        ngx_http_hotpath_storable_text(&control));

    if (!(ignored & NGX_HTTP_UPSTREAM_IGN_EXPIRES)) {
        rc = ngx_http_hotpath_storable_value(r,
                                        &ngx_http_hotpath_storable_expires,
                                        stored, &facts->expires);
        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }

        facts->expires_set = (rc == NGX_OK);
    }

    if (!(ignored & NGX_HTTP_UPSTREAM_IGN_SET_COOKIE)) {
        rc = ngx_http_hotpath_storable_value(r,
                                        &ngx_http_hotpath_storable_cookie,
                                        NULL, &cookie);
        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }

        facts->cookie = (rc == NGX_OK);
    }

    if (!(ignored & NGX_HTTP_UPSTREAM_IGN_VARY)
        && ngx_http_hotpath_storable_value(r, &ngx_http_hotpath_storable_vary,
                                           stored, &facts->vary)
           == NGX_ERROR)
    {
        return NGX_ERROR;
    }

    if (!(ignored & NGX_HTTP_UPSTREAM_IGN_XA_EXPIRES)
        && ngx_http_hotpath_storable_value(r, &ngx_http_hotpath_storable_accel,
                                           NULL, &facts->accel)
           == NGX_ERROR)
    {
        return NGX_ERROR;
    }

    /* what is sent bit by bit to one client: nobody is to wait for its end */

    if (ngx_http_hotpath_storable_value(r,
                                        &ngx_http_hotpath_storable_buffering,
                                        NULL, &stream)
        == NGX_ERROR)
    {
        return NGX_ERROR;
    }

    if ((stream.len == 2
         && ngx_strncasecmp(stream.data, (u_char *) "no", 2) == 0)
        || (r->headers_out.content_type.len >= events.len
            && ngx_strncasecmp(r->headers_out.content_type.data, events.data,
                               events.len)
               == 0))
    {
        facts->stream = 1;
    }

    if (ngx_http_hotpath_storable_value(r, &ngx_http_hotpath_storable_date,
                                        NULL, &facts->date)
        == NGX_ERROR
        || ngx_http_hotpath_storable_value(r, &ngx_http_hotpath_storable_age,
                                           NULL, &facts->age)
           == NGX_ERROR
        || ngx_http_hotpath_storable_value(r,
                                      &ngx_http_hotpath_storable_connection,
                                      NULL, &facts->connection)
           == NGX_ERROR)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/*
 * A field of the upstream's answer, its lines joined by commas; without one,
 * that of stored. NGX_DECLINED, and empty, where there is none.
 */

static ngx_int_t
ngx_http_hotpath_storable_value(ngx_http_request_t *r, ngx_str_t *name,
    ngx_str_t *stored, ngx_str_t *value)
{
    ngx_str_t         rest, key, text;
    ngx_uint_t        i, n;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    n = 0;
    ngx_str_null(value);

    part = &r->upstream->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (!ngx_http_hotpath_kept_same(&h[i].key, name)) {
            continue;
        }

        if (n++ == 0) {
            *value = h[i].value;
            continue;
        }

        if (ngx_http_hotpath_kept_join(r->pool, value, &h[i].value) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (n) {
        return NGX_OK;
    }

    if (stored) {
        rest = *stored;

        while (ngx_http_hotpath_field_next(&rest, &key, &text) == NGX_OK) {
            if (ngx_http_hotpath_kept_same(&key, name)) {
                /* it was joined when it was stored */
                *value = text;
                return NGX_OK;
            }
        }
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_hotpath_storable_times(ngx_http_request_t *r,
    ngx_http_hotpath_cache_rules_t *rules,
    ngx_http_hotpath_storable_facts_t *facts, ngx_uint_t status,
    uint64_t asked_ms, ngx_uint_t validators,
    ngx_http_hotpath_storable_t *storable)
{
    int64_t                         lifetime_s, age_s;
    uint64_t                        lifetime_ms, revalidate_ms, stale_ms;
    hp_response_control_t          *control;
    ngx_http_hotpath_cache_meta_t  *meta;

    control = &facts->control;
    meta = &storable->meta;

    lifetime_s = ngx_http_hotpath_storable_lifetime_s(facts);

    if (lifetime_s >= 0) {
        lifetime_ms = (uint64_t) lifetime_s * 1000;

    } else {

        switch (status) {

        case NGX_HTTP_OK:
        case 203:
        case NGX_HTTP_NO_CONTENT:
        case 300:
        case NGX_HTTP_MOVED_PERMANENTLY:
        case NGX_HTTP_PERMANENT_REDIRECT:
            break;

        case NGX_HTTP_NOT_FOUND:
        case 410:
            meta->negative = 1;
            break;

        default:
            return ngx_http_hotpath_storable_decline(storable, "status");
        }

        ngx_http_hotpath_rules_times(rules, meta);
        lifetime_ms = meta->fresh_ms - meta->stored_ms;
        meta->negative = 0;
    }

    /* what it may be used for afterwards */

    revalidate_ms = rules->revalidate;
    stale_ms = rules->stale;

    if (!hp_stale_allowed(control)) {
        revalidate_ms = 0;
        stale_ms = 0;
    }

    if (control->no_cache) {
        lifetime_ms = 0;

    } else if (!control->must_revalidate && !control->proxy_revalidate) {

        /* with s-maxage only where the answer says so itself */

        if (control->stale_while_revalidate_s >= 0) {
            revalidate_ms = (uint64_t) control->stale_while_revalidate_s
                            * 1000;
        }

        if (control->stale_if_error_s >= 0) {
            stale_ms = (uint64_t) control->stale_if_error_s * 1000;
        }
    }

    /* more than one Age, or none that is a number, says nothing */

    age_s = 0;

    if (facts->age.len && facts->age.len < 10) {
        age_s = ngx_atoi(facts->age.data, facts->age.len);
        age_s = age_s < 0 ? 0 : age_s;
    }

    meta->stored_ms = asked_ms - (uint64_t) age_s * 1000;
    meta->fresh_ms = meta->stored_ms + lifetime_ms;
    meta->revalidate_ms = meta->fresh_ms + revalidate_ms;
    meta->stale_ms = meta->fresh_ms + ngx_max(stale_ms, revalidate_ms);

    storable->lasting = meta->revalidate_ms > ngx_http_hotpath_now_ms();

    if (!validators && meta->stale_ms <= ngx_http_hotpath_now_ms()) {
        return ngx_http_hotpath_storable_decline(storable, "stale");
    }

    return NGX_OK;
}


/* What the answer says of its life; -1: nothing. */

static int64_t
ngx_http_hotpath_storable_lifetime_s(ngx_http_hotpath_storable_facts_t *facts)
{
    int64_t     expires_s, date_s;
    hp_str_t    text;
    ngx_int_t   n;

    if (facts->accel.len) {

        if (facts->accel.data[0] == '@') {
            n = ngx_atoi(facts->accel.data + 1, facts->accel.len - 1);

            if (n != NGX_ERROR) {
                return n > ngx_time() ? n - ngx_time() : 0;
            }

        } else {
            n = ngx_atoi(facts->accel.data, facts->accel.len);

            if (n != NGX_ERROR) {
                return ngx_min(n, (ngx_int_t) HP_SECONDS_MAX);
            }
        }
    }

    expires_s = hp_shared_lifetime_s(&facts->control);

    if (expires_s >= 0) {
        return expires_s;
    }

    if (!facts->expires_set) {
        return -1;
    }

    /* what is no date, such as "0", is in the past */

    text = ngx_http_hotpath_storable_text(&facts->expires);

    if (hp_http_date_parse(&expires_s, text, ngx_time()) != 0) {
        return 0;
    }

    text = ngx_http_hotpath_storable_text(&facts->date);

    if (hp_http_date_parse(&date_s, text, ngx_time()) != 0) {
        date_s = ngx_time();
    }

    return expires_s > date_s ? ngx_min(expires_s - date_s, HP_SECONDS_MAX)
                              : 0;
}


/* Also says in the answer what the configuration makes it vary by. */

static ngx_int_t
ngx_http_hotpath_storable_names(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf,
    ngx_http_hotpath_storable_facts_t *facts,
    ngx_http_hotpath_storable_t *storable)
{
    int               rc;
    u_char           *p;
    size_t            len;
    hp_str_t          rest, each;
    ngx_str_t         name, value;
    ngx_table_elt_t  *h;

    storable->names.data = ngx_pnalloc(r->pool, NGX_HTTP_HOTPATH_VARIANT_TEXT);
    if (storable->names.data == NULL) {
        return NGX_ERROR;
    }

    rest = ngx_http_hotpath_storable_text(&facts->vary);

    for ( ;; ) {
        rc = hp_vary_next(&rest, &each);

        if (rc == 0) {
            break;
        }

        name.data = (u_char *) each.data;
        name.len = each.len;

        if (rc < 0
            || ngx_http_hotpath_variant_name(&storable->names, &name)
               != NGX_OK)
        {
            return ngx_http_hotpath_storable_decline(storable, "vary");
        }
    }

    rest = ngx_http_hotpath_storable_text(&lcf->output.vary);

    while (hp_vary_next(&rest, &each) == 1) {
        name.data = (u_char *) each.data;
        name.len = each.len;
        len = storable->names.len;

        if (ngx_http_hotpath_variant_name(&storable->names, &name) != NGX_OK) {
            return ngx_http_hotpath_storable_decline(storable, "vary");
        }

        if (storable->names.len == len) {
            continue;
        }

        p = ngx_pnalloc(r->pool, name.len);
        h = ngx_http_hotpath_header_push(r);

        if (p == NULL || h == NULL) {
            return NGX_ERROR;
        }

        ngx_memcpy(p, name.data, name.len);
        h->key = ngx_http_hotpath_storable_vary;
        h->value.data = p;
        h->value.len = name.len;
    }

    /* an upstream that codes and does not say by what it chose */

    if (ngx_http_hotpath_storable_value(r,
                                        &ngx_http_hotpath_storable_encoding,
                                        NULL, &value)
        != NGX_DECLINED
        && ngx_http_hotpath_variant_name(&storable->names,
                                         &ngx_http_hotpath_storable_accept)
           != NGX_OK)
    {
        return ngx_http_hotpath_storable_decline(storable, "vary");
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hotpath_storable_tags(ngx_http_request_t *r,
    ngx_http_hotpath_loc_conf_t *lcf, ngx_http_hotpath_storable_t *storable)
{
    u_char     *p, *last;
    ngx_str_t   text, tag;

    if (lcf->output.tags == NULL) {
        return NGX_OK;
    }

    if (ngx_http_complex_value(r, lcf->output.tags, &text) != NGX_OK) {
        return NGX_ERROR;
    }

    p = text.data;
    last = p + text.len;

    for ( ;; ) {

        while (p < last && (*p == ' ' || *p == '\t' || *p == ',')) {
            p++;
        }

        if (p == last) {
            return NGX_OK;
        }

        tag.data = p;

        while (p < last && *p != ' ' && *p != '\t' && *p != ',') {
            p++;
        }

        tag.len = p - tag.data;

        if (storable->ntags == NGX_HTTP_HOTPATH_CACHE_TAGS) {
            return ngx_http_hotpath_storable_decline(storable, "tags");
        }

        storable->tags[storable->ntags++] =
                       ngx_http_hotpath_cache_tag(&lcf->output.scope, &tag);
    }
}


static ngx_int_t
ngx_http_hotpath_storable_head(ngx_http_request_t *r,
    ngx_http_hotpath_storable_facts_t *facts, ngx_str_t *stored,
    ngx_http_hotpath_head_t *head, ngx_http_hotpath_storable_t *storable)
{
    ngx_int_t  rc;

    rc = ngx_http_hotpath_kept_head(r, head, &facts->connection,
                                      &facts->date, stored, &storable->head);

    return rc == NGX_DECLINED
           ? ngx_http_hotpath_storable_decline(storable, "header-size") : rc;
}
