/*
 * ngx_http_hotpath_cursor.h: cursors as this instance gives them out.
 *
 * The secrets of hotpath_cursor_secret, and with them core/hp_cursor.h for
 * whoever has lists. Knows nginx and core/.
 */
#ifndef _NGX_HTTP_HOTPATH_CURSOR_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_CURSOR_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "core/hp_cursor.h"


typedef struct ngx_http_hotpath_cursors_s  ngx_http_hotpath_cursors_t;


/*
 * hotpath_cursor_secret file [expires=time]; conf + cmd->offset is a
 * (ngx_http_hotpath_cursors_t *), NULL before.
 */
char *ngx_http_hotpath_cursor_secret(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* How long a cursor can be used at least, in seconds; 0: for ever. */
time_t ngx_http_hotpath_cursor_expires(ngx_http_hotpath_cursors_t *cursors);

/* The length of the text written, or 0 where the parts are too long; dst holds
 * HP_CURSOR_TEXT_MAX bytes. */
size_t ngx_http_hotpath_cursor_write(ngx_http_hotpath_cursors_t *cursors,
    u_char *dst, uint64_t scope, hp_cursor_part_t *parts, ngx_uint_t n);

/* *cursor means something with HP_CURSOR_OK only. */
hp_cursor_status_t ngx_http_hotpath_cursor_read(
    ngx_http_hotpath_cursors_t *cursors, hp_cursor_t *cursor, ngx_str_t *text,
    uint64_t scope);


#endif /* _NGX_HTTP_HOTPATH_CURSOR_H_INCLUDED_ */
