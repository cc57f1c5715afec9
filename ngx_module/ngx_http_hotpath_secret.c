/*
 * ngx_http_hotpath_secret.c: files of secrets, one a line.
 *
 * What signs cursors and who may purge stand in files of their own, so that a
 * configuration can be shown to others. Several secrets a file, so that one can
 * be changed while it is in use. Runs in the master, while the configuration is
 * read and before it gives up its rights. Owns the text of the file for the
 * time of the call. Never in here: a secret in a log line, or left in memory.
 * Reference: README.md, "hotpath_cursor_secret" and "hotpath_purge_token_file";
 * tests: tests/integration/test_lists.py, tests/integration/test_purge.py.
 */


#include "ngx_http_hotpath_secret.h"


#define NGX_HTTP_HOTPATH_SECRET_FILE_MAX  65536


static char *ngx_http_hotpath_secret_lines(ngx_conf_t *cf, ngx_str_t *file,
    u_char *p, u_char *end, ngx_uint_t max, ngx_http_hotpath_secret_pt each,
    void *data);


char *
ngx_http_hotpath_secret_file(ngx_conf_t *cf, ngx_str_t *name, ngx_uint_t max,
    ngx_http_hotpath_secret_pt each, void *data)
{
    char       *rv;
    size_t      len;
    u_char     *text;
    ssize_t     n;
    ngx_fd_t    fd;
    ngx_str_t   file;

    file = *name;

    if (ngx_get_full_name(cf->pool, &cf->cycle->prefix, &file) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    text = ngx_alloc(NGX_HTTP_HOTPATH_SECRET_FILE_MAX + 1, cf->log);
    if (text == NULL) {
        return NGX_CONF_ERROR;
    }

    fd = ngx_open_file(file.data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_open_file_n " \"%V\" failed", &file);
        ngx_free(text);
        return NGX_CONF_ERROR;
    }

    rv = NGX_CONF_ERROR;

    for (len = 0; len <= NGX_HTTP_HOTPATH_SECRET_FILE_MAX; len += n) {
        n = ngx_read_fd(fd, text + len,
                        NGX_HTTP_HOTPATH_SECRET_FILE_MAX + 1 - len);

        if (n == -1) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                               ngx_read_fd_n " \"%V\" failed", &file);
            goto done;
        }

        if (n == 0) {
            rv = ngx_http_hotpath_secret_lines(cf, &file, text, text + len,
                                               max, each, data);
            goto done;
        }
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" is longer than %d bytes",
                       &file, NGX_HTTP_HOTPATH_SECRET_FILE_MAX);

done:

    ngx_explicit_memzero(text, NGX_HTTP_HOTPATH_SECRET_FILE_MAX + 1);
    ngx_free(text);

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_log_error(NGX_LOG_ALERT, cf->log, ngx_errno,
                      ngx_close_file_n " \"%V\" failed", &file);
    }

    return rv;
}


static char *
ngx_http_hotpath_secret_lines(ngx_conf_t *cf, ngx_str_t *file, u_char *p,
    u_char *end, ngx_uint_t max, ngx_http_hotpath_secret_pt each, void *data)
{
    u_char      *last;
    ngx_str_t    secret;
    ngx_uint_t   n, line;
    const char  *wrong;

    n = 0;

    for (line = 1; p < end; p = last + 1, line++) {

        last = ngx_strlchr(p, end, LF);
        if (last == NULL) {
            last = end;
        }

        secret.data = p;
        secret.len = last - p;

        if (secret.len && secret.data[secret.len - 1] == CR) {
            secret.len--;
        }

        if (secret.len == 0 || secret.data[0] == '#') {
            continue;
        }

        if (n == max) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" has more than %ui secrets", file, max);
            return NGX_CONF_ERROR;
        }

        wrong = each(data, &secret);

        if (wrong) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" has a secret that %s in line %ui",
                               file, wrong, line);
            return NGX_CONF_ERROR;
        }

        n++;
    }

    if (n == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" has no secret", file);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}
