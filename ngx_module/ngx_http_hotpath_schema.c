/*
 * ngx_http_hotpath_schema.c: which JSON Schema holds for which type of event.
 *
 * Files are read and compiled while the configuration is, into its pool, by
 * the master or by `nginx -t`, which says in which file and at which byte
 * something is wrong; workers only look up, by bisection over the names. Owns
 * nothing but what is in the configuration's pool. Never in here: a schema that
 * is taken although a part of it was not understood, and anything about files
 * in the event loop. Reference: hotpath_schema in ngx_module/README.md;
 * tests/integration/test_schemas.py.
 */


#include "ngx_http_hotpath_schema.h"
#include "core/hp_schema_compile.h"


#define NGX_HTTP_HOTPATH_SCHEMA_FILE_MAX  1048576


typedef struct {
    hp_str_t            type;
    const hp_schema_t  *schema;
} ngx_http_hotpath_schema_type_t;


static const hp_schema_t *ngx_http_hotpath_schema_load(ngx_conf_t *cf,
    ngx_str_t *name);
static ngx_int_t ngx_http_hotpath_schema_read(ngx_conf_t *cf, ngx_str_t *name,
    hp_str_t *text);
static void *ngx_http_hotpath_schema_alloc(void *pool, size_t size);
static int ngx_libc_cdecl ngx_http_hotpath_schema_compare(const void *one,
    const void *two);
static ngx_int_t ngx_http_hotpath_schema_order(hp_str_t a, hp_str_t b);


char *
ngx_http_hotpath_schema_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    char  *p = conf;

    hp_str_t                         type;
    ngx_str_t                       *value;
    ngx_uint_t                       i;
    const hp_schema_t               *schema;
    ngx_http_hotpath_schemas_t      *schemas;
    ngx_http_hotpath_schema_type_t  *types;

    schemas = (ngx_http_hotpath_schemas_t *) (p + cmd->offset);
    value = cf->args->elts;

    type.data = value[1].data;
    type.len = value[1].len;

    if (type.len == 0 || type.len > HP_TYPE_MAX) {
        return "needs a type of 1 to 255 bytes";
    }

    if (type.len == 1 && type.data[0] == '*') {

        if (schemas->other) {
            return "is duplicate";
        }

        schemas->other = ngx_http_hotpath_schema_load(cf, &value[2]);

        return schemas->other ? NGX_CONF_OK : NGX_CONF_ERROR;
    }

    if (schemas->types == NULL) {
        schemas->types = ngx_array_create(cf->pool, 8,
                                      sizeof(ngx_http_hotpath_schema_type_t));
        if (schemas->types == NULL) {
            return NGX_CONF_ERROR;
        }
    }

    types = schemas->types->elts;

    for (i = 0; i < schemas->types->nelts; i++) {
        if (ngx_http_hotpath_schema_order(types[i].type, type) == 0) {
            return "is duplicate";
        }
    }

    schema = ngx_http_hotpath_schema_load(cf, &value[2]);
    if (schema == NULL) {
        return NGX_CONF_ERROR;
    }

    types = ngx_array_push(schemas->types);
    if (types == NULL) {
        return NGX_CONF_ERROR;
    }

    types->type = type;
    types->schema = schema;

    ngx_qsort(schemas->types->elts, schemas->types->nelts,
              sizeof(ngx_http_hotpath_schema_type_t),
              ngx_http_hotpath_schema_compare);

    return NGX_CONF_OK;
}


void
ngx_http_hotpath_schema_merge(ngx_http_hotpath_schemas_t *prev,
    ngx_http_hotpath_schemas_t *conf)
{
    ngx_conf_merge_value(conf->required, prev->required, 0);

    if (conf->types == NULL && conf->other == NULL) {
        conf->types = prev->types;
        conf->other = prev->other;
    }
}


const hp_schema_t *
ngx_http_hotpath_schema_find(ngx_http_hotpath_schemas_t *schemas,
    hp_str_t type)
{
    ngx_int_t                        rc;
    ngx_uint_t                       low, high, i;
    ngx_http_hotpath_schema_type_t  *types;

    if (schemas->types) {
        types = schemas->types->elts;
        low = 0;
        high = schemas->types->nelts;

        while (low < high) {
            i = low + (high - low) / 2;
            rc = ngx_http_hotpath_schema_order(types[i].type, type);

            if (rc == 0) {
                return types[i].schema;
            }

            if (rc < 0) {
                low = i + 1;

            } else {
                high = i;
            }
        }
    }

    return schemas->other;
}


static const hp_schema_t *
ngx_http_hotpath_schema_load(ngx_conf_t *cf, ngx_str_t *name)
{
    hp_str_t            text;
    ngx_str_t           full;
    const hp_schema_t  *schema;
    hp_schema_error_t   error;

    full = *name;

    if (ngx_conf_full_name(cf->cycle, &full, 1) != NGX_OK
        || ngx_http_hotpath_schema_read(cf, &full, &text) != NGX_OK)
    {
        return NULL;
    }

    schema = hp_schema_compile(text, ngx_http_hotpath_schema_alloc, cf->pool,
                               &error);
    if (schema == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "schema %V: %s at byte %uz",
                           &full, error.message, error.offset);
    }

    return schema;
}


static ngx_int_t
ngx_http_hotpath_schema_read(ngx_conf_t *cf, ngx_str_t *name, hp_str_t *text)
{
    off_t            size;
    u_char          *data;
    ssize_t          n;
    ngx_int_t        rc;
    ngx_file_t       file;
    ngx_file_info_t  info;

    ngx_memzero(&file, sizeof(ngx_file_t));

    file.name = *name;
    file.log = cf->log;
    file.fd = ngx_open_file(name->data, NGX_FILE_RDONLY, NGX_FILE_OPEN, 0);

    if (file.fd == NGX_INVALID_FILE) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_open_file_n " \"%V\" failed", name);
        return NGX_ERROR;
    }

    rc = NGX_ERROR;

    if (ngx_fd_info(file.fd, &info) == NGX_FILE_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno,
                           ngx_fd_info_n " \"%V\" failed", name);
        goto done;
    }

    size = ngx_file_size(&info);

    if (!ngx_is_file(&info) || size > NGX_HTTP_HOTPATH_SCHEMA_FILE_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "schema \"%V\" is no file of at most 1 MB", name);
        goto done;
    }

    data = ngx_pnalloc(cf->temp_pool, (size_t) size + 1);
    if (data == NULL) {
        goto done;
    }

    n = ngx_read_file(&file, data, (size_t) size, 0);

    if (n != (ssize_t) size) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, n == NGX_ERROR ? ngx_errno : 0,
                           ngx_read_file_n " \"%V\" failed", name);
        goto done;
    }

    text->data = data;
    text->len = (size_t) size;
    rc = NGX_OK;

done:

    if (ngx_close_file(file.fd) == NGX_FILE_ERROR) {
        ngx_log_error(NGX_LOG_ALERT, cf->log, ngx_errno,
                      ngx_close_file_n " \"%V\" failed", name);
    }

    return rc;
}


static void *
ngx_http_hotpath_schema_alloc(void *pool, size_t size)
{
    return ngx_palloc(pool, size);
}


static int ngx_libc_cdecl
ngx_http_hotpath_schema_compare(const void *one, const void *two)
{
    const ngx_http_hotpath_schema_type_t *a = one;
    const ngx_http_hotpath_schema_type_t *b = two;

    return (int) ngx_http_hotpath_schema_order(a->type, b->type);
}


static ngx_int_t
ngx_http_hotpath_schema_order(hp_str_t a, hp_str_t b)
{
    if (a.len != b.len) {
        return a.len < b.len ? -1 : 1;
    }

    return ngx_memcmp(a.data, b.data, a.len);
}
