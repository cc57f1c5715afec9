/*
 * ngx_http_hotpath_cursor.c: cursors as this instance gives them out.
 *
 * Reads the secrets when the configuration is read, and signs and checks
 * cursors with them (core/hp_cursor.h says what a cursor is). The first secret
 * signs, all of them are taken, so that a new one can be put first, and the old
 * one taken away when its cursors have expired. Every instance that clients
 * may come to needs the same file.
 *
 * Owns the keys, in the configuration's pool; the text of the file is wiped
 * once they are made. The file is read by the master, before it gives up its
 * rights, and by nobody else. Never in here: a secret in a log line. Reference:
 * README.md, "hotpath_cursor_secret"; tests: tests/integration/test_lists.py,
 * tests/unit/test_cursor.c.
 */


#include "ngx_http_hotpath_cursor.h"


#define NGX_HTTP_HOTPATH_SECRETS       8
#define NGX_HTTP_HOTPATH_SECRETS_FILE  4096


struct ngx_http_hotpath_cursors_s {
    ngx_uint_t        n;
    hp_cursor_key_t   keys[NGX_HTTP_HOTPATH_SECRETS];
    time_t            expires;     /* seconds; 0: never */
};


static char *ngx_http_hotpath_cursor_keys(ngx_conf_t *cf,
    ngx_http_hotpath_cursors_t *cursors, u_char *p, u_char *end);


char *
ngx_http_hotpath_cursor_secret(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    char                         *rv;
    u_char                        text[NGX_HTTP_HOTPATH_SECRETS_FILE + 1];
    size_t                        len;
    ssize_t                       n;
    ngx_fd_t                      fd;
    ngx_str_t                    *value, file, s;
    ngx_http_hotpath_cursors_t  **slot, *cursors;

    slot = (ngx_http_hotpath_cursors_t **) (p + cmd->offset);

    if (*slot) {
        return "is duplicate";
    }

    cursors = ngx_pcalloc(cf->pool, sizeof(ngx_http_hotpath_cursors_t));
    if (cursors == NULL) {
        return NGX_CONF_ERROR;
    }

    *slot = cursors;
    cursors->expires = 86400;

    value = cf->args->elts;

    if (cf->args->nelts == 3) {

        if (ngx_strncmp(value[2].data, "expires=", 8) != 0) {
            goto invalid;
        }

        s.data = value[2].data + 8;
        s.len = value[2].len - 8;

        cursors->expires = ngx_parse_time(&s, 1);

        if (cursors->expires == (time_t) NGX_ERROR
            || cursors->expires > 365 * 86400)
        {
            goto invalid;
        }
    }

    file = value[1];

    if (ngx_get_full_name(cf->pool, &cf->cycle->prefix, &file) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    fd = ngx_open_file(file.data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_open_file_n " \"%V\" failed", &file);
        return NGX_CONF_ERROR;
    }

    for (len = 0; len < sizeof(text); len += n) {
        n = ngx_read_fd(fd, text + len, sizeof(text) - len);

        if (n == -1) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                               ngx_read_fd_n " \"%V\" failed", &file);
            rv = NGX_CONF_ERROR;
            goto done;
        }

        if (n == 0) {
            break;
        }
    }

    if (len == sizeof(text)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" is longer than %d bytes", &file,
                           NGX_HTTP_HOTPATH_SECRETS_FILE);
        rv = NGX_CONF_ERROR;
        goto done;
    }

    rv = ngx_http_hotpath_cursor_keys(cf, cursors, text, text + len);

done:

    ngx_explicit_memzero(text, sizeof(text));

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_log_error(NGX_LOG_ALERT, cf->log, ngx_errno,
                      ngx_close_file_n " \"%V\" failed", &file);
    }

    return rv;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid parameter \"%V\"", &value[2]);
    return NGX_CONF_ERROR;
}


/* A secret a line; the first one signs. */

static char *
ngx_http_hotpath_cursor_keys(ngx_conf_t *cf,
    ngx_http_hotpath_cursors_t *cursors, u_char *p, u_char *end)
{
    u_char    *last;
    hp_str_t   secret;

    for ( /* void */ ; p < end; p = last + 1) {

        last = ngx_strlchr(p, end, '\n');
        if (last == NULL) {
            last = end;
        }

        secret.data = p;
        secret.len = last - p;

        if (secret.len && secret.data[secret.len - 1] == '\r') {
            secret.len--;
        }

        if (secret.len == 0) {
            continue;
        }

        if (cursors->n == NGX_HTTP_HOTPATH_SECRETS) {
            return "names a file with more than 8 secrets";
        }

        if (hp_cursor_key(&cursors->keys[cursors->n], secret) != 0) {
            return "names a file with a secret of less than 16 bytes";
        }

        cursors->n++;
    }

    return cursors->n ? NGX_CONF_OK : "names a file without a secret";
}


time_t
ngx_http_hotpath_cursor_expires(ngx_http_hotpath_cursors_t *cursors)
{
    return cursors->expires;
}


size_t
ngx_http_hotpath_cursor_write(ngx_http_hotpath_cursors_t *cursors, u_char *dst,
    uint64_t scope, hp_cursor_part_t *parts, ngx_uint_t n)
{
    time_t  expires, step;

    expires = cursors->expires;

    /* rounded up, so that a page that did not change is the same text */

    if (expires) {
        step = expires / 8 + 1;
        expires += ngx_time() + step;
        expires -= expires % step;
    }

    return hp_cursor_write(dst, HP_CURSOR_TEXT_MAX, &cursors->keys[0], scope,
                           (uint32_t) expires, parts, n);
}


hp_cursor_status_t
ngx_http_hotpath_cursor_read(ngx_http_hotpath_cursors_t *cursors,
    hp_cursor_t *cursor, ngx_str_t *text, uint64_t scope)
{
    hp_str_t  given;

    given.data = text->data;
    given.len = text->len;

    return hp_cursor_read(cursor, given, cursors->keys, cursors->n, scope,
                          ngx_time());
}
