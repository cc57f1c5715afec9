/*
 * ngx_http_hotpath_redis_conf.c: what the directive hotpath_redis says.
 *
 * Everything that may block is done here: the name is resolved, the password
 * and the TLS files are read, in the master or in `nginx -t`, while the
 * configuration is read; a worker finds addresses and bytes. All memory is that
 * configuration's. What is not understood, is there twice or does not fit
 * together is refused.
 *
 * What must never happen here: a password in the log. Reference: README.md,
 * "hotpath_redis"; tests/integration/test_redis.py.
 */
#include "ngx_http_hotpath_redis_link.h"


#define NGX_HTTP_HOTPATH_REDIS_PASSWORD_MAX  1024

#define NGX_HTTP_HOTPATH_REDIS_TEXT          0
#define NGX_HTTP_HOTPATH_REDIS_NUMBER        1
#define NGX_HTTP_HOTPATH_REDIS_TIME          2
#define NGX_HTTP_HOTPATH_REDIS_FLAG          3


/* Where a parameter goes: an offset in the structure below. */
typedef struct {
    ngx_str_t   name;          /* with its "=" */
    ngx_uint_t  kind;
    size_t      offset;
    ngx_int_t   min;
    ngx_int_t   max;
} ngx_http_hotpath_redis_parameter_t;


typedef struct {
    ngx_str_t   user;
    ngx_str_t   password;
    ngx_str_t   password_file;
    ngx_str_t   tls_ca;
    ngx_str_t   tls_cert;
    ngx_str_t   tls_key;
    ngx_str_t   tls_name;
    ngx_int_t   tls;
    ngx_int_t   db;
    ngx_int_t   timeout;
    ngx_int_t   pending;
} ngx_http_hotpath_redis_given_t;


static ngx_int_t ngx_http_hotpath_redis_address(ngx_conf_t *cf,
    ngx_http_hotpath_redis_t *redis, ngx_str_t *text);
static ngx_int_t ngx_http_hotpath_redis_parameter(ngx_conf_t *cf,
    ngx_http_hotpath_redis_given_t *given, ngx_str_t *text);
static ngx_int_t ngx_http_hotpath_redis_password(ngx_conf_t *cf,
    ngx_str_t *file, ngx_str_t *password);
static char *ngx_http_hotpath_redis_tls(ngx_conf_t *cf,
    ngx_http_hotpath_redis_t *redis, ngx_http_hotpath_redis_given_t *given);


#define ngx_http_hotpath_redis_given(field)                                   \
    offsetof(ngx_http_hotpath_redis_given_t, field)

static ngx_http_hotpath_redis_parameter_t  ngx_http_hotpath_redis_table[] = {

    { ngx_string("user="), NGX_HTTP_HOTPATH_REDIS_TEXT,
      ngx_http_hotpath_redis_given(user), 0, 0 },

    { ngx_string("password="), NGX_HTTP_HOTPATH_REDIS_TEXT,
      ngx_http_hotpath_redis_given(password), 0, 0 },

    { ngx_string("password_file="), NGX_HTTP_HOTPATH_REDIS_TEXT,
      ngx_http_hotpath_redis_given(password_file), 0, 0 },

    { ngx_string("tls_ca="), NGX_HTTP_HOTPATH_REDIS_TEXT,
      ngx_http_hotpath_redis_given(tls_ca), 0, 0 },

    { ngx_string("tls_cert="), NGX_HTTP_HOTPATH_REDIS_TEXT,
      ngx_http_hotpath_redis_given(tls_cert), 0, 0 },

    { ngx_string("tls_key="), NGX_HTTP_HOTPATH_REDIS_TEXT,
      ngx_http_hotpath_redis_given(tls_key), 0, 0 },

    { ngx_string("tls_name="), NGX_HTTP_HOTPATH_REDIS_TEXT,
      ngx_http_hotpath_redis_given(tls_name), 0, 0 },

    { ngx_string("tls="), NGX_HTTP_HOTPATH_REDIS_FLAG,
      ngx_http_hotpath_redis_given(tls), 0, 1 },

    { ngx_string("db="), NGX_HTTP_HOTPATH_REDIS_NUMBER,
      ngx_http_hotpath_redis_given(db), 0, 65535 },

    { ngx_string("timeout="), NGX_HTTP_HOTPATH_REDIS_TIME,
      ngx_http_hotpath_redis_given(timeout), 1, 60000 },

    { ngx_string("pending="), NGX_HTTP_HOTPATH_REDIS_NUMBER,
      ngx_http_hotpath_redis_given(pending), 1, 1000000 }
};

#define NGX_HTTP_HOTPATH_REDIS_PARAMETERS                                     \
    (sizeof(ngx_http_hotpath_redis_table)                                     \
     / sizeof(ngx_http_hotpath_redis_table[0]))


char *
ngx_http_hotpath_redis_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    char                             *rv;
    ngx_str_t                        *value;
    ngx_uint_t                        i;
    ngx_http_hotpath_redis_t        **slot, *redis;
    ngx_http_hotpath_redis_given_t    given;

    slot = (ngx_http_hotpath_redis_t **) (p + cmd->offset);

    if (*slot != NULL) {
        return "is duplicate";
    }

    redis = ngx_pcalloc(cf->pool, sizeof(ngx_http_hotpath_redis_t));
    if (redis == NULL) {
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;

    if (ngx_http_hotpath_redis_address(cf, redis, &value[1]) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&given, sizeof(ngx_http_hotpath_redis_given_t));

    given.tls = NGX_CONF_UNSET;
    given.db = NGX_CONF_UNSET;
    given.timeout = NGX_CONF_UNSET;
    given.pending = NGX_CONF_UNSET;

    for (i = 2; i < cf->args->nelts; i++) {
        if (ngx_http_hotpath_redis_parameter(cf, &given, &value[i]) != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    if (given.password_file.len) {
        if (given.password.len) {
            return "has both \"password\" and \"password_file\"";
        }

        if (ngx_http_hotpath_redis_password(cf, &given.password_file,
                                            &given.password)
            != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    if (given.user.len && given.password.len == 0) {
        return "has \"user\" without \"password\"";
    }

    redis->user = given.user;
    redis->password = given.password;
    redis->db = (given.db == NGX_CONF_UNSET) ? 0 : given.db;
    redis->timeout = (given.timeout == NGX_CONF_UNSET) ? 100 : given.timeout;
    redis->pending_max = (given.pending == NGX_CONF_UNSET) ? 1024
                                                           : given.pending;

    rv = ngx_http_hotpath_redis_tls(cf, redis, &given);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    *slot = redis;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_hotpath_redis_address(ngx_conf_t *cf, ngx_http_hotpath_redis_t *redis,
    ngx_str_t *text)
{
    size_t                len;
    ngx_url_t             u;
    ngx_uint_t            i;
    ngx_http_conf_ctx_t  *ctx;
#if (NGX_HAVE_UNIX_DOMAIN)
    struct sockaddr_un   *sun;
#endif

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = *text;
    u.default_port = 6379;

    if (ngx_parse_url(cf->pool, &u) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%s in \"%V\"",
                           u.err ? u.err : "invalid address", text);
        return NGX_ERROR;
    }

    redis->name = *text;

#if (NGX_HAVE_UNIX_DOMAIN)

    if (u.family == AF_UNIX) {
        sun = (struct sockaddr_un *) u.addrs[0].sockaddr;
        redis->path = sun->sun_path;
        return NGX_OK;
    }

#endif

    redis->port = u.port;
    redis->host = u.host;
    redis->naddrs = ngx_min(u.naddrs, NGX_HTTP_HOTPATH_REDIS_ADDRS_MAX);

    for (i = 0; i < redis->naddrs; i++) {
        len = ngx_sock_ntop(u.addrs[i].sockaddr, u.addrs[i].socklen,
                            redis->addrs[i], NGX_SOCKADDR_STRLEN, 0);
        redis->addrs[i][len] = '\0';
    }

    /* An address is what it is, a name may come to stand for another one. */

    if (text->data[0] == '['
        || ngx_inet_addr(u.host.data, u.host.len) != INADDR_NONE)
    {
        ngx_str_null(&redis->host);
    }

    /* "resolver" may stand behind us: it is looked for when it is needed. */

    ctx = cf->ctx;
    redis->clcf = ctx->loc_conf[ngx_http_core_module.ctx_index];

    return NGX_OK;
}


static ngx_int_t
ngx_http_hotpath_redis_parameter(ngx_conf_t *cf,
    ngx_http_hotpath_redis_given_t *given, ngx_str_t *text)
{
    ngx_int_t                            n, *number;
    ngx_str_t                            s, *string;
    ngx_uint_t                           i;
    ngx_http_hotpath_redis_parameter_t  *p;

    p = NULL;
    ngx_str_null(&s);

    for (i = 0; i < NGX_HTTP_HOTPATH_REDIS_PARAMETERS; i++) {
        p = &ngx_http_hotpath_redis_table[i];

        if (text->len >= p->name.len
            && ngx_strncmp(text->data, p->name.data, p->name.len) == 0)
        {
            s.data = text->data + p->name.len;
            s.len = text->len - p->name.len;
            break;
        }
    }

    if (s.len == 0) {
        goto invalid;
    }

    if (p->kind == NGX_HTTP_HOTPATH_REDIS_TEXT) {
        string = (ngx_str_t *) ((u_char *) given + p->offset);

        if (string->len) {
            goto duplicate;
        }

        *string = s;

        return NGX_OK;
    }

    number = (ngx_int_t *) ((u_char *) given + p->offset);

    if (*number != NGX_CONF_UNSET) {
        goto duplicate;
    }

    if (p->kind == NGX_HTTP_HOTPATH_REDIS_TIME) {
        n = ngx_parse_time(&s, 0);

    } else if (p->kind == NGX_HTTP_HOTPATH_REDIS_NUMBER) {
        n = ngx_atoi(s.data, s.len);

    } else if (ngx_strcmp(s.data, "on") == 0) {
        n = 1;

    } else if (ngx_strcmp(s.data, "off") == 0) {
        n = 0;

    } else {
        n = NGX_ERROR;
    }

    if (n == NGX_ERROR || n < p->min || n > p->max) {
        goto invalid;
    }

    *number = n;

    return NGX_OK;

duplicate:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "duplicate parameter \"%V\"",
                       &p->name);
    return NGX_ERROR;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"", text);
    return NGX_ERROR;
}


/* The first line, without its end. */

static ngx_int_t
ngx_http_hotpath_redis_password(ngx_conf_t *cf, ngx_str_t *file,
    ngx_str_t *password)
{
    u_char   *p, *end, buf[NGX_HTTP_HOTPATH_REDIS_PASSWORD_MAX + 2];
    ssize_t   n;
    ngx_fd_t  fd;

    if (ngx_conf_full_name(cf->cycle, file, 1) != NGX_OK) {
        return NGX_ERROR;
    }

    fd = ngx_open_file(file->data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_open_file_n " \"%V\" failed", file);
        return NGX_ERROR;
    }

    n = ngx_read_fd(fd, buf, sizeof(buf));

    if (n == -1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_read_fd_n " \"%V\" failed", file);
    }

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_ALERT, cf, ngx_errno,
                           ngx_close_file_n " \"%V\" failed", file);
    }

    if (n == -1) {
        return NGX_ERROR;
    }

    end = buf + n;
    p = ngx_strlchr(buf, end, LF);

    if (p) {
        end = p;
    }

    if (end > buf && end[-1] == CR) {
        end--;
    }

    if (end == buf || end - buf > NGX_HTTP_HOTPATH_REDIS_PASSWORD_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the first line of \"%V\" is no password: "
                           "it must have 1 to %d bytes", file,
                           NGX_HTTP_HOTPATH_REDIS_PASSWORD_MAX);
        ngx_explicit_memzero(buf, sizeof(buf));
        return NGX_ERROR;
    }

    password->len = end - buf;
    password->data = ngx_pnalloc(cf->pool, password->len);

    if (password->data) {
        ngx_memcpy(password->data, buf, password->len);
    }

    ngx_explicit_memzero(buf, sizeof(buf));

    return password->data ? NGX_OK : NGX_ERROR;
}


static char *
ngx_http_hotpath_redis_tls(ngx_conf_t *cf, ngx_http_hotpath_redis_t *redis,
    ngx_http_hotpath_redis_given_t *given)
{
    ngx_str_t  *name;

    if (given->tls != 1) {

        if (given->tls_ca.len || given->tls_cert.len || given->tls_key.len
            || given->tls_name.len)
        {
            return "has parameters of TLS without \"tls=on\"";
        }

        return NGX_CONF_OK;
    }

    if (redis->path) {
        return "has \"tls=on\" for a unix socket";
    }

    if ((given->tls_cert.len == 0) != (given->tls_key.len == 0)) {
        return "needs \"tls_cert\" and \"tls_key\" together";
    }

    redis->tls.ca = given->tls_ca;
    redis->tls.cert = given->tls_cert;
    redis->tls.key = given->tls_key;

    /* The name that was configured, never one that DNS has given. */

    name = &redis->tls.name;

    if (given->tls_name.len) {
        *name = given->tls_name;

    } else if (redis->host.len) {
        name->len = redis->host.len;
        name->data = ngx_pnalloc(cf->pool, name->len + 1);
        if (name->data == NULL) {
            return NGX_CONF_ERROR;
        }

        *ngx_cpymem(name->data, redis->host.data, name->len) = '\0';

    } else {
        name->data = ngx_pnalloc(cf->pool, NGX_SOCKADDR_STRLEN + 1);
        if (name->data == NULL) {
            return NGX_CONF_ERROR;
        }

        name->len = ngx_strlen(redis->addrs[0]);
        *ngx_cpymem(name->data, redis->addrs[0], name->len) = '\0';
    }

    if (ngx_http_hotpath_redis_tls_init(cf, &redis->tls) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    redis->encrypted = 1;

    return NGX_CONF_OK;
}
