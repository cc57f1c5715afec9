/*
 * ngx_http_hotpath_list.h: pages of a list, as entries of a cache zone.
 *
 * A list is a model whose entries are pages: what read and fetch do for
 * documents they do for it too. Here is what only lists have: limit and
 * cursor, the page made of rows, the links to other pages, and when what a
 * list shows last changed.
 */
#ifndef _NGX_HTTP_HOTPATH_LIST_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_LIST_H_INCLUDED_


#include "ngx_http_hotpath_fetch.h"
#include "ngx_http_hotpath_module.h"


/* hotpath_list name ...; the parameters that hotpath_read has too are left to
 * ngx_http_hotpath_model_option(). */
char *ngx_http_hotpath_list_set(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* When a location with a list was merged: checks it, and completes its model
 * and the location's parameters. */
char *ngx_http_hotpath_list_merge(ngx_conf_t *cf,
    ngx_http_hotpath_loc_conf_t *conf);

/* Answers a page; *wanted has model, tenant and key, and zone_key as a document
 * would have it, with room for NGX_HTTP_HOTPATH_ZONE_KEY_MAX bytes. */
ngx_int_t ngx_http_hotpath_list(ngx_http_request_t *r,
    ngx_http_hotpath_wanted_t *wanted);

/* A document was pushed that has the name of that list's model. */
void ngx_http_hotpath_list_changed(ngx_http_hotpath_model_t *model,
    hp_doc_t *doc);


#endif /* _NGX_HTTP_HOTPATH_LIST_H_INCLUDED_ */
