/*
 * ngx_http_hotpath_secret.h: files of secrets, one a line.
 *
 * Read with the configuration, by the master process, so that nobody else has
 * to be able to. Knows nginx only.
 */
#ifndef _NGX_HTTP_HOTPATH_SECRET_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_SECRET_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* NULL, or what is wrong with the secret, as the end of "a secret that ...". */
typedef const char *(*ngx_http_hotpath_secret_pt)(void *data,
    ngx_str_t *secret);

/*
 * Calls each for every secret in the file, whose name is relative to nginx's
 * prefix. Empty lines and those that begin with "#" are none. NGX_CONF_ERROR,
 * which was logged: it cannot be read, has none or more than max, or one was
 * refused. The text is wiped: who wants to keep a secret, or better something
 * made of it, copies it.
 */
char *ngx_http_hotpath_secret_file(ngx_conf_t *cf, ngx_str_t *name,
    ngx_uint_t max, ngx_http_hotpath_secret_pt each, void *data);


#endif /* _NGX_HTTP_HOTPATH_SECRET_H_INCLUDED_ */
