/*
 * ngx_http_hotpath_forwarded.h: who the client is when proxies stand between.
 *
 * X-Forwarded-For is believed only from trusted proxies and walked from the
 * right: the first address that is not a trusted proxy is the client's.
 * X-Forwarded-Proto and X-Forwarded-Host count only where the peer is trusted.
 * Knows nginx and core/.
 */
#ifndef _NGX_HTTP_HOTPATH_FORWARDED_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_FORWARDED_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/* hotpath_trusted_proxy CIDR|address|unix: ...; conf + cmd->offset is an
 * (ngx_array_t *) of ngx_cidr_t, NGX_CONF_UNSET_PTR or NULL before. */
char *ngx_http_hotpath_trusted_proxy(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/*
 * Adds $hotpath_client_addr, $hotpath_client_scheme, $hotpath_client_host;
 * from preconfiguration. trusted gives the (ngx_array_t *) for a request.
 */
ngx_int_t ngx_http_hotpath_forwarded_variables(ngx_conf_t *cf,
    ngx_array_t *(*trusted)(ngx_http_request_t *r));


#endif /* _NGX_HTTP_HOTPATH_FORWARDED_H_INCLUDED_ */
