/*
 * ngx_http_hotpath_list.c: pages of a list.
 *
 * A list is what a statement yields for a tenant and a key, in an order that
 * does not change. A page is asked for by its size and by a cursor, which is
 * the place of the last row that the client has seen (core/hp_cursor.h): what
 * comes and goes meanwhile shifts nothing, no row comes twice, and the tenth
 * page costs what the first does. One row more than the page holds is asked
 * for, to know whether there is another page.
 *
 * A page is kept in the zone like a document, under the list's name, tenant,
 * key, size and place; reading, waiting, revalidation and what to do when
 * Postgres is down are those of documents (read, fetch, serve). Where pushed
 * documents say whose list they are in, a push ends the trust in that list's
 * pages by one store into a table in shared memory, and they are fetched again
 * when they are next asked for: O(1), however many pages there are. Two lists
 * that meet in the table are renewed together, which costs a query and no more.
 *
 *   table  SLOTS times microseconds since 1970: what hashes here changed then.
 *          Written by the worker that listens to pushes, without a lock, read
 *          by all; only goes up, but for two listeners during a reload, whose
 *          times are the same to a millisecond.
 *
 * Owns the table's zone and the secrets, both the configuration's. Runs in the
 * event loop of every worker. Never in here: a cursor taken at its word.
 * Bounds: rows by the limit, a page by LIST_PAGE and one document. Reference:
 * README.md, "Read a list"; tests: tests/integration/test_lists.py.
 */


#include "ngx_http_hotpath_list.h"
#include "core/hp_id.h"
#include "core/hp_json.h"


#define NGX_HTTP_HOTPATH_LIST_MAGIC    0x31535453494c5048ULL  /* HPLISTS1 */
#define NGX_HTTP_HOTPATH_LIST_LAYOUT   1
#define NGX_HTTP_HOTPATH_LIST_SLOTS    16384

#define NGX_HTTP_HOTPATH_LIST_MAX      1000
#define NGX_HTTP_HOTPATH_LIST_PAGE     (1024 * 1024)

/* $1 tenant, $2 key, $3 rows, and then the cursor's parts */
#define NGX_HTTP_HOTPATH_LIST_PARAMS   3
#define NGX_HTTP_HOTPATH_LIST_PARTS  5

/* Seeds, so that one text is another number for another use. */
#define NGX_HTTP_HOTPATH_LIST_SCOPE    0x6c6973742d63ULL
#define NGX_HTTP_HOTPATH_LIST_PLACE    0x6c6973742d70ULL
#define NGX_HTTP_HOTPATH_LIST_SLOT     0x6c6973742d73ULL

#define NGX_HTTP_HOTPATH_LIST_SQL                                             \
    "SELECT document, list_us, key FROM hotpath.%V"                           \
    " WHERE tenant = $1 AND list_key = $2 AND NOT deleted"                    \
    " AND (list_us, key) < (coalesce($4::bigint, 9223372036854775807),"       \
    " coalesce($5::text, ''))"                                                \
    " ORDER BY list_us DESC, key DESC LIMIT $3::bigint%Z"


typedef struct {
    ngx_http_hotpath_model_t     model;      /* first: what page() is given */
    ngx_uint_t                   parts;      /* of a cursor */
    ngx_uint_t                   limit;      /* where none is given */
    ngx_uint_t                   limit_max;
    ngx_http_hotpath_param_t     params[2];  /* limit, cursor */
    ngx_http_hotpath_cursors_t  *cursors;
    ngx_shm_zone_t              *changes;    /* NULL: pushes tell nothing */
} ngx_http_hotpath_list_t;


/* What page() has to know of the request that began the fetch. */
typedef struct {
    uint64_t                     scope;
    int64_t                      asked_us;
    ngx_uint_t                   limit;
} ngx_http_hotpath_list_asked_t;


typedef struct {
    ngx_http_hotpath_region_t    region;
    int64_t                      slots[NGX_HTTP_HOTPATH_LIST_SLOTS];
} ngx_http_hotpath_list_sh_t;


static ngx_int_t ngx_http_hotpath_list_option(ngx_http_hotpath_list_t *list,
    ngx_str_t *value);
static ngx_int_t ngx_http_hotpath_list_watch(ngx_conf_t *cf,
    ngx_http_hotpath_list_t *list);
static ngx_int_t ngx_http_hotpath_list_init_zone(ngx_shm_zone_t *zone,
    void *data);
static ngx_int_t ngx_http_hotpath_list_limit(ngx_http_request_t *r,
    ngx_http_hotpath_list_t *list, ngx_uint_t *limit,
    ngx_http_hotpath_param_refusal_t *why);
static ngx_int_t ngx_http_hotpath_list_cursor(ngx_http_request_t *r,
    ngx_http_hotpath_list_t *list, uint64_t scope, hp_cursor_t *cursor,
    ngx_http_hotpath_param_refusal_t *why);
static void ngx_http_hotpath_list_zone_key(ngx_str_t *zone_key,
    ngx_uint_t limit, hp_cursor_t *cursor);
static ngx_int_t ngx_http_hotpath_list_page(ngx_http_hotpath_model_t *model,
    PGresult *result, void *data, ngx_pool_t *pool,
    ngx_http_hotpath_cache_meta_t *meta,
    ngx_http_hotpath_cache_content_t *content);
static ngx_int_t ngx_http_hotpath_list_head(ngx_str_t *next, ngx_pool_t *pool,
    ngx_http_hotpath_cache_content_t *content);
static ngx_int_t ngx_http_hotpath_list_next(ngx_http_hotpath_list_t *list,
    ngx_http_hotpath_list_asked_t *asked, PGresult *result, int row,
    ngx_str_t *next);
static ngx_int_t ngx_http_hotpath_list_field(ngx_http_request_t *r,
    ngx_str_t *name, ngx_str_t *value);
static u_char *ngx_http_hotpath_list_query(u_char *p, ngx_str_t *args);
static int64_t ngx_http_hotpath_list_changed_us(ngx_http_hotpath_list_t *list,
    ngx_http_hotpath_wanted_t *wanted);
static int64_t *ngx_http_hotpath_list_slot(ngx_http_hotpath_list_t *list,
    hp_str_t tenant, hp_str_t key);


static ngx_str_t  ngx_http_hotpath_list_zone_name =
    ngx_string("hotpath_lists");
static ngx_str_t  ngx_http_hotpath_list_limit_name = ngx_string("limit");
static ngx_str_t  ngx_http_hotpath_list_cursor_name = ngx_string("cursor");
static ngx_str_t  ngx_http_hotpath_list_link_name = ngx_string("Link");


char *
ngx_http_hotpath_list_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hotpath_loc_conf_t *lcf = conf;

    char                     *rv;
    ngx_str_t                *value;
    ngx_uint_t                i;
    ngx_http_hotpath_list_t  *list;

    list = ngx_pcalloc(cf->pool, sizeof(ngx_http_hotpath_list_t));
    if (list == NULL) {
        return NGX_CONF_ERROR;
    }

    list->model.page = ngx_http_hotpath_list_page;
    list->parts = 2;
    list->limit = 20;
    list->limit_max = 100;

    rv = ngx_http_hotpath_model_set(cf, lcf, &list->model);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    value = cf->args->elts;

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_http_hotpath_list_option(list, &value[i]) == NGX_OK) {
            continue;
        }

        rv = ngx_http_hotpath_model_option(cf, lcf, &value[i]);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    return NGX_CONF_OK;
}


/* NGX_DECLINED: it is none of these, or not as it has to be. */

static ngx_int_t
ngx_http_hotpath_list_option(ngx_http_hotpath_list_t *list, ngx_str_t *value)
{
    u_char     *p, *last, *comma;
    ngx_int_t   n, max;

    last = value->data + value->len;

    if (ngx_strncmp(value->data, "cursor=", 7) == 0) {

        n = ngx_atoi(value->data + 7, value->len - 7);
        if (n < 1 || n > NGX_HTTP_HOTPATH_LIST_PARTS) {
            return NGX_DECLINED;
        }

        list->parts = n;
        return NGX_OK;
    }

    if (ngx_strncmp(value->data, "limit=", 6) == 0) {

        p = value->data + 6;
        comma = ngx_strlchr(p, last, ',');
        if (comma == NULL) {
            return NGX_DECLINED;
        }

        n = ngx_atoi(p, comma - p);
        max = ngx_atoi(comma + 1, last - comma - 1);

        if (n < 1 || max < n || max > NGX_HTTP_HOTPATH_LIST_MAX) {
            return NGX_DECLINED;
        }

        list->limit = n;
        list->limit_max = max;
        return NGX_OK;
    }

    if (ngx_strncmp(value->data, "renew=", 6) == 0 && value->len > 6) {
        list->model.tag.data = value->data + 6;
        list->model.tag.len = value->len - 6;
        return NGX_OK;
    }

    return NGX_DECLINED;
}


char *
ngx_http_hotpath_list_merge(ngx_conf_t *cf, ngx_http_hotpath_loc_conf_t *conf)
{
    u_char                          *p;
    time_t                           kept, expires;
    ngx_str_t                        sql, rule, absent;
    ngx_http_hotpath_list_t         *list;
    ngx_http_hotpath_main_conf_t    *mcf;
    ngx_http_hotpath_cache_rules_t  *rules;

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_hotpath_module);
    list = (ngx_http_hotpath_list_t *) conf->model;
    rules = &list->model.rules;
    rules->field = ngx_http_hotpath_list_field;

    if (mcf->cursors == NULL || mcf->postgres == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"hotpath_list\" of \"%V\" needs \"%s\" at the http "
                      "level in %s:%ui", &list->model.name,
                      mcf->postgres ? "hotpath_cursor_secret"
                                    : "hotpath_postgres",
                      conf->file, conf->line);
        return NGX_CONF_ERROR;
    }

    /* no cursor is given out that is too old already */

    kept = (rules->ttl + ngx_max(rules->revalidate, rules->stale)) / 1000;

    expires = ngx_http_hotpath_cursor_expires(mcf->cursors);

    if (expires && expires <= kept) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"expires\" of \"hotpath_cursor_secret\" must be "
                      "longer than pages of \"%V\" are kept, which is %T "
                      "seconds in %s:%ui", &list->model.name, kept,
                      conf->file, conf->line);
        return NGX_CONF_ERROR;
    }

    list->cursors = mcf->cursors;

    /* what the request says */

    p = ngx_pnalloc(cf->pool, 3 * NGX_INT_T_LEN);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    rule.data = p;
    p = ngx_sprintf(p, "int(1..%ui)", list->limit_max);
    rule.len = p - rule.data;

    absent.data = p;
    absent.len = ngx_sprintf(p, "%ui", list->limit) - p;

    if (ngx_http_hotpath_param_argument(cf, &list->params[0],
                        &ngx_http_hotpath_list_limit_name, &rule, &absent)
           != NGX_CONF_OK
        || ngx_http_hotpath_param_argument(cf, &list->params[1],
                        &ngx_http_hotpath_list_cursor_name, NULL, NULL)
           != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    conf->param.more = list->params;
    conf->param.nmore = 2;

    /* what Postgres is asked */

    sql = conf->list_statement;

    if (sql.data == NULL) {

        if (list->parts != 2) {
            ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                          "\"cursor\" of \"hotpath_list\" must be 2 without "
                          "\"hotpath_list_statement\" in %s:%ui",
                          conf->file, conf->line);
            return NGX_CONF_ERROR;
        }

        sql.data = ngx_pnalloc(cf->pool, sizeof(NGX_HTTP_HOTPATH_LIST_SQL)
                                         + list->model.name.len);
        if (sql.data == NULL) {
            return NGX_CONF_ERROR;
        }

        p = ngx_sprintf(sql.data, NGX_HTTP_HOTPATH_LIST_SQL,
                        &list->model.name);
        sql.len = p - sql.data - 1;
    }

    list->model.statement = ngx_http_hotpath_postgres_statement(cf,
                                                         mcf->postgres, &sql);
    if (list->model.statement == NULL) {
        return NGX_CONF_ERROR;
    }

    if (list->model.tag.len == 0) {
        return NGX_CONF_OK;
    }

    return ngx_http_hotpath_list_watch(cf, list) == NGX_OK ? NGX_CONF_OK
                                                           : NGX_CONF_ERROR;
}


/* One table for all lists. */

static ngx_int_t
ngx_http_hotpath_list_watch(ngx_conf_t *cf, ngx_http_hotpath_list_t *list)
{
    size_t  size;

    /* With what nginx's slab pool keeps for itself: less than 1/64. */

    size = sizeof(ngx_http_hotpath_list_sh_t);
    size += size / 64 + 8 * ngx_pagesize;

    list->changes = ngx_shared_memory_add(cf, &ngx_http_hotpath_list_zone_name,
                                          size,
                                          &ngx_http_hotpath_list_zone_name);
    if (list->changes == NULL) {
        return NGX_ERROR;
    }

    list->changes->init = ngx_http_hotpath_list_init_zone;

    return NGX_OK;
}


static ngx_int_t
ngx_http_hotpath_list_init_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_uint_t                   fresh;
    ngx_http_hotpath_list_sh_t  *sh;

    sh = ngx_http_hotpath_region_init(zone, NGX_HTTP_HOTPATH_LIST_MAGIC,
                                      NGX_HTTP_HOTPATH_LIST_LAYOUT, &fresh);
    if (sh == NULL) {
        return NGX_ERROR;
    }

    if (sh->region.size < sizeof(ngx_http_hotpath_list_sh_t)) {
        ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                      "shared memory zone \"%V\" is too small",
                      &zone->shm.name);
        return NGX_ERROR;
    }

    zone->data = sh;

    return NGX_OK;
}


ngx_int_t
ngx_http_hotpath_list(ngx_http_request_t *r, ngx_http_hotpath_wanted_t *wanted)
{
    u_char                             rows[NGX_INT_T_LEN];
    ngx_int_t                          rc;
    ngx_str_t                         *param, *name;
    ngx_str_t                          params[NGX_HTTP_HOTPATH_LIST_PARAMS
                                              + NGX_HTTP_HOTPATH_LIST_PARTS];
    ngx_uint_t                         i;
    hp_cursor_t                        cursor;
    ngx_http_hotpath_list_t           *list;
    ngx_http_hotpath_list_asked_t      asked;
    ngx_http_hotpath_param_refusal_t   why;

    list = (ngx_http_hotpath_list_t *) wanted->model;

    asked.asked_us = ngx_http_hotpath_wall_us();
    asked.scope = hp_hash64(wanted->zone_key.data, wanted->zone_key.len,
                            NGX_HTTP_HOTPATH_LIST_SCOPE);

    wanted->changed_us = ngx_http_hotpath_list_changed_us(list, wanted);

    name = &ngx_http_hotpath_list_limit_name;
    rc = ngx_http_hotpath_list_limit(r, list, &asked.limit, &why);

    if (rc == NGX_OK) {
        name = &ngx_http_hotpath_list_cursor_name;
        rc = ngx_http_hotpath_list_cursor(r, list, asked.scope, &cursor, &why);
    }

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (rc != NGX_OK) {
        return ngx_http_hotpath_problem_parameter(r, why.problem, name,
                                                  why.reason);
    }

    ngx_http_hotpath_list_zone_key(&wanted->zone_key, asked.limit, &cursor);

    params[0] = wanted->tenant;
    params[1] = wanted->key;
    params[2].data = rows;
    params[2].len = ngx_sprintf(rows, "%ui", asked.limit + 1) - rows;

    for (i = 0; i < list->parts; i++) {
        param = &params[NGX_HTTP_HOTPATH_LIST_PARAMS + i];

        if (i < cursor.count) {
            param->data = (u_char *) cursor.parts[i].bytes.data;
            param->len = cursor.parts[i].bytes.len;

        } else {
            ngx_str_null(param);
        }
    }

    wanted->params = params;
    wanted->nparams = NGX_HTTP_HOTPATH_LIST_PARAMS + list->parts;
    wanted->data = &asked;
    wanted->data_size = sizeof(ngx_http_hotpath_list_asked_t);

    return ngx_http_hotpath_read_through(r, wanted);
}


static ngx_int_t
ngx_http_hotpath_list_limit(ngx_http_request_t *r,
    ngx_http_hotpath_list_t *list, ngx_uint_t *limit,
    ngx_http_hotpath_param_refusal_t *why)
{
    ngx_int_t  rc;
    ngx_str_t  text;

    rc = ngx_http_hotpath_param_get(r, &list->params[0], &text, why);

    if (rc == NGX_OK) {
        *limit = ngx_atoi(text.data, text.len);
    }

    return rc;
}


/* Where the page begins; cursor->count is 0 for the first one. */

static ngx_int_t
ngx_http_hotpath_list_cursor(ngx_http_request_t *r,
    ngx_http_hotpath_list_t *list, uint64_t scope, hp_cursor_t *cursor,
    ngx_http_hotpath_param_refusal_t *why)
{
    ngx_int_t            rc;
    ngx_str_t            text;
    hp_cursor_status_t   status;

    cursor->count = 0;

    rc = ngx_http_hotpath_param_get(r, &list->params[1], &text, why);

    if (rc != NGX_OK || text.data == NULL) {
        return rc;
    }

    status = ngx_http_hotpath_cursor_read(list->cursors, cursor, &text, scope);

    if (status == HP_CURSOR_OK && cursor->count == list->parts) {
        return NGX_OK;
    }

    /* as many parts as another statement needed: no cursor of this list */

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "hotpath: cursor of list \"%V\" refused: status %d, "
                  "%ud parts", &list->model.name, status, cursor->count);

    why->reason = NULL;
    why->problem = status == HP_CURSOR_EXPIRED
                   ? NGX_HTTP_HOTPATH_PROBLEM_CURSOR_EXPIRED
                   : NGX_HTTP_HOTPATH_PROBLEM_CURSOR_INVALID;

    return NGX_DECLINED;
}


/* Behind name, tenant and key, a zero byte (which no key has), and the page's
 * size and place. The place goes in as a hash: it may be long, and two that
 * meet are of the same list. When it expires is no part of it. */

static void
ngx_http_hotpath_list_zone_key(ngx_str_t *zone_key, ngx_uint_t limit,
    hp_cursor_t *cursor)
{
    u_char      *p;
    uint64_t     place[2];
    unsigned     i;
    hp_str_t    *bytes;

    p = zone_key->data + zone_key->len;
    *p++ = '\0';
    p = ngx_sprintf(p, "%ui", limit);

    if (cursor->count) {

        place[0] = NGX_HTTP_HOTPATH_LIST_PLACE;
        place[1] = ~place[0];

        for (i = 0; i < cursor->count; i++) {
            bytes = &cursor->parts[i].bytes;

            place[0] = hp_hash64(bytes->data, bytes->len, place[0]);
            place[1] = hp_hash64(bytes->data, bytes->len,
                                 place[1] + bytes->len);
        }

        *p++ = '\0';
        p = ngx_cpymem(p, place, sizeof(place));
    }

    zone_key->len = p - zone_key->data;
}


/* Rows as a page. */

static ngx_int_t
ngx_http_hotpath_list_page(ngx_http_hotpath_model_t *model, PGresult *result,
    void *data, ngx_pool_t *pool, ngx_http_hotpath_cache_meta_t *meta,
    ngx_http_hotpath_cache_content_t *content)
{
    ngx_http_hotpath_list_t        *list = (ngx_http_hotpath_list_t *) model;
    ngx_http_hotpath_list_asked_t  *asked = data;

    int         i, n, rows;
    u_char      text[HP_CURSOR_TEXT_MAX], *p;
    size_t      size, len;
    ngx_str_t   next;

    static ngx_str_t  begin = ngx_string("{\"data\":[");
    static ngx_str_t  more = ngx_string("\",\"hasMore\":true}");
    static ngx_str_t  last = ngx_string("null,\"hasMore\":false}");
    static ngx_str_t  cursor = ngx_string("],\"nextCursor\":");

    if (PQnfields(result) != 1 + (int) list->parts) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "hotpath: the statement of list \"%V\" gives %d columns "
                      "instead of a document and %ui parts of a cursor",
                      &model->name, PQnfields(result), list->parts);
        return NGX_ERROR;
    }

    /* what fits; the first row always does */

    rows = PQntuples(result);
    size = 0;

    for (n = 0; n < rows && n < (int) asked->limit; n++) {
        len = PQgetlength(result, n, 0);

        if (len == 0) {
            ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                          "hotpath: the statement of list \"%V\" gives a row "
                          "without a document", &model->name);
            return NGX_ERROR;
        }

        if (n && size + len > NGX_HTTP_HOTPATH_LIST_PAGE) {
            break;
        }

        size += len + 1;
    }

    next.data = text;
    next.len = 0;

    if (n < rows
        && ngx_http_hotpath_list_next(list, asked, result, n - 1, &next)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    p = ngx_pnalloc(pool, begin.len + size + cursor.len + 1 + next.len
                          + more.len + last.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    content->body.data = p;
    p = ngx_cpymem(p, begin.data, begin.len);

    for (i = 0; i < n; i++) {
        if (i) {
            *p++ = ',';
        }

        p = ngx_cpymem(p, PQgetvalue(result, i, 0), PQgetlength(result, i, 0));
    }

    p = ngx_cpymem(p, cursor.data, cursor.len);

    if (next.len) {
        *p++ = '"';
        p = ngx_cpymem(p, next.data, next.len);
        p = ngx_cpymem(p, more.data, more.len);

    } else {
        p = ngx_cpymem(p, last.data, last.len);
    }

    content->body.len = p - content->body.data;

    /* of two pages the one is newer that was asked for later */

    meta->version = asked->asked_us;
    meta->modified_us = asked->asked_us;

    return ngx_http_hotpath_list_head(&next, pool, content);
}


/* What goes with the body: its tag, and the cursor of the next page, which is
 * in the field Link until somebody asks under some address. */

static ngx_int_t
ngx_http_hotpath_list_head(ngx_str_t *next, ngx_pool_t *pool,
    ngx_http_hotpath_cache_content_t *content)
{
    u_char                    etag[sizeof("\"\"") + 2 * 16];
    ngx_str_t                *body;
    ngx_http_hotpath_head_t   head;

    body = &content->body;

    head.status = NGX_HTTP_OK;
    ngx_str_set(&head.type, "application/json");
    ngx_str_set(&head.last_modified, "");

    head.etag.data = etag;
    head.etag.len = ngx_sprintf(etag, "\"%016xL%016xL\"",
                                hp_hash64(body->data, body->len, 0),
                                hp_hash64(body->data, body->len, 1))
                    - etag;

    head.fields.len = 4 + ngx_http_hotpath_list_link_name.len + next->len;
    head.fields.data = ngx_pnalloc(pool, head.fields.len);
    if (head.fields.data == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_http_hotpath_field_write(head.fields.data,
                                        &ngx_http_hotpath_list_link_name,
                                        next);

    content->head.len = ngx_http_hotpath_head_size(&head);
    content->head.data = ngx_pnalloc(pool, content->head.len);
    if (content->head.data == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_http_hotpath_head_write(content->head.data, &head);

    return NGX_OK;
}


/* The cursor behind that row. */

static ngx_int_t
ngx_http_hotpath_list_next(ngx_http_hotpath_list_t *list,
    ngx_http_hotpath_list_asked_t *asked, PGresult *result, int row,
    ngx_str_t *next)
{
    ngx_uint_t         i;
    hp_cursor_part_t   parts[NGX_HTTP_HOTPATH_LIST_PARTS];

    for (i = 0; i < list->parts; i++) {

        if (PQgetisnull(result, row, i + 1)) {
            ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                          "hotpath: the statement of list \"%V\" gives a row "
                          "whose place is NULL", &list->model.name);
            return NGX_ERROR;
        }

        parts[i].type = 0;
        parts[i].bytes.data = (u_char *) PQgetvalue(result, row, i + 1);
        parts[i].bytes.len = PQgetlength(result, row, i + 1);
    }

    next->len = ngx_http_hotpath_cursor_write(list->cursors, next->data,
                                              asked->scope, parts,
                                              list->parts);

    if (next->len == 0) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "hotpath: the statement of list \"%V\" gives a row "
                      "whose place is too long for a cursor",
                      &list->model.name);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/*
 * The field Link of an entry holds the cursor of the next page, if there is
 * one; what is sent are links relative to the request's own address (RFC 8288,
 * RFC 3986), with the arguments that it came with: one entry may be had under
 * several addresses.
 */

static ngx_int_t
ngx_http_hotpath_list_field(ngx_http_request_t *r, ngx_str_t *name,
    ngx_str_t *value)
{
    u_char                            *p;
    ngx_int_t                          rc;
    ngx_str_t                          links, query;
    ngx_uint_t                         limit;
    ngx_http_hotpath_loc_conf_t       *lcf;
    ngx_http_hotpath_param_refusal_t   why;

    lcf = ngx_http_get_module_loc_conf(r, ngx_http_hotpath_module);

    rc = ngx_http_hotpath_list_limit(r,
                                (ngx_http_hotpath_list_t *) lcf->model, &limit,
                                &why);
    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    query.data = ngx_pnalloc(r->pool, 3 * r->args.len + sizeof("limit=")
                                      + NGX_INT_T_LEN);
    if (query.data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_http_hotpath_list_query(query.data, &r->args);
    query.len = ngx_sprintf(p, "limit=%ui", limit) - query.data;

    links.data = ngx_pnalloc(r->pool, sizeof("<?&cursor=>; rel=\"next\", "
                                             "<?>; rel=\"first\"")
                                      + 2 * query.len + value->len);
    if (links.data == NULL) {
        return NGX_ERROR;
    }

    p = links.data;

    if (value->len) {
        p = ngx_sprintf(p, "<?%V&cursor=%V>; rel=\"next\", ", &query, value);
    }

    p = ngx_sprintf(p, "<?%V>; rel=\"first\"", &query);
    links.len = p - links.data;

    *value = links;

    return NGX_OK;
}


/* The arguments but those of the list itself, each with '&' behind it; what may
 * not stand in a URI is escaped, lest it ends the link. */

static u_char *
ngx_http_hotpath_list_query(u_char *p, ngx_str_t *args)
{
    u_char      c;
    size_t      i;
    hp_str_t    rest, name, value, limit, cursor, argument;

    limit.data = ngx_http_hotpath_list_limit_name.data;
    limit.len = ngx_http_hotpath_list_limit_name.len;
    cursor.data = ngx_http_hotpath_list_cursor_name.data;
    cursor.len = ngx_http_hotpath_list_cursor_name.len;

    rest.data = args->data;
    rest.len = args->len;

    while (hp_param_next(&rest, &name, &value)) {

        if (hp_param_named(name, limit) || hp_param_named(name, cursor)) {
            continue;
        }

        /* name and value as they stand there, with what is between them */

        argument.data = name.data;
        argument.len = value.data + value.len - name.data;

        for (i = 0; i < argument.len; i++) {
            c = argument.data[i];

            if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
                || (c >= '0' && c <= '9')
                || (c && strchr("-._~!$'()*+,;=:@/?%", c)))
            {
                *p++ = c;

            } else {
                p = ngx_sprintf(p, "%%%02Xd", c);
            }
        }

        *p++ = '&';
    }

    return p;
}


/* When what the list shows last changed, as far as pushes have told. */

static int64_t
ngx_http_hotpath_list_changed_us(ngx_http_hotpath_list_t *list,
    ngx_http_hotpath_wanted_t *wanted)
{
    int64_t   one, all;
    hp_str_t  tenant, key;

    if (list->changes == NULL) {
        return 0;
    }

    tenant.data = wanted->tenant.data;
    tenant.len = wanted->tenant.len;
    key.data = wanted->key.data;
    key.len = wanted->key.len;

    one = __atomic_load_n(ngx_http_hotpath_list_slot(list, tenant, key),
                          __ATOMIC_RELAXED);
    key.len = 0;
    all = __atomic_load_n(ngx_http_hotpath_list_slot(list, tenant, key),
                          __ATOMIC_RELAXED);

    return ngx_max(one, all);
}


void
ngx_http_hotpath_list_changed(ngx_http_hotpath_model_t *model, hp_doc_t *doc)
{
    ngx_http_hotpath_list_t  *list = (ngx_http_hotpath_list_t *) model;

    int               is_string;
    hp_str_t          name, key;
    hp_json_slice_t   value;

    if (list->changes == NULL) {
        return;
    }

    /* a deletion says no more than that some list of the tenant changed */

    key.data = NULL;
    key.len = 0;

    if (!doc->deleted) {
        name.data = model->tag.data;
        name.len = model->tag.len;

        if (!hp_json_member(doc->document, name, &value, &is_string)) {
            return;
        }

        if (!value.escaped) {
            key = value.raw;
        }
    }

    /* by the clock, not by nginx's idea of it, which is as old as this turn of
     * the event loop: a page that was asked for before this moment must not
     * pass for a later one */

    __atomic_store_n(ngx_http_hotpath_list_slot(list, doc->tenant, key),
                     ngx_http_hotpath_wall_us(), __ATOMIC_RELAXED);
}


/* Of one list, or with an empty key of all lists of the tenant. */

static int64_t *
ngx_http_hotpath_list_slot(ngx_http_hotpath_list_t *list, hp_str_t tenant,
    hp_str_t key)
{
    uint64_t                     hash;
    ngx_http_hotpath_list_sh_t  *sh;

    sh = list->changes->data;

    hash = hp_hash64(list->model.name.data, list->model.name.len,
                     NGX_HTTP_HOTPATH_LIST_SLOT);
    hash = hp_hash64(tenant.data, tenant.len, hash);
    hash = hp_hash64(key.data, key.len, hash + key.len);

    return &sh->slots[hash % NGX_HTTP_HOTPATH_LIST_SLOTS];
}
