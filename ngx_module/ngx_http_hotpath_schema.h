/*
 * ngx_http_hotpath_schema.h: which JSON Schema holds for which type of event.
 *
 * Knows nginx and core/.
 */
#ifndef _NGX_HTTP_HOTPATH_SCHEMA_H_INCLUDED_
#define _NGX_HTTP_HOTPATH_SCHEMA_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "core/hp_schema.h"


/* One level's; read-only after the configuration is read. */
typedef struct {
    ngx_array_t        *types;     /* in the order of their names; NULL: none */
    const hp_schema_t  *other;     /* of the type "*"; NULL: none */
    ngx_flag_t          required;  /* a type without one is refused */
} ngx_http_hotpath_schemas_t;


/* hotpath_schema type file; conf + cmd->offset is the struct, its required
 * NGX_CONF_UNSET. */
char *ngx_http_hotpath_schema_set(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* What this level does not set is that of the level above. */
void ngx_http_hotpath_schema_merge(ngx_http_hotpath_schemas_t *prev,
    ngx_http_hotpath_schemas_t *conf);

/* The schema of that type, or NULL where there is none. */
const hp_schema_t *ngx_http_hotpath_schema_find(
    ngx_http_hotpath_schemas_t *schemas, hp_str_t type);

/* 1 where nothing is to be looked up. */
#define ngx_http_hotpath_schema_none(schemas)                                 \
    ((schemas)->types == NULL && (schemas)->other == NULL                     \
     && !(schemas)->required)


#endif /* _NGX_HTTP_HOTPATH_SCHEMA_H_INCLUDED_ */
