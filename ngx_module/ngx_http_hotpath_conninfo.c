/*
 * ngx_http_hotpath_conninfo.c: a libpq connection string made safe to use on
 * an event loop.
 *
 * libpq itself reads the operator's text, so everything it knows is allowed
 * (several hosts, target_session_attrs, TLS files). What would make it wait
 * later is settled here: host names become addresses (libpq resolves with a
 * blocking call), a default host is fixed, Kerberos is not looked for unless
 * asked for, a service file, which could bring a name, is refused. Runs in the
 * master, or in `nginx -t`, while the configuration is read; all memory is that
 * configuration's. An address that changes is seen at the next reload.
 *
 * What must never happen here: a password in a log. Test: tests/integration/.
 */
#include "ngx_http_hotpath_conninfo.h"
#include <libpq-fe.h>


#define NGX_HTTP_HOTPATH_CONNINFO_HOSTS_MAX  16

/* Those that may be added to what the text has: options, client_encoding,
 * gssencmode, fallback_application_name, host, hostaddr, port; and the end. */
#define NGX_HTTP_HOTPATH_CONNINFO_ADDED      8


/* As libpq wants them: comma-separated, as many of each. */
typedef struct {
    ngx_str_t  host;
    ngx_str_t  hostaddr;
    ngx_str_t  port;
} ngx_http_hotpath_hosts_t;


static ngx_int_t ngx_http_hotpath_conninfo_resolve(ngx_conf_t *cf,
    ngx_http_hotpath_hosts_t *hosts);
static ngx_int_t ngx_http_hotpath_conninfo_join(ngx_conf_t *cf,
    ngx_str_t *list, ngx_array_t *elements);
static ngx_uint_t ngx_http_hotpath_conninfo_next(ngx_str_t *list,
    ngx_str_t *element);
static ngx_int_t ngx_http_hotpath_conninfo_add(ngx_conf_t *cf,
    ngx_http_hotpath_conninfo_t *conninfo, const char *keyword,
    ngx_str_t *value);


static ngx_str_t  ngx_http_hotpath_conninfo_encoding = ngx_string("UTF8");
static ngx_str_t  ngx_http_hotpath_conninfo_gss = ngx_string("disable");
static ngx_str_t  ngx_http_hotpath_conninfo_name = ngx_string("hotpath");


ngx_int_t
ngx_http_hotpath_conninfo_parse(ngx_conf_t *cf, ngx_str_t *text,
    ngx_msec_t timeout, ngx_http_hotpath_conninfo_t *conninfo)
{
    char                      *error;
    u_char                    *p;
    ngx_int_t                  rc;
    ngx_str_t                  value, options, encoding, gss, name;
    ngx_uint_t                 n;
    PQconninfoOption          *parsed, *defaults, *o;
    ngx_http_hotpath_hosts_t   hosts;

    error = NULL;
    defaults = NULL;
    rc = NGX_ERROR;

    parsed = PQconninfoParse((char *) text->data, &error);

    if (parsed == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid connection string: %s",
                           error ? error : "no memory");
        PQfreemem(error);
        return NGX_ERROR;
    }

    for (n = 0; parsed[n].keyword; n++) { /* void */ }

    n += NGX_HTTP_HOTPATH_CONNINFO_ADDED;

    conninfo->keywords = ngx_pcalloc(cf->pool, n * sizeof(char *));
    conninfo->values = ngx_pcalloc(cf->pool, n * sizeof(char *));

    if (conninfo->keywords == NULL || conninfo->values == NULL) {
        goto done;
    }

    ngx_memzero(&hosts, sizeof(ngx_http_hotpath_hosts_t));
    ngx_str_null(&options);
    encoding = ngx_http_hotpath_conninfo_encoding;
    gss = ngx_http_hotpath_conninfo_gss;
    name = ngx_http_hotpath_conninfo_name;

    for (o = parsed; o->keyword; o++) {

        if (o->val == NULL) {
            continue;
        }

        value.data = (u_char *) o->val;
        value.len = ngx_strlen(o->val);

        if (ngx_strcmp(o->keyword, "service") == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"service\" is not supported in a connection "
                               "string, write its settings instead");
            goto done;
        }

        if (ngx_strcmp(o->keyword, "host") == 0) {
            hosts.host = value;

        } else if (ngx_strcmp(o->keyword, "hostaddr") == 0) {
            hosts.hostaddr = value;

        } else if (ngx_strcmp(o->keyword, "port") == 0) {
            hosts.port = value;

        } else if (ngx_strcmp(o->keyword, "options") == 0) {
            options = value;

        } else if (ngx_strcmp(o->keyword, "client_encoding") == 0) {
            encoding = value;

        } else if (ngx_strcmp(o->keyword, "gssencmode") == 0) {
            gss = value;

        } else if (ngx_strcmp(o->keyword, "fallback_application_name") == 0) {
            name = value;

        } else if (ngx_http_hotpath_conninfo_add(cf, conninfo, o->keyword,
                                                 &value)
                   != NGX_OK)
        {
            goto done;
        }
    }

    if (hosts.host.len == 0 && hosts.hostaddr.len == 0) {

        /* Now, rather than in a worker whose environment may have a name. */

        defaults = PQconndefaults();

        for (o = defaults; o && o->keyword; o++) {
            if (ngx_strcmp(o->keyword, "host") == 0 && o->val) {
                hosts.host.data = (u_char *) o->val;
                hosts.host.len = ngx_strlen(o->val);
            }
        }
    }

    if (hosts.hostaddr.len == 0 && hosts.host.len
        && ngx_http_hotpath_conninfo_resolve(cf, &hosts) != NGX_OK)
    {
        goto done;
    }

    /* Ours first, so that the operator's own may override it. */

    p = ngx_pnalloc(cf->pool, sizeof("-c statement_timeout= ") + NGX_INT_T_LEN
                              + options.len);
    if (p == NULL) {
        goto done;
    }

    value.data = p;
    p = ngx_sprintf(p, "-c statement_timeout=%M", timeout);
    p = ngx_sprintf(p, options.len ? " %V" : "%V", &options);
    value.len = p - value.data;

    if (ngx_http_hotpath_conninfo_add(cf, conninfo, "options", &value)
           != NGX_OK
        || ngx_http_hotpath_conninfo_add(cf, conninfo, "client_encoding",
                                         &encoding)
           != NGX_OK
        || ngx_http_hotpath_conninfo_add(cf, conninfo, "gssencmode", &gss)
           != NGX_OK
        || ngx_http_hotpath_conninfo_add(cf, conninfo,
                                         "fallback_application_name", &name)
           != NGX_OK
        || ngx_http_hotpath_conninfo_add(cf, conninfo, "host", &hosts.host)
           != NGX_OK
        || ngx_http_hotpath_conninfo_add(cf, conninfo, "hostaddr",
                                         &hosts.hostaddr)
           != NGX_OK
        || ngx_http_hotpath_conninfo_add(cf, conninfo, "port", &hosts.port)
           != NGX_OK)
    {
        goto done;
    }

    rc = NGX_OK;

done:

    PQconninfoFree(parsed);
    PQconninfoFree(defaults);

    return rc;
}


static ngx_int_t
ngx_http_hotpath_conninfo_resolve(ngx_conf_t *cf,
    ngx_http_hotpath_hosts_t *hosts)
{
    u_char       text[NGX_SOCKADDR_STRLEN];
    size_t       len;
    ngx_str_t    list, ports, host, port, *s;
    ngx_url_t    u;
    ngx_uint_t   i, one_port;
    ngx_array_t  out_hosts, out_addrs, out_ports;

    if (ngx_array_init(&out_hosts, cf->temp_pool, 4, sizeof(ngx_str_t))
           != NGX_OK
        || ngx_array_init(&out_addrs, cf->temp_pool, 4, sizeof(ngx_str_t))
           != NGX_OK
        || ngx_array_init(&out_ports, cf->temp_pool, 4, sizeof(ngx_str_t))
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    list = hosts->host;
    ports = hosts->port;
    one_port = ports.len == 0 || ngx_strlchr(ports.data,
                                             ports.data + ports.len, ',')
                                 == NULL;
    port = ports;

    while (ngx_http_hotpath_conninfo_next(&list, &host)) {

        if (!one_port && !ngx_http_hotpath_conninfo_next(&ports, &port)) {
            goto mismatch;
        }

        ngx_memzero(&u, sizeof(ngx_url_t));

        if (host.len == 0 || host.data[0] == '/' || host.data[0] == '@') {

            /* a unix socket, or libpq's default, which is one */

            u.naddrs = 1;

        } else {
            u.url = host;
            u.host = host;

            if (ngx_inet_resolve_host(cf->pool, &u) != NGX_OK) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "%s in connection string, host \"%V\"",
                                   u.err ? u.err : "no memory", &host);
                return NGX_ERROR;
            }
        }

        for (i = 0; i < u.naddrs; i++) {

            if (out_hosts.nelts == NGX_HTTP_HOTPATH_CONNINFO_HOSTS_MAX) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "more than %d addresses in connection "
                                   "string",
                                   NGX_HTTP_HOTPATH_CONNINFO_HOSTS_MAX);
                return NGX_ERROR;
            }

            s = ngx_array_push(&out_hosts);
            if (s == NULL) {
                return NGX_ERROR;
            }

            *s = host;

            s = ngx_array_push(&out_ports);
            if (s == NULL) {
                return NGX_ERROR;
            }

            *s = port;

            s = ngx_array_push(&out_addrs);
            if (s == NULL) {
                return NGX_ERROR;
            }

            ngx_str_null(s);

            if (u.addrs == NULL) {
                continue;
            }

            len = ngx_sock_ntop(u.addrs[i].sockaddr, u.addrs[i].socklen, text,
                                NGX_SOCKADDR_STRLEN, 0);

            s->len = len;
            s->data = ngx_pnalloc(cf->temp_pool, len);
            if (s->data == NULL) {
                return NGX_ERROR;
            }

            ngx_memcpy(s->data, text, len);
        }
    }

    if (!one_port && ngx_http_hotpath_conninfo_next(&ports, &port)) {
        goto mismatch;
    }

    if (ngx_http_hotpath_conninfo_join(cf, &hosts->host, &out_hosts) != NGX_OK
        || ngx_http_hotpath_conninfo_join(cf, &hosts->hostaddr, &out_addrs)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (one_port) {
        return NGX_OK;
    }

    return ngx_http_hotpath_conninfo_join(cf, &hosts->port, &out_ports);

mismatch:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "connection string has another number of ports "
                       "than of hosts");
    return NGX_ERROR;
}


static ngx_int_t
ngx_http_hotpath_conninfo_join(ngx_conf_t *cf, ngx_str_t *list,
    ngx_array_t *elements)
{
    u_char      *p;
    size_t       len;
    ngx_str_t   *s;
    ngx_uint_t   i;

    s = elements->elts;
    len = 0;

    for (i = 0; i < elements->nelts; i++) {
        len += s[i].len + 1;
    }

    p = ngx_pnalloc(cf->temp_pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    list->data = p;

    for (i = 0; i < elements->nelts; i++) {
        if (i) {
            *p++ = ',';
        }

        if (s[i].len) {
            p = ngx_cpymem(p, s[i].data, s[i].len);
        }
    }

    list->len = p - list->data;

    return NGX_OK;
}


/* Takes one element off the front; the list's data becomes NULL with the last
 * one. */

static ngx_uint_t
ngx_http_hotpath_conninfo_next(ngx_str_t *list, ngx_str_t *element)
{
    u_char  *comma;

    if (list->data == NULL) {
        return 0;
    }

    comma = ngx_strlchr(list->data, list->data + list->len, ',');

    *element = *list;

    if (comma == NULL) {
        ngx_str_null(list);
        return 1;
    }

    element->len = comma - list->data;
    list->len -= element->len + 1;
    list->data = comma + 1;

    return 1;
}


/* libpq takes an empty value as the default, so nothing is left out. */

static ngx_int_t
ngx_http_hotpath_conninfo_add(ngx_conf_t *cf,
    ngx_http_hotpath_conninfo_t *conninfo, const char *keyword,
    ngx_str_t *value)
{
    u_char      *k, *v;
    ngx_uint_t   i;

    for (i = 0; conninfo->keywords[i]; i++) { /* void */ }

    k = ngx_pnalloc(cf->pool, ngx_strlen(keyword) + 1);
    v = ngx_pnalloc(cf->pool, value->len + 1);

    if (k == NULL || v == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(k, keyword, ngx_strlen(keyword) + 1);

    if (value->len) {
        ngx_memcpy(v, value->data, value->len);
    }

    v[value->len] = '\0';

    conninfo->keywords[i] = (char *) k;
    conninfo->values[i] = (char *) v;

    return NGX_OK;
}
