/*
 * ngx_http_hotpath_cursor.c: cursors as this instance gives them out.
 *
 * Takes the secrets when the configuration is read, and signs and checks
 * cursors with them (core/hp_cursor.h says what a cursor is). The first secret
 * signs, all of them are taken, so that a new one can be put first, and the old
 * one taken away when its cursors have expired. Every instance that clients
 * may come to needs the same file.
 *
 * Owns the keys, in the configuration's pool; the secret room reads the file.
 * Reference: README.md, "hotpath_cursor_secret"; tests:
 * tests/integration/test_lists.py, tests/unit/test_cursor.c.
 */


#include "ngx_http_hotpath_cursor.h"
#include "ngx_http_hotpath_secret.h"


#define NGX_HTTP_HOTPATH_SECRETS  8


struct ngx_http_hotpath_cursors_s {
    ngx_uint_t        n;
    hp_cursor_key_t   keys[NGX_HTTP_HOTPATH_SECRETS];
    time_t            expires;     /* seconds; 0: never */
};


static const char *ngx_http_hotpath_cursor_key(void *data, ngx_str_t *secret);


char *
ngx_http_hotpath_cursor_secret(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    ngx_str_t                    *value, s;
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

    return ngx_http_hotpath_secret_file(cf, &value[1],
                                        NGX_HTTP_HOTPATH_SECRETS,
                                        ngx_http_hotpath_cursor_key, cursors);

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid parameter \"%V\"", &value[2]);
    return NGX_CONF_ERROR;
}


/* The first one signs. */

static const char *
ngx_http_hotpath_cursor_key(void *data, ngx_str_t *secret)
{
    ngx_http_hotpath_cursors_t *cursors = data;

    hp_str_t  text;

    text.data = secret->data;
    text.len = secret->len;

    if (hp_cursor_key(&cursors->keys[cursors->n], text) != 0) {
        return "has less than 16 bytes";
    }

    cursors->n++;

    return NULL;
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
