/*
 * ngx_http_hotpath_conninfo.c: a libpq connection string made safe to use on
 * an event loop.
 *
 * libpq itself reads the operator's text, so everything it knows is allowed
 * (several hosts, target_session_attrs, TLS files). What would make it wait
 * later is settled here: host names become addresses (libpq resolves with a
 * blocking call), a default host is fixed, Kerberos is not looked for unless
 * asked for, a service file, which could bring a name, is refused. The list of
 * hosts is taken apart, one by one, because libpq left to itself waits for a
 * silent one for as long as the kernel does. Runs in the master, or in
 * `nginx -t`, while the configuration is read; all memory is that
 * configuration's.
 *
 * What must never happen here: a password in a log. Reference: README.md,
 * "hotpath_postgres"; test: tests/integration/test_postgres.py.
 */
#include "ngx_http_hotpath_conninfo.h"
#include <libpq-fe.h>


#define NGX_HTTP_HOTPATH_CONNINFO_CONNECT_MS  2000

/* Those that may be added to what the text has: the chosen ones, options,
 * client_encoding, gssencmode, fallback_application_name, tcp_user_timeout,
 * keepalives_idle, keepalives_interval, keepalives_count; and the end. */
#define NGX_HTTP_HOTPATH_CONNINFO_ADDED  (NGX_HTTP_HOTPATH_CONNINFO_CHOSEN + 9)


/* What a text leaves out, and what it then is. */
typedef struct {
    const char  *keyword;
    const char  *value;
} ngx_http_hotpath_conninfo_default_t;


/* As the text has them: comma-separated. */
typedef struct {
    ngx_str_t  host;
    ngx_str_t  hostaddr;
    ngx_str_t  port;
} ngx_http_hotpath_conninfo_lists_t;


static ngx_int_t ngx_http_hotpath_conninfo_chosen(ngx_conf_t *cf,
    PQconninfoOption *o, ngx_str_t *value,
    ngx_http_hotpath_conninfo_lists_t *lists,
    ngx_http_hotpath_conninfo_t *conninfo);
static ngx_int_t ngx_http_hotpath_conninfo_hosts(ngx_conf_t *cf,
    ngx_http_hotpath_conninfo_lists_t *lists,
    ngx_http_hotpath_conninfo_t *conninfo);
static ngx_int_t ngx_http_hotpath_conninfo_resolve(ngx_conf_t *cf,
    ngx_http_hotpath_conninfo_host_t *host);
static ngx_uint_t ngx_http_hotpath_conninfo_count(ngx_str_t *list);
static void ngx_http_hotpath_conninfo_next(ngx_str_t *list,
    ngx_str_t *element);
static ngx_int_t ngx_http_hotpath_conninfo_add(ngx_conf_t *cf,
    ngx_http_hotpath_conninfo_t *conninfo, const char *keyword,
    ngx_str_t *value);
static char *ngx_http_hotpath_conninfo_terminated(ngx_conf_t *cf,
    ngx_str_t *s);


static ngx_http_hotpath_conninfo_default_t
    ngx_http_hotpath_conninfo_defaults[] =
{
    { "client_encoding", "UTF8" },
    { "gssencmode", "disable" },
    { "fallback_application_name", "hotpath" },

    /* A peer that is gone without a word is found out also by a connection
     * that has nothing to say. */

    { "keepalives_idle", "30" },
    { "keepalives_interval", "5" },
    { "keepalives_count", "3" },
    { NULL, NULL }
};


static const char  *ngx_http_hotpath_conninfo_slots[] = {
    "host",
    "hostaddr",
    "port",
    "target_session_attrs"
};

static const char  *ngx_http_hotpath_conninfo_attrs[] = {
    "any",
    "read-write",
    "read-only",
    "primary",
    "standby",
    NULL
};


ngx_int_t
ngx_http_hotpath_conninfo_parse(ngx_conf_t *cf, ngx_str_t *text,
    ngx_msec_t statement_timeout, ngx_msec_t user_timeout,
    ngx_http_hotpath_conninfo_t *conninfo)
{
    char                                 *error;
    u_char                               *p;
    ngx_int_t                             rc;
    ngx_str_t                             value, options, wait;
    ngx_uint_t                            i, n;
    PQconninfoOption                     *parsed, *defaults, *o;
    ngx_http_hotpath_conninfo_lists_t     lists;
    ngx_http_hotpath_conninfo_default_t  *d;

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

    ngx_memzero(conninfo, sizeof(ngx_http_hotpath_conninfo_t));

    conninfo->keywords = ngx_pcalloc(cf->pool, n * sizeof(char *));
    conninfo->values = ngx_pcalloc(cf->pool, n * sizeof(char *));

    if (conninfo->keywords == NULL || conninfo->values == NULL) {
        goto done;
    }

    for (i = 0; i < NGX_HTTP_HOTPATH_CONNINFO_CHOSEN; i++) {
        conninfo->keywords[i] = ngx_http_hotpath_conninfo_slots[i];
        conninfo->values[i] = "";
    }

    conninfo->attrs[0] = "any";
    conninfo->nattrs = 1;
    conninfo->connect_timeout = NGX_HTTP_HOTPATH_CONNINFO_CONNECT_MS;

    ngx_memzero(&lists, sizeof(ngx_http_hotpath_conninfo_lists_t));
    ngx_str_null(&options);
    ngx_str_null(&wait);

    for (o = parsed; o->keyword; o++) {

        if (o->val == NULL) {
            continue;
        }

        value.data = (u_char *) o->val;
        value.len = ngx_strlen(o->val);

        if (ngx_strcmp(o->keyword, "options") == 0) {
            options = value;
            continue;
        }

        if (ngx_strcmp(o->keyword, "tcp_user_timeout") == 0) {
            wait = value;
        }

        rc = ngx_http_hotpath_conninfo_chosen(cf, o, &value, &lists,
                                              conninfo);

        if (rc == NGX_DECLINED) {
            rc = ngx_http_hotpath_conninfo_add(cf, conninfo, o->keyword,
                                               &value);
        }

        if (rc != NGX_OK) {
            goto done;
        }
    }

    rc = NGX_ERROR;

    if (lists.host.len == 0 && lists.hostaddr.len == 0) {

        /* Now, rather than in a worker whose environment may have a name. */

        defaults = PQconndefaults();

        for (o = defaults; o && o->keyword; o++) {
            if (ngx_strcmp(o->keyword, "host") == 0 && o->val) {
                lists.host.data = (u_char *) o->val;
                lists.host.len = ngx_strlen(o->val);
            }
        }
    }

    if (ngx_http_hotpath_conninfo_hosts(cf, &lists, conninfo) != NGX_OK) {
        goto done;
    }

    for (d = ngx_http_hotpath_conninfo_defaults; d->keyword; d++) {

        for (i = 0; conninfo->keywords[i]; i++) {
            if (ngx_strcmp(conninfo->keywords[i], d->keyword) == 0) {
                break;
            }
        }

        if (conninfo->keywords[i] == NULL) {
            conninfo->keywords[i] = d->keyword;
            conninfo->values[i] = d->value;
        }
    }

    p = ngx_pnalloc(cf->temp_pool, sizeof("-c statement_timeout= ")
                                   + 2 * NGX_INT_T_LEN + options.len);
    if (p == NULL) {
        goto done;
    }

    if (wait.data == NULL) {
        value.data = p;
        value.len = ngx_sprintf(p, "%M", user_timeout) - p;

        if (ngx_http_hotpath_conninfo_add(cf, conninfo, "tcp_user_timeout",
                                          &value)
            != NGX_OK)
        {
            goto done;
        }
    }

    value = options;

    if (statement_timeout) {

        /* Ours first, so that the operator's own may override it. */

        value.data = p;
        p = ngx_sprintf(p, "-c statement_timeout=%M", statement_timeout);
        p = ngx_sprintf(p, options.len ? " %V" : "%V", &options);
        value.len = p - value.data;
    }

    /* A pooler may refuse the very name, so it is not there without need. */

    if (value.len) {
        rc = ngx_http_hotpath_conninfo_add(cf, conninfo, "options", &value);

    } else {
        rc = NGX_OK;
    }

done:

    PQconninfoFree(parsed);
    PQconninfoFree(defaults);

    return rc;
}


/* What is not handed to libpq as it is. NGX_DECLINED: nothing of that kind. */

static ngx_int_t
ngx_http_hotpath_conninfo_chosen(ngx_conf_t *cf, PQconninfoOption *o,
    ngx_str_t *value, ngx_http_hotpath_conninfo_lists_t *lists,
    ngx_http_hotpath_conninfo_t *conninfo)
{
    ngx_int_t    n;
    const char **attr;

    if (ngx_strcmp(o->keyword, "host") == 0) {
        lists->host = *value;
        return NGX_OK;
    }

    if (ngx_strcmp(o->keyword, "hostaddr") == 0) {
        lists->hostaddr = *value;
        return NGX_OK;
    }

    if (ngx_strcmp(o->keyword, "port") == 0) {
        lists->port = *value;
        return NGX_OK;
    }

    if (ngx_strcmp(o->keyword, "service") == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"service\" is not supported in a connection "
                           "string, write its settings instead");
        return NGX_ERROR;
    }

    if (ngx_strcmp(o->keyword, "connect_timeout") == 0) {
        n = ngx_atoi(value->data, value->len);
        if (n == NGX_ERROR || n == 0 || n > 60) {
            goto invalid;
        }

        conninfo->connect_timeout = n * 1000;
        return NGX_OK;
    }

    if (ngx_strcmp(o->keyword, "load_balance_hosts") == 0) {

        if (ngx_strcmp(o->val, "random") == 0) {
            conninfo->balance = 1;
            return NGX_OK;
        }

        if (ngx_strcmp(o->val, "disable") == 0) {
            return NGX_OK;
        }

        goto invalid;
    }

    if (ngx_strcmp(o->keyword, "target_session_attrs") == 0) {

        if (ngx_strcmp(o->val, "prefer-standby") == 0) {
            conninfo->attrs[0] = "standby";
            conninfo->attrs[1] = "any";
            conninfo->nattrs = 2;
            return NGX_OK;
        }

        for (attr = ngx_http_hotpath_conninfo_attrs; *attr; attr++) {
            if (ngx_strcmp(o->val, *attr) == 0) {
                conninfo->attrs[0] = *attr;
                return NGX_OK;
            }
        }

        goto invalid;
    }

    return NGX_DECLINED;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid \"%s\" in connection string: \"%V\"",
                       o->keyword, value);
    return NGX_ERROR;
}


static ngx_int_t
ngx_http_hotpath_conninfo_hosts(ngx_conf_t *cf,
    ngx_http_hotpath_conninfo_lists_t *lists,
    ngx_http_hotpath_conninfo_t *conninfo)
{
    char                              *what;
    ngx_str_t                          name, addr, port;
    ngx_uint_t                         i, nhosts, naddrs, nports;
    ngx_http_hotpath_conninfo_host_t  *host;

    nhosts = ngx_http_hotpath_conninfo_count(&lists->host);
    naddrs = ngx_http_hotpath_conninfo_count(&lists->hostaddr);
    nports = ngx_http_hotpath_conninfo_count(&lists->port);

    conninfo->nhosts = ngx_max(ngx_max(nhosts, naddrs), 1);

    what = (nhosts && naddrs && nhosts != naddrs) ? "addresses"
           : (nports > 1 && nports != conninfo->nhosts) ? "ports"
           : NULL;

    if (what) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "connection string has another number of %s than "
                           "of hosts", what);
        return NGX_ERROR;
    }

    if (conninfo->nhosts > NGX_HTTP_HOTPATH_CONNINFO_HOSTS_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "more than %d hosts in connection string",
                           NGX_HTTP_HOTPATH_CONNINFO_HOSTS_MAX);
        return NGX_ERROR;
    }

    conninfo->hosts = ngx_pcalloc(cf->pool, conninfo->nhosts
                                 * sizeof(ngx_http_hotpath_conninfo_host_t));
    if (conninfo->hosts == NULL) {
        return NGX_ERROR;
    }

    port = lists->port;

    for (i = 0; i < conninfo->nhosts; i++) {
        host = &conninfo->hosts[i];

        ngx_http_hotpath_conninfo_next(&lists->host, &name);
        ngx_http_hotpath_conninfo_next(&lists->hostaddr, &addr);

        if (nports > 1) {
            ngx_http_hotpath_conninfo_next(&lists->port, &port);
        }

        host->name.len = name.len;
        host->name.data = (u_char *) ngx_http_hotpath_conninfo_terminated(cf,
                                                                       &name);
        host->port = ngx_http_hotpath_conninfo_terminated(cf, &port);

        if (host->name.data == NULL || host->port == NULL) {
            return NGX_ERROR;
        }

        if (addr.len) {

            if (addr.len > NGX_INET6_ADDRSTRLEN) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "invalid address \"%V\" in connection "
                                   "string", &addr);
                return NGX_ERROR;
            }

            ngx_memcpy(host->addrs[0], addr.data, addr.len);
            host->naddrs = 1;
            continue;
        }

        /* a unix socket, or libpq's default, which is one */

        if (name.len == 0 || name.data[0] == '/' || name.data[0] == '@') {
            continue;
        }

        if (ngx_http_hotpath_conninfo_resolve(cf, host) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hotpath_conninfo_resolve(ngx_conf_t *cf,
    ngx_http_hotpath_conninfo_host_t *host)
{
    ngx_url_t   u;
    ngx_addr_t  addr;
    ngx_uint_t  i;

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = host->name;
    u.host = host->name;

    if (ngx_inet_resolve_host(cf->temp_pool, &u) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "%s in connection string, host \"%V\"",
                           u.err ? u.err : "no memory", &host->name);
        return NGX_ERROR;
    }

    host->named = ngx_parse_addr(cf->temp_pool, &addr, host->name.data,
                                 host->name.len)
                  != NGX_OK;

    host->naddrs = ngx_min(u.naddrs, NGX_HTTP_HOTPATH_CONNINFO_ADDRS_MAX);

    for (i = 0; i < host->naddrs; i++) {
        (void) ngx_sock_ntop(u.addrs[i].sockaddr, u.addrs[i].socklen,
                             (u_char *) host->addrs[i], NGX_INET6_ADDRSTRLEN,
                             0);
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_hotpath_conninfo_count(ngx_str_t *list)
{
    size_t      i;
    ngx_uint_t  n;

    n = list->len != 0;

    for (i = 0; i < list->len; i++) {
        n += list->data[i] == ',';
    }

    return n;
}


/* Takes one element off the front; an empty one off an empty list. */

static void
ngx_http_hotpath_conninfo_next(ngx_str_t *list, ngx_str_t *element)
{
    *element = *list;

    for (element->len = 0; element->len < list->len; element->len++) {

        if (list->data[element->len] == ',') {
            list->data += element->len + 1;
            list->len -= element->len + 1;
            return;
        }
    }

    ngx_str_null(list);
}


/* libpq takes an empty value as the default, so nothing is left out. */

static ngx_int_t
ngx_http_hotpath_conninfo_add(ngx_conf_t *cf,
    ngx_http_hotpath_conninfo_t *conninfo, const char *keyword,
    ngx_str_t *value)
{
    ngx_str_t   name;
    ngx_uint_t  i;

    for (i = 0; conninfo->keywords[i]; i++) { /* void */ }

    name.data = (u_char *) keyword;
    name.len = ngx_strlen(keyword);

    conninfo->keywords[i] = ngx_http_hotpath_conninfo_terminated(cf, &name);
    conninfo->values[i] = ngx_http_hotpath_conninfo_terminated(cf, value);

    return conninfo->keywords[i] && conninfo->values[i] ? NGX_OK : NGX_ERROR;
}


static char *
ngx_http_hotpath_conninfo_terminated(ngx_conf_t *cf, ngx_str_t *s)
{
    u_char  *p;

    p = ngx_pnalloc(cf->pool, s->len + 1);

    if (p == NULL) {
        return NULL;
    }

    if (s->len) {
        ngx_memcpy(p, s->data, s->len);
    }

    p[s->len] = '\0';

    return (char *) p;
}
