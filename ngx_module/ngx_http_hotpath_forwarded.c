/*
 * ngx_http_hotpath_forwarded.c: the client's address, scheme and host, as far
 * as trusted proxies vouch for them.
 *
 * Whatever a stranger can write into a header is not believed. A header counts
 * only where the peer is a trusted proxy, and of X-Forwarded-For only the part
 * that trusted proxies wrote: walking from the right, what the last trusted
 * address reports. An element that is no address ends the walk at the last
 * good one, since nothing left of it can be accounted for.
 *
 * Owns nothing; values point into the request or its pool. Runs in workers,
 * when a variable is first read, and its answer is kept for the request. Must
 * do a bounded amount of work whatever the headers say.
 *
 * Reference: README.md, "Gate"; tested by tests/integration/test_gate.py, the
 * grammar by tests/unit/test_header.c.
 */
#include "ngx_http_hotpath_forwarded.h"
#include "core/hp_header.h"


#define NGX_HTTP_HOTPATH_FORWARDED_LINES     8
#define NGX_HTTP_HOTPATH_FORWARDED_ELEMENTS  32


/* The last field lines of one name, in the order they came. */
typedef struct {
    ngx_uint_t   n;
    ngx_str_t   *lines[NGX_HTTP_HOTPATH_FORWARDED_LINES];
} ngx_http_hotpath_forwarded_lines_t;


static ngx_int_t ngx_http_hotpath_forwarded_addr(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_hotpath_forwarded_scheme(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_hotpath_forwarded_host(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);

static ngx_int_t ngx_http_hotpath_forwarded_previous(
    ngx_http_hotpath_forwarded_lines_t *found, hp_str_t *rest,
    ngx_sockaddr_t *sa);
static ngx_int_t ngx_http_hotpath_forwarded_text(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, struct sockaddr *sa);
static ngx_array_t *ngx_http_hotpath_forwarded_peer(ngx_http_request_t *r);
static void ngx_http_hotpath_forwarded_find(ngx_http_request_t *r,
    ngx_str_t *name, ngx_http_hotpath_forwarded_lines_t *found);
static ngx_int_t ngx_http_hotpath_forwarded_last(ngx_http_request_t *r,
    ngx_str_t *name, ngx_str_t *value);


static ngx_str_t  ngx_http_hotpath_forwarded_for =
    ngx_string("x-forwarded-for");
static ngx_str_t  ngx_http_hotpath_forwarded_proto =
    ngx_string("x-forwarded-proto");
static ngx_str_t  ngx_http_hotpath_forwarded_host_name =
    ngx_string("x-forwarded-host");


static ngx_http_variable_t  ngx_http_hotpath_forwarded_vars[] = {

    { ngx_string("hotpath_client_addr"), NULL,
      ngx_http_hotpath_forwarded_addr, 0, 0, 0 },

    { ngx_string("hotpath_client_scheme"), NULL,
      ngx_http_hotpath_forwarded_scheme, 0, 0, 0 },

    { ngx_string("hotpath_client_host"), NULL,
      ngx_http_hotpath_forwarded_host, 0, 0, 0 },

      ngx_http_null_variable
};


/* The same for every configuration of this module. */
static ngx_array_t  *(*ngx_http_hotpath_forwarded_trusted)(
    ngx_http_request_t *r);


char *
ngx_http_hotpath_trusted_proxy(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char         *p = conf;

    ngx_int_t     rc;
    ngx_str_t    *value;
    ngx_uint_t    i;
    ngx_cidr_t   *cidr;
    ngx_array_t **trusted;

    trusted = (ngx_array_t **) (p + cmd->offset);

    if (*trusted == NULL || *trusted == NGX_CONF_UNSET_PTR) {
        *trusted = ngx_array_create(cf->pool, 4, sizeof(ngx_cidr_t));
        if (*trusted == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        cidr = ngx_array_push(*trusted);
        if (cidr == NULL) {
            return NGX_CONF_ERROR;
        }

        ngx_memzero(cidr, sizeof(ngx_cidr_t));

#if (NGX_HAVE_UNIX_DOMAIN)

        if (ngx_strcmp(value[i].data, "unix:") == 0) {
            cidr->family = AF_UNIX;
            continue;
        }

#endif

        rc = ngx_ptocidr(&value[i], cidr);

        if (rc == NGX_ERROR) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid address or network \"%V\"", &value[i]);
            return NGX_CONF_ERROR;
        }

        if (rc == NGX_DONE) {
            ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                               "low address bits of \"%V\" are meaningless",
                               &value[i]);
        }
    }

    return NGX_CONF_OK;
}


ngx_int_t
ngx_http_hotpath_forwarded_variables(ngx_conf_t *cf,
    ngx_array_t *(*trusted)(ngx_http_request_t *r))
{
    ngx_http_variable_t  *var, *v;

    ngx_http_hotpath_forwarded_trusted = trusted;

    for (v = ngx_http_hotpath_forwarded_vars; v->name.len; v++) {

        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hotpath_forwarded_addr(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    hp_str_t                             rest;
    ngx_uint_t                           walked;
    ngx_array_t                         *trusted;
    ngx_sockaddr_t                       next, client;
    struct sockaddr                     *sa;
    ngx_http_hotpath_forwarded_lines_t   found;

    sa = r->connection->sockaddr;
    trusted = ngx_http_hotpath_forwarded_peer(r);

    if (trusted) {
        ngx_http_hotpath_forwarded_find(r, &ngx_http_hotpath_forwarded_for,
                                        &found);
        rest.data = NULL;
        rest.len = 0;

        for (walked = 0;
             walked < NGX_HTTP_HOTPATH_FORWARDED_ELEMENTS;
             walked++)
        {
            if (ngx_http_hotpath_forwarded_previous(&found, &rest, &next)
                != NGX_OK)
            {
                break;
            }

            client = next;
            sa = &client.sockaddr;

            if (ngx_cidr_match(sa, trusted) != NGX_OK) {
                break;
            }
        }
    }

    return ngx_http_hotpath_forwarded_text(r, v, sa);
}


/* The address before the one that was given last; NGX_DECLINED: no more, or
 * none that can be read. */

static ngx_int_t
ngx_http_hotpath_forwarded_previous(ngx_http_hotpath_forwarded_lines_t *found,
    hp_str_t *rest, ngx_sockaddr_t *sa)
{
    int        rc;
    u_char    *p;
    hp_str_t   element;

    for ( ;; ) {

        rc = hp_forwarded_previous(rest, &element);

        if (rc < 0) {
            return NGX_DECLINED;
        }

        if (rc > 0) {
            break;
        }

        if (found->n == 0) {
            return NGX_DECLINED;
        }

        found->n--;

        rest->data = found->lines[found->n]->data;
        rest->len = found->lines[found->n]->len;
    }

    ngx_memzero(sa, sizeof(ngx_sockaddr_t));

    p = (u_char *) element.data;

    sa->sockaddr_in.sin_addr.s_addr = ngx_inet_addr(p, element.len);

    if (sa->sockaddr_in.sin_addr.s_addr != INADDR_NONE) {
        sa->sockaddr.sa_family = AF_INET;
        return NGX_OK;
    }

#if (NGX_HAVE_INET6)

    ngx_memzero(sa, sizeof(ngx_sockaddr_t));

    if (ngx_inet6_addr(p, element.len, sa->sockaddr_in6.sin6_addr.s6_addr)
        == NGX_OK)
    {
        sa->sockaddr.sa_family = AF_INET6;
        return NGX_OK;
    }

#endif

    return NGX_DECLINED;
}


/* One text for one address: an IPv4 address stays one when it came in IPv6's
 * clothes, so that it is one key of a rate limit. */

static ngx_int_t
ngx_http_hotpath_forwarded_text(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, struct sockaddr *sa)
{
    u_char               *p;
    ngx_uint_t            mapped;
#if (NGX_HAVE_INET6)
    struct sockaddr_in6  *sin6;
#endif

    mapped = 0;

#if (NGX_HAVE_INET6)

    sin6 = (struct sockaddr_in6 *) sa;

    if (sa->sa_family == AF_INET6
        && IN6_IS_ADDR_V4MAPPED(&sin6->sin6_addr))
    {
        mapped = 1;
    }

#endif

    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    if (sa == r->connection->sockaddr && !mapped) {
        v->data = r->connection->addr_text.data;
        v->len = r->connection->addr_text.len;
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, NGX_SOCKADDR_STRLEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    v->data = p;

    switch (sa->sa_family) {

#if (NGX_HAVE_INET6)
    case AF_INET6:
        if (mapped) {
            v->len = ngx_inet_ntop(AF_INET, &sin6->sin6_addr.s6_addr[12], p,
                                   NGX_SOCKADDR_STRLEN);
            break;
        }

        v->len = ngx_inet_ntop(AF_INET6, &sin6->sin6_addr, p,
                               NGX_SOCKADDR_STRLEN);
        break;
#endif

    default: /* AF_INET */
        v->len = ngx_inet_ntop(AF_INET,
                               &((struct sockaddr_in *) sa)->sin_addr, p,
                               NGX_SOCKADDR_STRLEN);
        break;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hotpath_forwarded_scheme(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t   value;
    ngx_uint_t  https;

    https = 0;

#if (NGX_HTTP_SSL)

    https = (r->connection->ssl != NULL);

#endif

    if (ngx_http_hotpath_forwarded_last(r, &ngx_http_hotpath_forwarded_proto,
                                        &value)
        == NGX_OK)
    {
        if (value.len == 5
            && ngx_strncasecmp(value.data, (u_char *) "https", 5) == 0)
        {
            https = 1;

        } else if (value.len == 4
                   && ngx_strncasecmp(value.data, (u_char *) "http", 4) == 0)
        {
            https = 0;
        }
    }

    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->data = (u_char *) (https ? "https" : "http");
    v->len = https ? 5 : 4;

    return NGX_OK;
}


/* Like nginx's $host: lower case, without a port. */

static ngx_int_t
ngx_http_hotpath_forwarded_host(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                    *p;
    hp_str_t                   text;
    ngx_str_t                  value;
    ngx_http_core_srv_conf_t  *cscf;

    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;

    if (ngx_http_hotpath_forwarded_last(r,
                                        &ngx_http_hotpath_forwarded_host_name,
                                        &value)
        == NGX_OK)
    {
        text.data = value.data;
        text.len = value.len;

        if (hp_host_valid(text)) {

            p = ngx_strlchr(value.data, value.data + value.len, ']');

            if (p == NULL) {
                p = value.data;
            }

            p = ngx_strlchr(p, value.data + value.len, ':');

            if (p) {
                value.len = p - value.data;
            }

            p = ngx_pnalloc(r->pool, value.len);
            if (p == NULL) {
                return NGX_ERROR;
            }

            ngx_strlow(p, value.data, value.len);

            v->data = p;
            v->len = value.len;

            return NGX_OK;
        }
    }

    value = r->headers_in.server;

    if (value.len == 0) {
        cscf = ngx_http_get_module_srv_conf(r, ngx_http_core_module);
        value = cscf->server_name;
    }

    v->data = value.data;
    v->len = value.len;

    return NGX_OK;
}


/* The trusted proxies, if the peer is one of them; else NULL. */

static ngx_array_t *
ngx_http_hotpath_forwarded_peer(ngx_http_request_t *r)
{
    ngx_array_t  *trusted;

    trusted = ngx_http_hotpath_forwarded_trusted(r);

    if (trusted == NULL || trusted == NGX_CONF_UNSET_PTR
        || ngx_cidr_match(r->connection->sockaddr, trusted) != NGX_OK)
    {
        return NULL;
    }

    return trusted;
}


/* nginx's own list of headers, since what it keeps of a name with several
 * lines differs from version to version. */

static void
ngx_http_hotpath_forwarded_find(ngx_http_request_t *r, ngx_str_t *name,
    ngx_http_hotpath_forwarded_lines_t *found)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    found->n = 0;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len != name->len
                || ngx_strncmp(h[i].lowcase_key, name->data, name->len) != 0)
            {
                continue;
            }

            if (found->n == NGX_HTTP_HOTPATH_FORWARDED_LINES) {
                found->n--;
                ngx_memmove(&found->lines[0], &found->lines[1],
                            found->n * sizeof(ngx_str_t *));
            }

            found->lines[found->n++] = &h[i].value;
        }
    }
}


/* What the peer itself said: the rightmost element of the last line. NGX_OK, or
 * NGX_DECLINED where the peer is not trusted or said nothing. */

static ngx_int_t
ngx_http_hotpath_forwarded_last(ngx_http_request_t *r, ngx_str_t *name,
    ngx_str_t *value)
{
    u_char                              *p, *last;
    ngx_http_hotpath_forwarded_lines_t   found;

    if (ngx_http_hotpath_forwarded_peer(r) == NULL) {
        return NGX_DECLINED;
    }

    ngx_http_hotpath_forwarded_find(r, name, &found);

    if (found.n == 0) {
        return NGX_DECLINED;
    }

    *value = *found.lines[found.n - 1];

    last = value->data + value->len;

    while (last > value->data && (last[-1] == ' ' || last[-1] == '\t')) {
        last--;
    }

    for (p = last; p > value->data && p[-1] != ','; p--) { /* void */ }

    while (p < last && (*p == ' ' || *p == '\t')) {
        p++;
    }

    value->data = p;
    value->len = last - p;

    return value->len ? NGX_OK : NGX_DECLINED;
}
